from datetime import UTC, datetime

import pytest

from connector.cli.replay import has_finished
from connector.model.groups import live_group_of, replay_group, started_at

NOW = datetime(2026, 3, 10, 12, 0, tzinfo=UTC)
RECENT = "imednet-sink-replay-20260310T113000000000"


@pytest.mark.parametrize(
    ("group", "notes", "finished"),
    [
        (RECENT, {}, True),
        (RECENT, {0: "", 1: ""}, True),
        (RECENT, {0: "", 1: '{"from":0}'}, False),
        ("imednet-sink-replay-20260201T113000000000", {}, False),  # its offsets may have expired
        ("imednet-sink-replay-20260311T113000000000", {}, False),  # in the future
        ("imednet-sink-replay-20269999T113000000000", {}, False),
        ("imednet-sink-replay-20260310T1130", {}, False),
        ("imednet-sink", {}, False),
        ("nobody", {0: ""}, False),
    ],
)
def test_a_replay_has_finished_when_its_group_is_gone_and_its_name_is_one_of_a_recent_replay(
    group: str,
    notes: dict[int, str],
    finished: bool,  # noqa: FBT001
) -> None:
    """A replay has finished if its group is gone and its name dates it as recent."""
    assert has_finished(group, notes, NOW) is finished


def test_a_group_is_the_live_one_or_a_replay_beside_it_or_another() -> None:
    """A group whose name only begins like ours fills another graph: its letters are not ours."""
    live = "imednet-sink"
    assert replay_group(live, NOW) == "imednet-sink-replay-20260310T120000000000"
    assert started_at(replay_group(live, NOW)) == NOW
    assert live_group_of(live) == live
    assert live_group_of(RECENT) == live
    for other in ("imednet-sink-staging", "imednet-sink2", "imednet-sink-2-replay-20260310T113000000000",
                  "imednet-sink-replay-today", ""):  # fmt: skip
        assert live_group_of(other) != live

"""``imednet-connector replay``: apply events from the topic again, alongside the live group."""

import dataclasses
import threading
from collections import Counter
from collections.abc import Mapping
from contextlib import closing
from datetime import UTC, datetime, timedelta

from rich.console import Console
from rich.table import Table

from connector import logs
from connector.cli.sink import apply
from connector.clock import SystemClock
from connector.config import Settings
from connector.errors import FatalError
from connector.interfaces import EventConsumer
from connector.kafka.group_offsets import CommittedOffset, GroupOffsets
from connector.kafka.offset_metadata import OffsetMetadata
from connector.kafka.topic_log import bounds, offsets_at, read_ranges
from connector.kafka.topics import Topics
from connector.model.groups import replay_group, started_at
from connector.replay.replay import RangedConsumer, ReplayPlan, TopicPosition, resolve

_OFFSET_RETENTION = timedelta(days=7)
_COUNTS = ("consumed", "written", "unchanged", "dead_letters")


@dataclasses.dataclass(frozen=True, slots=True)
class ReplayArguments:
    """The command's options."""

    start: str
    end: str
    study_key: str | None
    join: str | None
    plan_only: bool
    rewind: bool
    force: bool = False


def run(settings: Settings, arguments: ReplayArguments) -> None:
    """Start a replay, join one, show its plan, or rewind the live group.

    Raises:
        FatalError: a server is unreachable, the range is not in the topic, the replay does not
            exist or stopped before its end, or the live group still has members.
    """
    logs.configure(settings.log)
    Topics(settings.kafka).check()
    console = Console(highlight=False, soft_wrap=True)
    if arguments.join:
        _join(settings, arguments.join, console)
        return
    is_limited = arguments.end != "end" or arguments.study_key or arguments.plan_only
    if arguments.rewind and (is_limited or arguments.force):
        raise FatalError(
            "--rewind always covers all studies, to the end of the topic, for the live sinks. Omit"
            " --to, --study, --plan and --force"
        )
    plan = _make_plan(settings, arguments)
    if arguments.plan_only:
        _show_plan(settings, plan, console)
    elif arguments.rewind:
        _rewind(settings, plan, console)
    else:
        group = replay_group(settings.sink.group_id, datetime.now(UTC))
        _store_plan(settings, group, plan)
        console.print(f"To add workers, run: imednet-connector replay --join {group}")
        _work(settings, group, plan, console)


def _make_plan(settings: Settings, arguments: ReplayArguments) -> ReplayPlan:
    kafka, topic = settings.kafka, settings.kafka.events_topic
    topic_bounds = bounds(kafka, topic)
    now = datetime.now(UTC)
    start, end = (
        resolve(
            TopicPosition.parse(text, now), topic_bounds, lambda at: offsets_at(kafka, topic, at)
        )
        for text in (arguments.start, arguments.end)
    )
    if all(start[each] > end[each] for each in start.keys() & end.keys()):
        raise FatalError(f"--to {arguments.end} is before --from {arguments.start}")
    return ReplayPlan.between(start, end, topic_bounds, arguments.study_key, force=arguments.force)


def _show_plan(settings: Settings, plan: ReplayPlan, console: Console) -> None:
    kafka = settings.kafka
    counts: Counter[int] = Counter()
    for message in read_ranges(kafka, kafka.events_topic, plan.ranges):
        counts[message.partition() or 0] += plan.holds(message.key())
    table = Table("partition", title=f"replay of {kafka.events_topic}")
    for column in ("from", "to", "events"):
        table.add_column(column, justify="right")
    for partition, (start, end) in plan.ranges.items():
        table.add_row(str(partition), f"{start:,}", f"{end:,}", f"{counts[partition]:,}")
    console.print(table)
    console.print(f"events: {counts.total():,}")


def _rewind(settings: Settings, plan: ReplayPlan, console: Console) -> None:
    group, topic = settings.sink.group_id, settings.kafka.events_topic
    topic_id = Topics(settings.kafka).topic_id(topic)
    starts = {each: span.start for each, span in plan.ranges.items() if span.end > span.start}
    with closing(GroupOffsets(settings.kafka, group)) as offsets:
        before = offsets.committed()
        offsets.move({
            each: CommittedOffset(start, before[each].metadata.of_topic(topic_id))
            for each, start in starts.items()
        })  # fmt: skip
    for partition, start in starts.items():
        console.print(f"group {group}, partition {partition}: offset set to {start}")


def _store_plan(settings: Settings, group: str, plan: ReplayPlan) -> None:
    """Store the plan where every worker can read it: in the metadata of the group's offsets."""
    topic_id = Topics(settings.kafka).topic_id(settings.kafka.events_topic)
    with closing(GroupOffsets(settings.kafka, group)) as offsets:
        offsets.move({
            partition: CommittedOffset(
                span.start, OffsetMetadata(topic_id, note=plan.note(partition))
            )
            for partition, span in plan.ranges.items()
        })  # fmt: skip


def has_finished(group: str, notes: Mapping[int, str], now: datetime) -> bool:
    """Return whether ``group`` is a recent replay whose group was deleted on completion. Pure.

    An abandoned replay loses its notes as well: brokers expire the offsets of a group without
    members after 7 days by default. So only a replay younger than that counts as finished.
    """
    started = started_at(group)
    if started is None or any(notes.values()):
        return False
    return timedelta(0) <= now - started < _OFFSET_RETENTION


def _join(settings: Settings, group: str, console: Console) -> None:
    with closing(GroupOffsets(settings.kafka, group)) as offsets:
        notes = {each: committed.metadata.note for each, committed in offsets.committed().items()}
    if has_finished(group, notes, datetime.now(UTC)):
        console.print(f"replay {group} has finished, unless the name is mistyped: no group has it")
        return
    _work(settings, group, ReplayPlan.from_notes(notes), console)


def _work(settings: Settings, group: str, plan: ReplayPlan, console: Console) -> None:
    sink = settings.sink.model_copy(update={"group_id": group, "group_instance_id": None})
    observer = GroupOffsets(settings.kafka, group)

    def committed() -> dict[int, int]:
        return {each: found.offset or 0 for each, found in observer.committed().items()}

    workers: list[RangedConsumer] = []

    def restrict_to_plan(consumer: EventConsumer, stop: threading.Event) -> EventConsumer:
        workers.append(RangedConsumer(consumer, plan, committed, stop, SystemClock()))
        return workers[0]

    replay = settings.model_copy(update={"sink": sink})
    progress = apply(replay, restrict_to_plan, force=plan.force)
    is_done = workers[0].is_done or plan.is_done(committed())
    if is_done:
        observer.forget()  # a no-op until the last worker leaves: the group has members
    observer.close()
    totals = dataclasses.asdict(progress)
    console.print(", ".join(f"{name.replace('_', ' ')}: {totals[name]}" for name in _COUNTS))
    if not is_done:
        raise FatalError(
            f"The replay stopped before its end. To resume: imednet-connector replay --join {group}"
        )
    console.print("replay finished")

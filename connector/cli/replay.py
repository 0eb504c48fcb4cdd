"""``imednet-connector replay``: events of the topic once more, beside the live group."""

import dataclasses
import re
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
from connector.kafka.topic_log import bounds, offsets_at, read_ranges
from connector.kafka.topics import Topics
from connector.replay.replay import RangedConsumer, ReplayPlan, TopicPosition, resolve

_STARTED = "%Y%m%dT%H%M%S%f"
_REPLAY_GROUP = re.compile(r".+-replay-(\d{8}T\d{12})")
_OFFSETS_KEPT = timedelta(days=7)
_COUNTS = ("consumed", "written", "unchanged", "dead_letters")


@dataclasses.dataclass(frozen=True, slots=True)
class ReplayArguments:
    """What the command line says."""

    start: str
    end: str
    study_key: str | None
    join: str | None
    plan_only: bool
    rewind: bool


def run(settings: Settings, asked: ReplayArguments) -> None:
    """Replay, join a replay, show its plan, or move the live group.

    Raises:
        FatalError: a server cannot be reached, the range is not in the topic, no such replay.
    """
    logs.configure(settings.log)
    Topics(settings.kafka).check()
    console = Console(highlight=False, soft_wrap=True)
    if asked.join:
        _join(settings, asked.join, console)
        return
    if asked.rewind and (asked.end != "end" or asked.study_key or asked.plan_only):
        raise FatalError("--rewind moves the live group: it goes on to the end, with all studies")
    plan = _plan(settings, asked)
    if asked.plan_only:
        _show(settings, plan, console)
    elif asked.rewind:
        _rewind(settings, plan, console)
    else:
        group = f"{settings.sink.group_id}-replay-{datetime.now(UTC):{_STARTED}}"
        _note(settings, group, plan)
        console.print(f"more workers: imednet-connector replay --join {group}")
        _work(settings, group, plan, console)


def _plan(settings: Settings, asked: ReplayArguments) -> ReplayPlan:
    kafka, topic = settings.kafka, settings.kafka.events_topic
    there = bounds(kafka, topic)
    start, end = (
        resolve(TopicPosition.parse(text), there, lambda at: offsets_at(kafka, topic, at))
        for text in (asked.start, asked.end)
    )
    return ReplayPlan.between(start, end, there, asked.study_key)


def _show(settings: Settings, plan: ReplayPlan, console: Console) -> None:
    kafka = settings.kafka
    counts: Counter[int] = Counter()
    for message in read_ranges(kafka, kafka.events_topic, plan.ranges):
        counts[message.partition() or 0] += plan.holds(message.key())
    table = Table("partition", "from", "to", "events", title=f"replay of {kafka.events_topic}")
    for partition, (start, end) in plan.ranges.items():
        table.add_row(str(partition), f"{start}", f"{end}", f"{counts[partition]}")
    console.print(table)
    console.print(f"events: {counts.total()}")


def _rewind(settings: Settings, plan: ReplayPlan, console: Console) -> None:
    group, topic = settings.sink.group_id, settings.kafka.events_topic
    note = Topics(settings.kafka).topic_id(topic)
    starts = {each: at.start for each, at in plan.ranges.items() if at.end > at.start}
    with closing(GroupOffsets(settings.kafka, group)) as offsets:
        offsets.move({each: CommittedOffset(start, note) for each, start in starts.items()})
    for partition, start in starts.items():
        console.print(f"group {group}, partition {partition}: goes on at {start}")


def _note(settings: Settings, group: str, plan: ReplayPlan) -> None:
    """Keep the plan where every worker finds it: beside the offsets that the group begins at."""
    topic_id = Topics(settings.kafka).topic_id(settings.kafka.events_topic)
    with closing(GroupOffsets(settings.kafka, group)) as offsets:
        offsets.move({
            partition: CommittedOffset(at.start, f"{topic_id} {plan.note(partition)}")
            for partition, at in plan.ranges.items()
        })  # fmt: skip


def has_finished(group: str, notes: Mapping[int, str], now: datetime) -> bool:
    """Whether this is a replay whose group was deleted at its end. Pure.

    A replay that was given up long ago has no notes either: brokers drop the offsets of a group
    without members, by default after 7 days.
    """
    found = _REPLAY_GROUP.fullmatch(group)
    if found is None or any(notes.values()):
        return False
    try:
        started = datetime.strptime(found[1], _STARTED).replace(tzinfo=UTC)
    except ValueError:
        return False
    return timedelta(0) <= now - started < _OFFSETS_KEPT


def _join(settings: Settings, group: str, console: Console) -> None:
    with closing(GroupOffsets(settings.kafka, group)) as offsets:
        notes = {each: at.note.partition(" ")[2] for each, at in offsets.committed().items()}
    if has_finished(group, notes, datetime.now(UTC)):
        console.print("that replay has finished")
        return
    _work(settings, group, ReplayPlan.from_notes(notes), console)


def _work(settings: Settings, group: str, plan: ReplayPlan, console: Console) -> None:
    side = settings.sink.model_copy(update={"group_id": group, "group_instance_id": None})
    observer = GroupOffsets(settings.kafka, group)

    def committed() -> dict[int, int]:
        return {each: at.offset or 0 for each, at in observer.committed().items()}

    workers: list[RangedConsumer] = []

    def narrowed(consumer: EventConsumer, stop: threading.Event) -> EventConsumer:
        workers.append(RangedConsumer(consumer, plan, committed, stop, SystemClock()))
        return workers[0]

    progress = apply(settings.model_copy(update={"sink": side}), narrowed)
    is_done = workers[0].is_done or plan.is_done(committed())
    if is_done:
        observer.forget()  # the last worker to leave; before, it has members
    observer.close()
    done = dataclasses.asdict(progress)
    console.print(", ".join(f"{name.replace('_', ' ')}: {done[name]}" for name in _COUNTS))
    if not is_done:
        raise FatalError(
            f"stopped before the end; to go on: imednet-connector replay --join {group}"
        )
    console.print("the replay is through")

"""A source on fakes under a seeded random schedule of edits, faults, kills and clock jumps."""

import random
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from functools import cache
from itertools import pairwise
from operator import itemgetter
from typing import Any

import orjson

from connector.errors import RetryableError
from connector.interfaces import Message
from connector.lab.simulator.faults import FAULTS, Faults
from connector.lab.simulator.study import Study, build_study
from connector.lab.simulator.workload import Workload
from connector.model.entities import ENTITIES, NODE_KEYS, READ_KINDS
from connector.model.events import Identity, Op, RecordEvent
from connector.model.graph_state import GraphState, differences
from connector.ops.expected_graph import add_row, types_of, variable_types
from connector.retry import Backoff
from connector.source import tracks
from connector.source.ports import SourceOptions, SourcePorts
from connector.source.reading import ReadPage
from connector.source.schedule import Pace
from connector.source.source_task import SourceTask
from connector.source.tracks import Mode
from connector.store.known_store import SqliteKnownStore
from tests.fakes.clock import FakeClock
from tests.fakes.in_memory_kafka import InMemoryEventLog, InMemoryTopic, Killed
from tests.fakes.page_stream import PagesAhead
from tests.fakes.simulated_api import SimulatedApi
from tests.oracle import fold

KEY = "SIM"
PACE = Pace(5, 20, 30, 60, overlap=3, page_size=12)
# Sweeps repair losses of windows, and the overlap hides where windows begin. So every third seed
# has neither, and no change or fault that only a sweep could find.
WINDOWS_ONLY = Pace(5, 20, 30, 1e8, overlap=0, page_size=12)
_FOR_SWEEPS = {"no_date", "null_date", "empty", "bad_utf8"}
"""Faults that no answer reveals: only the row's next change or a sweep repairs them."""
_VALUE_FAULTS = {"huge_subject", "blank_reference"}
"""Faults that show a wrong but plausible state of a row, which is published."""
_SWEPT = {track.name for track in tracks.TRACKS if track.mode is Mode.FULL and track.is_keyset}
_METADATA_ROWS = 14
_STEPS = 60
_STEPS_TO_SETTLE = 3000
_PAGE_READS_PER_KILL = 60


class LaggingSink:
    """The messages that a sink reads which lags behind and accepts gaps."""

    def __init__(self, topic: InMemoryTopic) -> None:
        self._topic, self._id = topic, topic.id
        self._next = [0] * len(topic.partitions)
        self._cuts = 0
        self.read_messages: list[Message] = []

    def read(self, most: int) -> None:
        cuts = self._topic.truncations[self._cuts :]
        self._cuts += len(cuts)
        for partition, log in enumerate(self._topic.partitions):
            first, at = self._topic.first[partition], self._next[partition]
            if any(end < at for cut, end in cuts if cut == partition):
                at = first
            if self._id != self._topic.id or not first <= at <= len(log):
                at = first  # as with --accept-gap
            taken = log[at : at + most]
            self.read_messages += taken
            self._next[partition] = at + len(taken)
        self._id = self._topic.id


def copy_of(known: SqliteKnownStore) -> SqliteKnownStore:
    """Return a copy of an in-memory cache."""
    copy = SqliteKnownStore(":memory:")
    known._db.backup(copy._db)
    return copy


class World:
    """A small study, a source, and a random number generator."""

    def __init__(self, seed: int) -> None:
        self.seed, self.rng = seed, random.Random(seed)
        self.windows_only = seed % 3 == 0
        self.pace = WINDOWS_ONLY if self.windows_only else PACE
        self.study: Study = build_study(KEY, 4, 30, seed)
        for resource in ("forms", "variables"):  # a few show all that many would
            table = self.study.table(resource)
            for each in table.ids[_METADATA_ROWS:]:
                table.remove(each)
        self.server = FakeClock(int(datetime(2024, 6, 1, tzinfo=UTC).timestamp() * 1000))
        self.local = FakeClock(self.server.now_ms() + self.rng.choice([-600_000, 0, 600_000]))
        self.workload = Workload(self.study, lambda: self.server.now_ms() / 1000)
        if self.windows_only:
            self.workload.hard_delete = lambda: None  # type: ignore[method-assign]
        left_out = _VALUE_FAULTS | (_FOR_SWEEPS if self.windows_only else set())
        names = [name for name in FAULTS if name not in left_out]
        self.faults = Faults(dict.fromkeys(names, 0.008), random.Random(seed + 1))
        self.api = SimulatedApi(self.study, self.server, self.faults)
        self.api.before, self.api.after = self._before_read, self._after_read
        self.api.answering = self._while_answering
        ties = random.Random(seed + 2)
        self.api.shuffles_ties = lambda: not self.is_calm and ties.random() < 0.3
        self.topic, self.cursors = InMemoryTopic(), dict[str, bytes]()
        self.sink = LaggingSink(self.topic)
        self.topic_was_lost = self.deletes_were_forgotten = False
        self.known = SqliteKnownStore(":memory:")
        self.copies = random.Random(seed + 3)
        self.leaders = random.Random(seed + 4)
        self.old_copy: SqliteKnownStore | None = None
        self.is_calm = False
        self.false_deletes: list[str] = []
        self.letters: list[tuple[Identity, str | None]] = []
        """Dead letters of events that were too large, across all restarts."""
        self.restart()

    def restart(self, with_cache: SqliteKnownStore | None = None) -> None:
        self.log = InMemoryEventLog(self.topic, KEY, self.cursors)
        self.log.before_publish = self._look_for_false_deletes
        self.log.letters = self.letters
        if with_cache is not None:
            self.known = with_cache
        elif self.rng.random() < 0.3:  # the cache is lost, too
            # With the topic also lost, nothing remembers past or pending deletes.
            self.deletes_were_forgotten |= self.topic_was_lost
            self.known = SqliteKnownStore(":memory:")
        elif self.old_copy is not None and self.copies.random() < 0.2:
            # It is another machine's, or a power cut has taken its last transactions.
            self.deletes_were_forgotten |= self.topic_was_lost
            self.known = self.old_copy
        self.old_copy = self.old_copy if self.copies.random() < 0.5 else copy_of(self.known)
        ports = SourcePorts(self.api, self.log, self.known, self.local, self._stream)
        self.task = SourceTask(
            KEY, ports, self.pace, SourceOptions(0.5, lambda: Backoff(1.0, rng=self.rng))
        )

    def _stream(self, pages: Iterator[ReadPage]) -> PagesAhead:
        return PagesAhead(pages, self.rng)

    def _before_read(self) -> None:
        """Edit, kill or advance time between two pages of a pass."""
        if self.is_calm:
            return
        for _ in range(self.rng.choice([0, 0, 1, 3])):
            self.workload.step()
        if self.rng.random() < 1 / _PAGE_READS_PER_KILL:
            raise Killed
        self.tick(self.rng.choice([0.0, 0.1, 0.4]))

    def _while_answering(self) -> None:
        """Commit changes after the rows are selected and before the answer's clock is read."""
        if not self.is_calm and self.rng.random() < 0.2:
            self.workload.step()
            self.tick(self.rng.choice([0.1, 1.5, 3.0]))

    def _after_read(self, fault: str | None) -> None:
        if fault == "edit_between_pages":
            self.workload.step()
        elif fault == "delete_between_pages" and not self.windows_only:
            self.workload.hard_delete()
            self.workload.hard_delete_visit()

    def step(self) -> None:
        if not self.is_calm:
            outcomes = ["ok"] * 20 + ["lost", "unknown", "killed before", "killed after"]
            self.log.outcomes = [self.rng.choice(outcomes)]
            self._turn_clocks()
            self._lose_events()
            if self.leaders.random() < 0.02:
                self.topic.elect(self.leaders.randrange(len(self.topic.partitions)))
        self.tick(self.rng.choice([0.1, 0.4, 1.0]))
        if self.rng.random() < 0.3:
            self.sink.read(self.rng.choice([1, 5, 100]))
        try:
            self.tick(self.task.step())
        except RetryableError:
            self.tick(0.5)
        except Killed:
            self.restart()
        # The task survives its own defects; the simulation is there to find them.
        for outage in self.task.track_outages.values():
            assert not outage.reason.startswith("internal error"), outage.reason

    def _lose_events(self) -> None:
        """Recreate or cut the events topic; change which events and transactions fit."""
        if self.windows_only or self.seed % 3 != 1:
            return
        if self.rng.random() < 0.03:
            self.topic.event_bytes_max = self.rng.choice([700, 10**9])
        if self.rng.random() < 0.03:
            self.topic.transaction_events_max = self.rng.choice([1, 5, 20, 10**9])
        if self.rng.random() > 0.01:
            return
        self.topic_was_lost = True
        # Only the topic knows the events of a transaction that is in doubt.
        self.deletes_were_forgotten |= self.task._cursor is None
        partition = self.rng.randrange(len(self.topic.partitions))
        first, end = self.topic.first[partition], len(self.topic.partitions[partition])
        at = self.rng.randint(first, end)
        match self.rng.randrange(3):
            case 0:
                self.topic.recreate()
            case 1:
                self.topic.delete_records(partition, at)
            case _:
                self.topic.truncate(partition, at)
                if self.leaders.random() < 0.5:  # other studies make the log grow again
                    for _ in range(end - at + self.leaders.randrange(3)):
                        self.topic.append(partition, b"OTHER/record/1", b"{}")

    def _look_for_false_deletes(self, events: Sequence[tuple[RecordEvent, int | None]]) -> None:
        for event, _ in events:
            if event.op is Op.DELETE:
                rows = self.study.table(ENTITIES[event.entity].resource).bodies
                if event.id in rows:
                    self.false_deletes.append(f"{event.entity} {event.id} deleted, but is there")

    def _turn_clocks(self) -> None:
        if self.windows_only or self.rng.random() > 0.01:
            return
        clock = self.rng.choice([self.server, self.local])
        apart = self.server.now_ms() - self.local.now_ms()
        jump = self.rng.choice([-600, 600])
        if abs(apart + jump * 1000 * (1 if clock is self.server else -1)) < 1_500_000:
            clock.jump(jump)

    def tick(self, seconds: float) -> None:
        self.server.advance(seconds)
        self.local.advance(seconds)

    def run(self) -> None:
        """Run random steps, then calm ones until every track has seen the final state."""
        for _ in range(_STEPS):
            self.step()
        self.is_calm = True
        self.workload.flush()
        self.log.outcomes, self.faults.shares = [], {}
        self.topic.event_bytes_max = self.topic.transaction_events_max = 10**9
        if self.topic_was_lost and self.rng.random() < 0.5:
            self.task.sweep()
        before = self._passes()
        for _ in range(_STEPS_TO_SETTLE):
            # The pass in progress may have seen rows that vanished since; two more must follow.
            if all(count >= before[name] + 3 for name, count in self._passes().items()):
                return
            self.step()
        raise AssertionError(f"SEED={self.seed}: the source makes no progress")

    def _passes(self) -> dict[str, int]:
        return {
            name: count
            for name, count in self.task._completed.by_track.items()
            if not (self.windows_only and name in _SWEPT)
        }

    def faults_found(self) -> list[str]:
        """Return how the topic differs from the API, and states published twice or reverted."""
        expected = api_state(self.study)
        found = self.false_deletes + _differences(expected, self.topic.messages())
        if not self.deletes_were_forgotten:
            # One sink has read every event, including lost ones; the other has missed some.
            self.sink.read(10**9)
            for messages in (self.topic.ever, self.sink.read_messages):
                found += _differences(expected, messages)
        if self.topic_was_lost:
            return found  # lost events are published twice
        return found + self._states_twice()

    def _states_twice(self) -> list[str]:
        found: list[str] = []
        states: dict[bytes, list[tuple[int, str | None, bool]]] = {}
        for message in own(self.topic.messages()):
            event = orjson.loads(message.value or b"")
            state = (event["version"], event["contentHash"], _is_undated(event))
            states.setdefault(message.key or b"", []).append(state)
        for key, history in states.items():
            ordered = sorted(
                history, key=itemgetter(0)
            )  # a record that moves changes its partition
            if any(one[0] == other[0] for one, other in pairwise(ordered)):
                found.append(f"{key.decode()}: a version twice")
            # Every change has a unique date or count, so no state occurs twice.
            was_diverted = any(who.to_key() == key for who, _ in self.letters)
            hashes = _published(ordered, was_diverted=was_diverted)
            if len(hashes) != len(set(hashes)):
                found.append(f"{key.decode()}: a state twice")
        return found


def own(messages: Iterable[Message]) -> Iterator[Message]:
    """The messages of the study; another one's are in the topic, too."""
    return (each for each in messages if (each.key or b"").startswith(f"{KEY}/".encode()))


def _differences(expected: GraphState, messages: Iterable[Message]) -> list[str]:
    return list(differences(expected, live(fold(own(messages)))))


def _is_undated(event: dict[str, Any]) -> bool:
    """Return whether a fault removed the date, which every row of such a kind has."""
    has_date = "dateModified" in ENTITIES[event["entity"]].fields
    return event["data"] is not None and has_date and not event["data"].get("dateModified")


def _published(ordered: list[tuple[int, str | None, bool]], *, was_diverted: bool) -> list[str]:
    """Return the hashes in order; a state interrupted only by an undated one counts once.

    So does a state that an event too large for the topic may have interrupted.
    """
    found: list[str] = []
    is_interrupted = was_diverted
    for _, digest, is_undated in ordered:
        if (
            digest is not None
            and not is_undated
            and not (is_interrupted and found[-1:] == [digest])
        ):
            found.append(digest)
        is_interrupted = is_undated or was_diverted
    return found


def api_state(study: Study) -> GraphState:
    state = GraphState()
    add_row(state, "study", study.key, study.row)
    types = variable_types(study.table("variables").rows())
    for entity in list(READ_KINDS.values())[1:]:
        for row in study.table(entity.resource).rows():
            add_row(state, entity.name, study.key, row, types_of(row, types))
    return state


def live(state: GraphState) -> GraphState:
    return GraphState(
        {
            key: {name: value for name, value in node.items() if not name.startswith("_")}
            for key, node in state.nodes.items()
            if node.keys() - _marks(key.label)
        },
        state.relationships,
    )


@cache
def _marks(label: str) -> frozenset[str]:
    """Return the properties that stubs and deleted entities have."""
    return frozenset({*NODE_KEYS[label], "_version", "deleted"})

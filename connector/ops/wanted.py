"""Where a verification gets the wanted states from: the events topic, or the API."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from contextlib import closing
from typing import Any, Protocol

import structlog

from connector.clock import SystemClock
from connector.config import KafkaSettings, Settings
from connector.errors import InvalidEventError, RetryableError
from connector.imednet.reader import ImednetReader
from connector.interfaces import ApiReader, Clock, Page, PageRequest, Range, TopicPartition
from connector.kafka.consumer import message_of
from connector.kafka.group_offsets import GroupOffsets
from connector.kafka.topic_log import bounds, read_ranges
from connector.model.cursor import Cursor, PassPosition
from connector.model.entities import READ_KINDS
from connector.model.entity import Entity
from connector.model.events import EntityId, Identity, Origin, RecordEvent, id_of
from connector.model.serde import encode, header_version
from connector.model.typed_values import Definitions
from connector.retry import Backoff, retry
from connector.sink.states import State, parse
from connector.source.changes import PageContext, detect
from connector.source.personal_data import WithoutPersonalData
from connector.source.reading import PassOptions, ReadPage, read_pass
from connector.source.schedule import Pace
from connector.source.tracks import Mode, Track
from connector.store.wanted_states import StoredState, WantedStates

log = structlog.stdlib.get_logger("connector.verify")

_CHECK_SECONDS = 0.5
ATTEMPTS_MAX = 10
_RETRY_SECONDS_MAX = 30.0
OnRows = Callable[[str, int], None]
"""Called with what is being read, and the number of rows since the last call."""


class WantedSource(Protocol):
    """Fills `WantedStates`, and keeps them up to date between two looks at the graph."""

    has_versions: bool
    """Whether the versions of the states are those that the graph should have."""
    looks_max: int
    """How often to look at differences that may only mean that the graph is being written."""

    @property
    def unreadable(self) -> AbstractSet[Identity]:
        """Entities that are listed, but not as events: they cannot be compared."""

    def load(self, states: WantedStates) -> None:
        """Store all states. Blocks."""

    def refresh(self, states: WantedStates, wait_seconds: float) -> bool:
        """Store what is new; then wait for the graph's writers for at most so long.

        Returns whether the graph must now hold all the states stored before this call.
        """


class TopicStates:
    """The states on the events topic."""

    has_versions = True
    looks_max = 20
    unreadable: AbstractSet[Identity] = frozenset()  # what is not an event is a dead letter

    def __init__(
        self,
        settings: Settings,
        study_key: str | None,
        on_rows: OnRows,
        ends_max: Mapping[int, int] | None = None,
    ) -> None:
        """``ends_max``: the offset of each partition to stop at, if not at its end."""
        self._kafka: KafkaSettings = settings.kafka
        self._ends_max = ends_max or {}
        self._group_id, self._study_key = settings.sink.group_id, study_key
        self._on_rows = on_rows
        self._ends: dict[int, int] = {}

    def load(self, states: WantedStates) -> None:
        """See `WantedSource`."""
        self._read(states)

    def refresh(self, states: WantedStates, wait_seconds: float) -> bool:
        """See `WantedSource`."""
        self._read(states)
        return self._is_applied(time.monotonic() + wait_seconds)

    def _read(self, states: WantedStates) -> None:
        topic = self._kafka.events_topic
        now = {
            each: Range(start, min(end, self._ends_max.get(each, end)))
            for each, (start, end) in bounds(self._kafka, topic).items()
        }
        ranges = {
            each: Range(max(self._ends.get(each, start), start), end)
            for each, (start, end) in now.items()
        }
        states.add(self._states(ranges))
        self._ends = {each: end for each, (_, end) in now.items()}

    def _states(self, ranges: Mapping[int, Range]) -> Iterator[tuple[Identity, StoredState]]:
        now_ms = SystemClock().now_ms()
        for raw in read_ranges(self._kafka, self._kafka.events_topic, ranges):
            partition = TopicPartition(self._kafka.events_topic, raw.partition() or 0)
            state = parse(message_of(raw, partition), now_ms)
            self._on_rows("topic", 1)
            if not isinstance(state, State) or not _is_consistent(state):
                continue  # no sink applies it: it is a dead letter
            if self._study_key in (None, state.identity.study_key):
                yield state.identity, StoredState(state.version, state.message.value)

    def _is_applied(self, until: float) -> bool:
        """Wait until the sinks' group has committed all that was read; False if it has not."""
        with closing(GroupOffsets(self._kafka, self._group_id)) as group:
            while True:
                try:
                    committed = {each: found.offset for each, found in group.committed().items()}
                except RetryableError:
                    committed = {}
                if all((committed.get(each) or 0) >= end for each, end in self._ends.items()):
                    return True
                if time.monotonic() > until:
                    return False
                time.sleep(_CHECK_SECONDS)


def _is_consistent(state: State) -> bool:
    """Whether the headers can be read and do not contradict the payload, as sinks require."""
    try:
        return header_version(state.message.headers) in (None, state.version)
    except InvalidEventError:
        return False


class PatientReader:
    """An `ApiReader` that repeats a failed request: in a long pass some fail."""

    def __init__(self, reader: ApiReader, clock: Clock, attempts_max: int = ATTEMPTS_MAX) -> None:
        self._reader, self._clock, self._attempts_max = reader, clock, attempts_max

    def read(self, request: PageRequest) -> Page:
        """See `ApiReader`."""
        backoff = Backoff(_RETRY_SECONDS_MAX)

        def failed(error: Exception, delay_seconds: float) -> None:
            if backoff.failures >= self._attempts_max:
                raise error
            log.warning("retrying", reason=str(error), delay_seconds=round(delay_seconds, 1))

        return retry(
            lambda: self._reader.read(request), backoff, self._clock, threading.Event(), failed
        )


class ApiStates:
    """The states that the API lists now, as events of the version 0."""

    has_versions = False
    looks_max = 2  # each waits

    def __init__(
        self,
        settings: Settings,
        study_key: str,
        on_rows: OnRows,
        *,
        attempts_max: int = ATTEMPTS_MAX,
    ) -> None:
        """Create the client; sends nothing. A request is tried ``attempts_max`` times.

        Raises:
            FatalError: a key is missing.
        """
        self._client = ImednetReader(settings.imednet, SystemClock())
        reader = PatientReader(self._client, SystemClock(), attempts_max)
        omit = settings.source.omit_personal_data
        self._reader: ApiReader = WithoutPersonalData(reader) if omit else reader
        self._study_key, self._on_rows = study_key, on_rows
        self._pace = Pace(0, 0, 0, 0, overlap=0, page_size=settings.source.page_size)
        self._has_types = settings.source.typed_values
        self._definitions = Definitions()
        self.unreadable = set[Identity]()

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def load(self, states: WantedStates) -> None:
        """See `WantedSource`."""
        for entity in READ_KINDS.values():
            self._read(entity, states)

    def refresh(self, states: WantedStates, wait_seconds: float) -> bool:
        """See `WantedSource`. Reads the kinds with differences again, then waits for the graph.

        In this order, and for the whole time: the graph must have by then what the API had when it
        was read.
        """
        kinds = {kind for kind, _ in states.problems()}
        for entity in READ_KINDS.values():
            if entity.name in kinds or (kinds and entity.definition_fields):
                states.clear(entity.name, self._study_key)
                self.unreadable = {each for each in self.unreadable if each.entity != entity.name}
                self._read(entity, states)
        time.sleep(wait_seconds)
        return True

    def _read(self, entity: Entity, states: WantedStates) -> None:
        definitions = []
        for page in self.pages(entity):
            context = PageContext(
                self._study_key, page.page.server_ms, Origin.SNAPSHOT, self._definitions
            )
            found = detect(entity, page.page.rows, {}, context)
            states.add(self._without_versions(event for event, _ in found.events))
            listed = {Identity(self._study_key, entity.name, each) for each in page.ids}
            self.unreadable |= listed - {event.identity for event, _ in found.events}
            definitions += [each.definition for each in found.known.values() if each.definition]
        if definitions and self._has_types:
            self._definitions = Definitions(definitions)

    def row(self, entity: Entity, entity_id: EntityId) -> dict[str, Any] | None:
        """Return the row with this id; None if the API does not list it. Blocks.

        A kind that the API cannot filter by id is read page by page.

        Raises:
            ConnectorError: as `read_pass`.
        """
        track = Track(entity, Mode.FULL)
        after = entity_id - 1 if track.is_keyset and isinstance(entity_id, int) else None
        for page in self.pages(entity, after=after):
            for row in page.page.rows:
                if isinstance(row, dict) and id_of(entity, row) == entity_id:
                    return row
            if after is not None:
                break
        return None

    def pages(self, entity: Entity, *, after: int | None = None) -> Iterator[ReadPage]:
        """Yield the pages of one full pass, or those with ids above ``after``. Blocks.

        Raises:
            ConnectorError: as `read_pass`.
        """
        cursor = Cursor(study_key=self._study_key)
        options = PassOptions(self._pace, self._pace.page_size)
        track = Track(entity, Mode.FULL)
        if after is not None:
            cursor = cursor.moved(track.name, PassPosition(after=after))
        for page in read_pass(self._reader, track, cursor, options, SystemClock()):
            self._on_rows(entity.plural, len(page.page.rows))
            yield page

    def _without_versions(
        self, events: Iterable[RecordEvent]
    ) -> Iterator[tuple[Identity, StoredState]]:
        for event in events:
            event.version = 0
            yield event.identity, StoredState(0, encode(event)[1])

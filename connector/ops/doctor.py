"""Examines everything around the programs: API, Kafka, Neo4j and this machine's disk."""

import os
import shutil
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import closing
from functools import cache, partial
from pathlib import Path

from connector.clock import SystemClock
from connector.config import Settings
from connector.errors import ConnectorError, FatalError, RetryableError
from connector.imednet.reader import ImednetReader
from connector.kafka.group_offsets import CommittedOffset, GroupOffsets
from connector.kafka.permissions import may_write_transactions, missing_operations
from connector.kafka.topic_log import bounds
from connector.kafka.topics import Topics, TopicState
from connector.model.cursor import Cursor
from connector.model.entities import READ_KINDS
from connector.neo4j.database import Neo4jDatabase
from connector.neo4j.server import can_write, clock_ms, outdated_kinds, version_of
from connector.ops.findings import Finding, Outcome, Step, all_examined, examined
from connector.source import tracks, window
from connector.source.page_checks import unknown_study
from connector.source.tracks import Mode, Track
from connector.store.wanted_states import temporary_folder

_CLOCK_MS_WARNED, _CLOCK_MS_MAX = 60_000, 3_600_000
_COORDINATOR_SECONDS_MAX = 20.0
_FREE_BYTES_MIN = 1_000_000_000
_NEO4J_MIN = (5, 26)
_NO_TOPIC = "The topic does not exist"
_NEEDED_BY = "The table under Security in the README says which command needs what"


def examine(settings: Settings, areas: Collection[str] = ()) -> Iterator[Finding]:
    """Yield the findings, area by area, of all `AREAS` or of some. Changes nothing. Blocks."""
    for area, examine_area in AREAS.items():
        if not areas or area in areas:
            yield from examine_area(settings)


# ---------------------------------------------------------------------------------------- API


def _api(settings: Settings) -> Iterator[Finding]:
    area = "API"
    try:
        reader = ImednetReader(settings.imednet, SystemClock())
    except ConnectorError as error:
        yield Finding(area, "keys", Outcome.FAILURE, str(error))
        return
    with closing(reader):
        studies = settings.source.studies
        steps: list[tuple[str, Step]] = [("answers", partial(_answers, settings, reader))]
        if not studies:
            steps.append(("studies", _no_studies))
        steps += [(f"study {each}", partial(_study, reader, each)) for each in studies]
        yield from all_examined(area, steps)


def _no_studies() -> Finding:
    text = "SOURCE_STUDIES is empty. Set it to the keys of the studies to read"
    return Finding("API", "studies", Outcome.FAILURE, text)


def _answers(settings: Settings, reader: ImednetReader) -> Finding | str:
    study_key = next(iter(settings.source.studies), "-")
    request = window.next_request(tracks.STUDY, Cursor(study_key=study_key), 1)
    page = reader.read(request)
    offset_ms = page.server_ms - time.time_ns() // 1_000_000
    if abs(offset_ms) <= _CLOCK_MS_WARNED:
        return f"{settings.imednet.base_url}, clock within a minute of this machine's"
    return _clocks("API", offset_ms)


def _clocks(area: str, offset_ms: int) -> Finding:
    minutes = round(offset_ms / 60_000)
    is_far = abs(offset_ms) > _CLOCK_MS_MAX and area == "API"
    outcome = Outcome.FAILURE if is_far else Outcome.WARNING
    direction = "ahead of" if minutes > 0 else "behind"
    text = f"Its clock is {abs(minutes)} min {direction} this machine's. Correct the wrong one"
    return Finding(area, "clock", outcome, text)


def _study(reader: ImednetReader, study_key: str) -> Finding | str:
    """Read a row of each kind."""
    cursor = Cursor(study_key=study_key)
    page = reader.read(window.next_request(tracks.STUDY, cursor, 1))
    if not page.rows:
        raise unknown_study(study_key)
    denied = []
    for entity in READ_KINDS.values():
        try:
            reader.read(window.next_request(Track(entity, Mode.FULL), cursor, 1))
        except FatalError:
            denied.append(entity.plural)
    if denied:
        text = f"The API key may not read {', '.join(denied)}. Grant it access to these"
        return Finding("API", f"study {study_key}", Outcome.FAILURE, text)
    return "all kinds can be read"


# -------------------------------------------------------------------------------------- Kafka


def _kafka(settings: Settings) -> Iterator[Finding]:
    kafka = settings.kafka
    try:
        topics = Topics(kafka)
    except ConnectorError as error:
        yield Finding("Kafka", "settings", Outcome.FAILURE, str(error))
        return
    names = (kafka.events_topic, kafka.cursors_topic, kafka.dead_letter_topic)
    steps: list[tuple[str, Step]] = [("answers", partial(_brokers, settings, topics))]
    states = cache(lambda: {each.name: each for each in topics.ensure(create=False)})
    steps += [(f"topic {name}", partial(_topic, settings, topics, states, name)) for name in names]
    found = list(all_examined("Kafka", steps))
    yield from found
    if any(each.detail.startswith(_NO_TOPIC) for each in found) or len(found) < len(steps):
        return  # the other checks need the topics
    yield examined("Kafka", "message sizes", partial(_sizes, settings, topics))
    yield examined("Kafka", f"group {settings.sink.group_id}", partial(_group, settings))
    yield examined("Kafka", "transactions", partial(_transactions, settings))


def _brokers(settings: Settings, topics: Topics) -> str:
    topics.check()
    return settings.kafka.bootstrap_servers


def _topic(
    settings: Settings, topics: Topics, states: Callable[[], Mapping[str, TopicState]], name: str
) -> Finding | str:
    state = states()[name]
    if state.missing:
        raise FatalError(f"{_NO_TOPIC}. Run `imednet-connector setup`")
    if state.differences:
        text = f"{'; '.join(state.differences)}. Set it with kafka-configs.sh --alter"
        return Finding("Kafka", f"topic {name}", Outcome.FAILURE, text)
    if missing := missing_operations(settings.kafka, name):
        text = f"This user may not {' or '.join(missing)} it. {_NEEDED_BY}"
        return Finding("Kafka", f"topic {name}", Outcome.WARNING, text)
    return f"{topics.partitions(name)} partitions, settings as required"


def _sizes(settings: Settings, topics: Topics) -> Finding | str:
    events, letters = (
        topics.message_bytes_max(name)
        for name in (settings.kafka.events_topic, settings.kafka.dead_letter_topic)
    )
    if letters < events:
        text = (
            f"max.message.bytes is {events:,} for events and only {letters:,} for dead letters:"
            f" larger ones keep no content. Raise it for {settings.kafka.dead_letter_topic}"
        )
        return Finding("Kafka", "message sizes", Outcome.WARNING, text)
    return f"events up to {events:,} bytes, dead letters up to {letters:,}"


def _group(settings: Settings) -> Finding | str:
    """Compare the group's offsets with the topic's."""
    name, topic = settings.sink.group_id, settings.kafka.events_topic
    committed = {
        number: at.offset for number, at in _committed(settings).items() if at.offset is not None
    }
    limits = bounds(settings.kafka, topic)
    for number, offset in committed.items():
        start, end = limits[number]
        if not start <= offset <= end:
            text = (
                f"It has committed offset {offset:,} of partition {number}, which has only"
                f" {start:,} to {end:,}: events were lost. Start a sink: it prints what to do"
            )
            return Finding("Kafka", f"group {name}", Outcome.FAILURE, text)
    behind = sum(end - committed.get(number, start) for number, (start, end) in limits.items())
    return f"{behind:,} offsets behind"


def _committed(settings: Settings) -> Mapping[int, CommittedOffset]:
    """Read the group's offsets; a new broker needs some seconds to choose its coordinator."""
    deadline = time.monotonic() + _COORDINATOR_SECONDS_MAX
    with closing(GroupOffsets(settings.kafka, settings.sink.group_id)) as group:
        while True:
            try:
                return group.committed()
            except RetryableError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(1.0)


def _transactions(settings: Settings) -> Finding | str:
    try:
        may_write_transactions(settings.kafka)
    except FatalError as error:
        text = f"{error}. Only the source needs it; access to each study's own id is enough"
        return Finding("Kafka", "transactions", Outcome.WARNING, text)
    return "can be written"


# -------------------------------------------------------------------------------------- Neo4j


def _graph(settings: Settings) -> Iterator[Finding]:
    try:
        database = Neo4jDatabase(settings.neo4j)
    except ConnectorError as error:
        yield Finding("Neo4j", "answers", Outcome.FAILURE, str(error))
        return
    with database:
        yield from all_examined(
            "Neo4j",
            [
                ("answers", partial(_server, database)),
                ("writes", partial(_writes, database)),
                ("schema", partial(_schema, database)),
                ("graph model", partial(_model, database)),
            ],
        )


def _server(database: Neo4jDatabase) -> Finding | str:
    version = version_of(database)
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdecimal())
    if numbers < _NEO4J_MIN:
        text = f"Version {version} is not supported. Use 5.26 or later"
        return Finding("Neo4j", "version", Outcome.FAILURE, text)
    offset_ms = clock_ms(database) - time.time_ns() // 1_000_000
    if abs(offset_ms) > _CLOCK_MS_WARNED:
        return _clocks("Neo4j", offset_ms)
    return f"version {version}"


def _writes(database: Neo4jDatabase) -> str:
    can_write(database)
    return "this user may write"


def _schema(database: Neo4jDatabase) -> Finding | str:
    if missing := database.missing_schema():
        names = ", ".join(item.name for item in missing)
        text = f"Missing: {names}. Run `imednet-connector setup`"
        is_needed = any(item.is_constraint for item in missing)
        outcome = Outcome.FAILURE if is_needed else Outcome.WARNING
        return Finding("Neo4j", "schema", outcome, text)
    return "constraints and indexes in place"


def _model(database: Neo4jDatabase) -> Finding | str:
    outdated, unknown = outdated_kinds(database)
    if outdated:
        text = (
            f"An earlier graph model wrote some {', '.join(outdated)}. Run:"
            " imednet-connector replay --from beginning"
        )
        return Finding("Neo4j", "graph model", Outcome.WARNING, text)
    if unknown:
        text = f"Not known of {', '.join(unknown)}: Neo4j did not answer in time"
        return Finding("Neo4j", "graph model", Outcome.WARNING, text)
    return "all nodes are of this version's model"


# --------------------------------------------------------------------------------------- disk


def _disk(settings: Settings) -> Iterator[Finding]:
    folders = {
        "SOURCE_STATE_DIR": settings.source.state_dir,
        "SQLITE_TMPDIR": temporary_folder(os.environ),
    }
    for name, folder in folders.items():
        yield examined("disk", name, partial(_folder, name, folder))


def _folder(name: str, folder: Path) -> Finding | str:
    existing = next(each for each in (folder, *folder.parents) if os.path.lexists(each))
    if not os.path.isdir(existing) or not os.access(existing, os.W_OK | os.X_OK):  # noqa: PTH112 - Path.is_dir raises without access
        raise FatalError(f"{folder} is not a folder that this user can write. Set {name} to one")
    free = shutil.disk_usage(existing).free
    if free < _FREE_BYTES_MIN:
        text = f"{folder} has only {free // 1_000_000:,} MB left. Free some, or set {name}"
        return Finding("disk", name, Outcome.WARNING, text)
    return f"{folder}, {free // 1_000_000_000:,} GB free"


AREAS: dict[str, Callable[[Settings], Iterator[Finding]]] = {
    "api": _api,
    "kafka": _kafka,
    "neo4j": _graph,
    "disk": _disk,
}

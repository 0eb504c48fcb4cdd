"""Asks Kafka and Neo4j for the state of the pipeline."""

from collections.abc import Callable
from contextlib import closing

from connector.config import Settings
from connector.errors import ConnectorError
from connector.kafka.cursor_topic import read_cursors
from connector.kafka.dead_letter_topic import read_letters
from connector.kafka.group_offsets import GroupOffsets
from connector.kafka.topics import Topics
from connector.model.entities import READ_KINDS
from connector.neo4j.database import Neo4jDatabase
from connector.ops.status import Surroundings


def ask_surroundings(settings: Settings) -> Surroundings:
    """Ask the servers; what cannot be asked is noted as a problem. Blocks."""
    around = Surroundings()

    def ask(server: str, step: Callable[[Settings, Surroundings], None]) -> bool:
        try:
            step(settings, around)
        except ConnectorError as error:
            around.problems.append(str(error))
            around.failing.add(server)
            return False
        return True

    if ask("kafka", _connect):
        for step in (_lag, _cursors, _letters):
            ask("kafka", step)
    ask("neo4j", _nodes)
    around.is_asked = True
    return around


def _connect(settings: Settings, around: Surroundings) -> None:
    topics = Topics(settings.kafka)
    topics.check()
    around.cluster_id = topics.cluster_id()


def _lag(settings: Settings, around: Surroundings) -> None:
    with closing(GroupOffsets(settings.kafka, settings.sink.group_id)) as group:
        around.lag = group.lag_by_partition()


def _cursors(settings: Settings, around: Surroundings) -> None:
    found = read_cursors(settings.kafka)
    around.cursors = {study: each.committed_ms for study, each in found.items()}


def _letters(settings: Settings, around: Surroundings) -> None:
    for letter, mark in read_letters(settings.kafka):
        if mark is None:
            around.letters_by_reason[letter.reason] += 1
            around.letters_by_study[letter.study or ""] += 1


def _nodes(settings: Settings, around: Surroundings) -> None:
    with Neo4jDatabase(settings.neo4j) as database:
        counts = {
            entity.plural: database.read(f"MATCH (n:{entity.label}) RETURN count(n)")[0][0]
            for entity in READ_KINDS.values()
        }
    around.nodes = {kind: count for kind, count in counts.items() if count}

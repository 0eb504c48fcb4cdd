"""``imednet-connector rebuild``: fill an empty graph from the topic, and verify it."""

from connector import logs
from connector.cli import replay, verify
from connector.cli.replay import ReplayArguments
from connector.cli.verify import VerifyArguments
from connector.config import Settings
from connector.errors import FatalError
from connector.kafka.topic_log import bounds
from connector.kafka.topics import Topics
from connector.neo4j.database import Neo4jDatabase
from connector.neo4j.node_reader import NodeReader


def run(settings: Settings, study: str | None) -> None:
    """Create the schema, replay the whole topic, and verify; exit as `verify.run` does.

    Events that come meanwhile do not count: a sink applies them once it is started on this graph.

    Raises:
        FatalError: a server is unreachable, the graph is not empty, or the replay was stopped.
    """
    logs.configure(settings.log)
    Topics(settings.kafka).check()
    with Neo4jDatabase(settings.neo4j) as database:
        _require_empty(NodeReader(database), study)
        database.create_schema(database.missing_schema())
    found = bounds(settings.kafka, settings.kafka.events_topic)
    ends = {partition: end for partition, (_, end) in found.items()}
    end = ",".join(f"{partition}:{offset}" for partition, offset in ends.items())
    replay.run(
        settings,
        ReplayArguments("beginning", end, study, join=None, plan_only=False, rewind=False),
    )
    verify.run(lambda: settings, VerifyArguments(study, ends_max=ends))


def _require_empty(reader: NodeReader, study: str | None) -> None:
    studies = sorted(reader.studies())
    if study is not None:
        studies = [each for each in studies if each == study]
    if studies:
        raise FatalError(
            f"The graph is not empty: it has study {', '.join(studies)}. A rebuild fills an empty"
            " graph. To update this one, run: imednet-connector replay --from beginning; to correct"
            " it: imednet-connector verify --repair"
        )

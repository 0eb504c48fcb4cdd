"""A database that ends transactions: at a memory limit, or at an administrator's command."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from connector.config import KafkaSettings, Neo4jSettings
from connector.kafka.topic_log import read_to_end
from connector.lab.servers.local import LocalNeo4j
from connector.lab.servers.processes import free_port
from connector.neo4j.database import Neo4jDatabase
from connector.neo4j.reader import read_graph
from tests.fault.load import messages, publish_load
from tests.oracle import assert_equal, fold
from tests.programs import consumed_all, running, wait_until

pytestmark = pytest.mark.servers

_ENDED_MAX = 10
"""On a busy machine a transaction takes longer than the administrator waits for the next one."""


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalNeo4j]:
    """A server whose transactions may use 2 MiB, enough for a few hundred records."""
    neo4j = LocalNeo4j(tmp_path_factory.mktemp("neo4j"), free_port(), "a-password-of-its-own")
    neo4j.start("db.memory.transaction.max=2MiB\n")
    try:
        neo4j.wait()
        yield neo4j
    finally:
        if neo4j.process:
            neo4j.process.stop()


def test_transactions_shrink_to_the_memory_limit_and_terminated_ones_are_repeated(
    small: LocalNeo4j,
    kafka_settings: KafkaSettings,
    environment: dict[str, str],
    topics: dict[str, str],
    study: str,
    tmp_path: Path,
) -> None:
    """Transactions shrink to the database's memory limit, and terminated ones are repeated."""
    settings = Neo4jSettings(
        uri=f"bolt://127.0.0.1:{small.port}", password=SecretStr(small.password)
    )
    publish_load(kafka_settings, study, 6000)
    variables = environment | topics | small.environment | {
        "SINK_GROUP_ID": study, "SINK_TRANSACTION_EVENTS_MAX": "3000",
    }  # fmt: skip
    with Neo4jDatabase(settings) as database:
        database.create_schema(database.missing_schema())
        stop = threading.Event()
        ended = 0

        def end_transactions() -> None:
            nonlocal ended
            while ended < _ENDED_MAX and not stop.wait(0.7):
                found = database.read(
                    "SHOW TRANSACTIONS YIELD transactionId, metaData"
                    " WHERE metaData.app = 'imednet-connector' RETURN transactionId"
                )
                ids = [each for (each,) in found]
                if ids:
                    answers = database.read("TERMINATE TRANSACTIONS $ids", ids=ids)
                    ended += sum(answer[-1] == "Transaction terminated." for answer in answers)

        administrator = threading.Thread(target=end_transactions)
        with running("sink", variables, tmp_path / "sink.log"):
            administrator.start()
            try:
                wait_until(consumed_all(kafka_settings, study), 240, "the load")
            finally:
                stop.set()
                administrator.join()
        assert_equal(fold(messages(kafka_settings)), read_graph(database, study))
    assert ended > 0
    assert list(read_to_end(kafka_settings, kafka_settings.dead_letter_topic)) == []

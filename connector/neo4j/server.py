"""Questions about the database server itself: version, clock, rights, and outdated nodes."""

from typing import NamedTuple

from connector.errors import BatchTooLargeError, RetryableError
from connector.model.entities import READ_KINDS
from connector.neo4j.database import Neo4jDatabase
from connector.neo4j.probes import holds_outdated_nodes
from connector.neo4j.statement import Statement


def version_of(database: Neo4jDatabase) -> str:
    """Return the server's version, such as ``5.26.30``.

    Raises:
        ConnectorError: as `Neo4jDatabase.read`.
    """
    query = (
        "CALL dbms.components() YIELD name, versions WHERE name = 'Neo4j Kernel' RETURN versions[0]"
    )
    return str(database.read(query)[0][0])


def clock_ms(database: Neo4jDatabase) -> int:
    """Return the server's clock, in milliseconds since the epoch.

    Raises:
        ConnectorError: as `Neo4jDatabase.read`.
    """
    return int(database.read("RETURN timestamp()")[0][0])


def can_write(database: Neo4jDatabase) -> None:
    """Check that this user may write, with a node that is created and deleted at once.

    Raises:
        ConnectorError: it may not, or the server does not answer.
    """
    database.write(Statement("CREATE (n) DELETE n", []), {})


class OutdatedKinds(NamedTuple):
    """The kinds of which an earlier revision of the graph model wrote some nodes."""

    outdated: list[str]
    unknown: list[str]
    """Those of which the graph is too large to say, or Neo4j does not answer."""


def outdated_kinds(database: Neo4jDatabase) -> OutdatedKinds:
    """Look for nodes of earlier revisions of the graph model, kind by kind. Blocks."""
    found = OutdatedKinds([], [])
    for entity in READ_KINDS.values():
        try:
            if database.read(holds_outdated_nodes(entity.name)):
                found.outdated.append(entity.plural)
        except (RetryableError, BatchTooLargeError):
            found.unknown.append(entity.plural)
    return found

"""The database connection: one driver, every call bounded, errors translated."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, Self

import neo4j
from neo4j.exceptions import Neo4jError

from connector.config import Neo4jSettings
from connector.errors import (
    AccessDeniedError,
    BatchTooLargeError,
    ConnectorError,
    FatalError,
    RetryableError,
    StaleGraphError,
)
from connector.interfaces import Span
from connector.neo4j import checkpoints
from connector.neo4j.driver import FROM_SETTINGS, new_driver
from connector.neo4j.failures import translate
from connector.neo4j.parameters import sent_rows
from connector.neo4j.probes import KEEP_PLAN
from connector.neo4j.schema import (
    DUPLICATES_SHOWN_MAX,
    SHOW_CONSTRAINTS,
    SHOW_INDEXES,
    Duplicates,
    Existing,
    Obstacle,
    SchemaError,
    SchemaItem,
    missing,
    obstacles,
    schema,
)
from connector.neo4j.statement import Statement

COUNTED_UPDATES = (
    "nodes_created", "nodes_deleted", "relationships_created", "relationships_deleted",
    "properties_set", "labels_added",
)  # fmt: skip
_ONLINE_SECONDS_MAX = 300


class ResultTable(NamedTuple):
    """The names of a result's columns, and its rows."""

    columns: Sequence[str]
    rows: list[list[Any]]


class Written(NamedTuple):
    """A committed transaction: its duration, the changes sent, and the server's own counts."""

    seconds: float
    changes: int
    updates: Mapping[str, int]
    """By the names of `COUNTED_UPDATES`."""


class Neo4jDatabase:
    """One database on one server. Thread-safe, like the driver; a context manager."""

    def __init__(self, settings: Neo4jSettings, *, auth: Any = FROM_SETTINGS) -> None:
        """Connect and check the credentials.

        ``auth`` replaces the user and password of the settings. It is whatever the driver accepts:
        ``(user, password)``, ``(user, password, realm)``, a ``neo4j.Auth``, an ``AuthManager``, or
        None for a server without authentication.

        Raises:
            FatalError: the server is unreachable, the password is wrong, or the database does not
                exist; the message says what to do.
        """
        self.on_write: Callable[[Written], None] = lambda _: None
        """Called after each committed transaction, on its thread."""
        self._settings = settings
        self._changed = threading.Condition()
        self._calls_in_flight = 0
        self._is_closed = False
        self._driver = new_driver(settings, auth)
        try:
            self.read("RETURN 1")  # proves address, password and database at once
        except AccessDeniedError as error:
            self.close()
            raise FatalError(str(error)) from error
        except RetryableError as error:
            self.close()
            raise FatalError(
                f"Neo4j at {settings.uri} does not respond ({error}). Check NEO4J_URI and that the"
                " server is running"
            ) from error
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self, wait_seconds: float = 0.0) -> None:
        """Close the connections once no call of another thread is in flight.

        Blocks for up to ``wait_seconds``. A connection belongs to one thread: closing it during a
        call would break both. Calls that take longer keep their connections until the process
        exits. Later calls raise RetryableError.
        """
        with self._changed:
            self._is_closed = True
            is_idle = self._changed.wait_for(lambda: self._calls_in_flight == 0, wait_seconds)
        if is_idle:
            self._driver.close()

    def read(self, cypher: str, rows: Sequence[Any] = (), **parameters: Any) -> list[list[Any]]:
        """Run a read-only query; returns its rows as lists of values. Content goes in ``rows``.

        Raises:
            ConnectorError: as `connector.interfaces.GraphWriter`.
        """
        return self.read_table(cypher, rows, **parameters).rows

    def read_table(self, cypher: str, rows: Sequence[Any] = (), **parameters: Any) -> ResultTable:
        """Like `read`; returns the names of the columns, too.

        Raises:
            ConnectorError: as `connector.interfaces.GraphWriter`.
        """
        with translated("read the graph"), self._session(neo4j.READ_ACCESS) as session:
            query = neo4j.Query(cypher, timeout=self._settings.transaction_timeout_seconds)
            with sent_rows(rows) as sent:
                result = session.run(query, parameters, batch={"rows": sent})
                return ResultTable(list(result.keys()), result.values())

    def write(
        self,
        statement: Statement,
        metadata: dict[str, Any],
        span: Span | None = None,
        *,
        advance: bool = False,
    ) -> None:
        """Run one statement in one transaction; on return the server has acknowledged the commit.

        ``metadata`` shows up in SHOW TRANSACTIONS. With a ``span`` nothing is written unless
        the span's checkpoint is found; ``advance`` also moves that checkpoint.

        Raises:
            StaleGraphError: the checkpoint was not found.
            ConnectorError: as `connector.interfaces.GraphWriter`.
        """
        # Auto-commit takes one round trip, an explicit transaction three. The server answers the
        # last pull after its commit, and consume() waits for that answer. Nothing is retried here:
        # that would hide failures from the sink, which must log that it is waiting.
        query = neo4j.Query(
            f"{KEEP_PLAN} {checkpoints.ADVANCE if span else ''} {statement.cypher}",
            metadata={"app": "imednet-connector", **metadata},
            timeout=self._settings.transaction_timeout_seconds,
        )
        started = time.monotonic()
        with (
            translated("write to the graph"),
            self._session(neo4j.WRITE_ACCESS) as session,
            sent_rows(statement.rows) as rows,
        ):
            position = _position(span, advance=advance) if span else {}
            done = session.run(query, position, batch={"rows": rows}).consume()
        if span and not done.counters.contains_updates:
            raise StaleGraphError("The graph is stale: it lacks events that were applied earlier")
        updates = {name: getattr(done.counters, name) for name in COUNTED_UPDATES}
        self.on_write(Written(time.monotonic() - started, statement.count, updates))

    def missing_schema(self) -> list[SchemaItem]:
        """The connector's constraints and indexes that are missing or not online."""
        return missing(schema(), self._existing_schema())

    def create_schema(self, items: Sequence[SchemaItem]) -> None:
        """Create these items, wait until they are online, and verify by rereading the schema.

        Several programs may do so at once. Blocks.

        Raises:
            SchemaError: some items are still missing; it gives the causes. All others exist.
        """
        # The server ignores CREATE ... IF NOT EXISTS if something else has the name.
        refusals: dict[SchemaItem, str | None] = {}
        for item in items:
            refusals[item] = self._refusal(item.cypher) or self._refusal(
                "CALL db.awaitIndex($name, $seconds)", name=item.name, seconds=_ONLINE_SECONDS_MAX
            )
        if still_missing := missing(items, self._existing_schema()):
            raise SchemaError(
                {item: self.obstacles(item, refusals[item]) for item in still_missing}
            )

    def obstacles(self, item: SchemaItem, refusal: str | None = None) -> list[Obstacle]:
        """Find the reasons why a missing item cannot be created."""
        duplicates = self._duplicates(item) if item.is_constraint else Duplicates()
        return obstacles(item, self._existing_schema(), duplicates, refusal)

    def _existing_schema(self) -> list[Existing]:
        return [
            Existing(*row) for show in (SHOW_CONSTRAINTS, SHOW_INDEXES) for row in self.read(show)
        ]

    def _refusal(self, cypher: str, **parameters: Any) -> str | None:
        """Run a schema statement; returns the server's code if the schema forbids it."""
        with (
            translated("create constraints and indexes"),
            self._session(neo4j.WRITE_ACCESS) as session,
        ):
            try:
                # Retried by the driver: programs that create the schema at once deadlock.
                session.execute_write(lambda tx: tx.run(cypher, parameters).consume())
            except Neo4jError as error:
                if ".Schema." in (error.code or ""):
                    return error.code
                raise
        return None

    def _duplicates(self, item: SchemaItem) -> Duplicates:
        """Find keys of several nodes; empty if the database fails: it is a hint, not a decision."""
        with contextlib.suppress(RetryableError, BatchTooLargeError):
            rows = self.read(f"{item.duplicates_cypher} LIMIT $most", most=DUPLICATES_SHOWN_MAX)
            ((count, studies),) = self.read(
                f"CALL () {{ {item.duplicates_cypher} }}"
                f" RETURN count(*), collect(DISTINCT {item.properties[0]})"
            )
            return Duplicates(rows, studies, count)
        return Duplicates()

    def missing_constraints(self) -> list[str]:
        """The statements that create the missing constraints. Blocks.

        Raises:
            ConnectorError: as `read`.
        """
        return [item.cypher for item in self.missing_schema() if item.is_constraint]

    def require_constraints(self) -> None:
        """Refuse to continue without the constraints: MERGE alone creates duplicates.

        Raises:
            FatalError: constraints are missing; it gives the statements that create them.
        """
        if missing := self.missing_constraints():
            raise FatalError(
                "Constraints are missing from the graph. Run `imednet-connector setup`, or:\n  "
                + ";\n  ".join(missing)
                + ";"
            )

    @contextmanager
    def _session(self, access: str) -> Iterator[neo4j.Session]:
        with self._changed:
            if self._is_closed:
                raise RetryableError("The connection to Neo4j is closed")
            self._calls_in_flight += 1
        name = self._settings.database
        try:
            with self._driver.session(database=name, default_access_mode=access) as session:
                yield session
        finally:
            with self._changed:
                self._calls_in_flight -= 1
                self._changed.notify_all()


def _position(span: Span, *, advance: bool) -> dict[str, Any]:
    """Return the parameters of `checkpoints.ADVANCE`."""
    return (span if advance else span._replace(end=span.start))._asdict()


@contextmanager
def translated(action: str) -> Iterator[None]:
    """Translate any exception of the driver into one of our errors: "Cannot ``action``: ..."."""
    try:
        yield
    except ConnectorError:
        raise
    except Exception as error:
        raise translate(error, action) from error

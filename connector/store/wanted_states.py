"""The states that a graph should hold, in a temporary SQLite file that no other program can open.

A verification of any size takes little memory. SQLite deletes the file's name as soon as it is
open, so that no record content outlives the process, however it ends.
"""

import os
import sqlite3
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from connector.errors import FatalError
from connector.model.comparison import Difference, Problem
from connector.model.events import EntityId, Identity

_SCHEMA = """
CREATE TABLE state (
  entity TEXT NOT NULL, study TEXT NOT NULL, id NOT NULL, version INTEGER NOT NULL, value BLOB);
CREATE INDEX state_key ON state (entity, study, id, version);
CREATE TABLE found (entity TEXT, study TEXT, id, PRIMARY KEY (entity, study, id)) WITHOUT ROWID;
CREATE TABLE difference (
  entity TEXT, study TEXT, id, problem TEXT, names TEXT, wanted INTEGER, look INTEGER,
  looks INTEGER NOT NULL DEFAULT 1, PRIMARY KEY (entity, study, id, problem)) WITHOUT ROWID;
"""
_PUT_DIFFERENCE = """
INSERT INTO difference (entity, study, id, problem, names, wanted, look)
VALUES (?, ?, ?, ?, ?, ?, ?)
ON CONFLICT DO UPDATE SET names = excluded.names, look = excluded.look,
  looks = CASE WHEN wanted = excluded.wanted THEN looks + 1 ELSE 1 END, wanted = excluded.wanted
"""
_IDS_PER_QUERY = 500
_BEFORE_ALL = -(2**63)
"""Every id is larger: SQLite sorts texts after numbers."""
_OF_KIND = "entity = ? AND study = ?"


def temporary_folder(environment: Mapping[str, str]) -> Path:
    """Return the folder in which SQLite creates temporary files (https://sqlite.org/tempfiles.html)."""
    named = [environment.get("SQLITE_TMPDIR"), environment.get("TMPDIR")]
    folders = [*filter(None, named), "/var/tmp", "/usr/tmp", "/tmp"]  # noqa: S108 - named, not used
    usable = (each for each in folders if os.access(f"{each}/.", os.W_OK | os.X_OK))
    return Path(next(usable, "."))


class StoredState(NamedTuple):
    """One version of an entity and its encoded event; None: a tombstone."""

    version: int
    value: bytes | None


class FoundDifference(NamedTuple):
    """A difference, and whether two looks in a row have found it for the same wanted state."""

    difference: Difference
    is_confirmed: bool


class WantedStates:
    """The states, which of them were found in the graph, and the differences. For one thread."""

    def __init__(self) -> None:
        self._db = sqlite3.connect("", isolation_level=None)  # "": a private temporary file
        self._db.execute("PRAGMA journal_mode = OFF")
        self._db.execute("PRAGMA synchronous = OFF")
        self._db.executescript(_SCHEMA)
        self._db.execute("BEGIN")

    def close(self) -> None:
        """Delete everything."""
        self._db.close()

    def add(self, states: Iterable[tuple[Identity, StoredState]]) -> None:
        """Store these states.

        Raises:
            FatalError: there is no space for them.
        """
        rows = (
            (each.entity, each.study_key, each.id, version, value)
            for each, (version, value) in states
        )
        self._write("INSERT INTO state VALUES (?, ?, ?, ?, ?)", rows)

    def _write(self, statement: str, rows: Iterable[tuple[Any, ...]]) -> None:
        try:
            self._db.executemany(statement, rows)
        except sqlite3.OperationalError as error:
            raise FatalError(
                f"Cannot store the states to compare with: {error}. Set SQLITE_TMPDIR to a folder"
                " with more space"
            ) from None

    def clear(self, entity: str, study_key: str) -> None:
        """Forget the states of one kind in a study."""
        self._write(f"DELETE FROM state WHERE {_OF_KIND}", [(entity, study_key)])  # noqa: S608 - a constant

    def studies(self) -> set[str]:
        """The keys of the studies with states."""
        return {study for (study,) in self._db.execute("SELECT DISTINCT study FROM state")}

    def ids(self, entity: str, study_key: str) -> Iterator[EntityId]:
        """Yield the ids of one kind in a study."""
        query = f"SELECT DISTINCT id FROM state WHERE {_OF_KIND}"  # noqa: S608 - a constant
        for (found,) in self._db.execute(query, (entity, study_key)):
            yield found

    def versions_of(self, identity: Identity) -> list[StoredState]:
        """The states of one entity, the newest first; of one version, in the order of `add`.

        The graph keeps the first of one version that can be applied.
        """
        rows = self._db.execute(
            f"SELECT version, value FROM state WHERE {_OF_KIND} AND id = ?"  # noqa: S608 - a constant
            " ORDER BY version DESC, rowid",
            (identity.entity, identity.study_key, identity.id),
        )
        return [StoredState(*row) for row in rows]

    def mark_found(self, entity: str, study_key: str, ids: Iterable[EntityId]) -> None:
        """Record that the graph has these nodes."""
        rows = ((entity, study_key, each) for each in ids)
        self._write("INSERT OR IGNORE INTO found VALUES (?, ?, ?)", rows)

    def not_found(self, entity: str, study_key: str) -> Iterator[EntityId]:
        """Yield the ids of the kind's states that were not marked as found."""
        query = (
            "SELECT DISTINCT id FROM state AS s WHERE s.entity = ? AND s.study = ? AND NOT EXISTS"
            " (SELECT 1 FROM found AS f WHERE f.entity = s.entity AND f.study = s.study"
            " AND f.id = s.id)"
        )
        for (found,) in self._db.execute(query, (entity, study_key)):
            yield found

    def put_differences(self, found: Iterable[tuple[Difference, int]], look: int) -> None:
        """Store the differences that a look found, each with what identifies its two sides."""
        rows = (
            (each.identity.entity, each.identity.study_key, each.identity.id, each.problem,
             orjson.dumps(each.names), wanted, look)
            for each, wanted in found
        )  # fmt: skip
        self._write(_PUT_DIFFERENCE, rows)

    def drop_differences_before(self, look: int) -> None:
        """Forget the differences that this look did not find again."""
        self._db.execute("DELETE FROM difference WHERE look < ?", (look,))

    def differences(self, limit: int = -1) -> Iterator[FoundDifference]:
        """Yield the differences, confirmed ones first; at most ``limit``, if it is not negative."""
        query = "SELECT * FROM difference ORDER BY looks < 2, entity, study, id LIMIT ?"
        for kind, study, own_id, problem, names, _, _, looks in self._db.execute(query, (limit,)):
            identity = Identity(study, kind, own_id)
            found = Difference(identity, Problem(problem), tuple(orjson.loads(names)))
            yield FoundDifference(found, is_confirmed=looks > 1)

    def differing(
        self, entity: str, study_key: str, problems: Collection[Problem] = tuple(Problem)
    ) -> Iterator[list[EntityId]]:
        """Yield the ids of the kind's entities with one of these problems, in chunks."""
        marks = ", ".join("?" * len(problems))
        query = (
            f"SELECT DISTINCT id FROM difference WHERE {_OF_KIND} AND id > ?"  # noqa: S608 - constants
            f" AND problem IN ({marks}) ORDER BY id LIMIT {_IDS_PER_QUERY}"
        )
        after: EntityId = _BEFORE_ALL
        while rows := self._db.execute(query, (entity, study_key, after, *problems)).fetchall():
            yield [own_id for (own_id,) in rows]
            (after,) = rows[-1]

    def problems(self) -> Counter[tuple[str, Problem]]:
        """The number of differences by kind and problem."""
        query = "SELECT entity, problem, count(*) FROM difference GROUP BY entity, problem"
        return Counter(
            {(kind, Problem(problem)): count for kind, problem, count in self._db.execute(query)}
        )

    def differing_studies(self) -> list[str]:
        """The keys of the studies with differences."""
        query = "SELECT DISTINCT study FROM difference ORDER BY study"
        return [study for (study,) in self._db.execute(query)]

    def unconfirmed(self) -> int:
        """The number of differences that only one look in a row has found."""
        query = "SELECT count(*) FROM difference WHERE looks < 2"
        found: int = self._db.execute(query).fetchone()[0]
        return found

"""The known states of one study in a local SQLite file: a cache, never the truth."""

import hashlib
import sqlite3
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain, islice
from pathlib import Path
from typing import Any

import orjson

from connector.errors import FatalError, RetryableError
from connector.interfaces import InvalidRow, VanishedRows
from connector.model.cursor import Cursor
from connector.model.entities import DEFINING_KINDS
from connector.model.events import Delivery, EntityId, Identity, KnownState
from connector.model.typed_values import Definition

_SCHEMA = """
CREATE TABLE IF NOT EXISTS known (
  entity TEXT NOT NULL, id NOT NULL, version INTEGER NOT NULL, hash BLOB, subject_id INTEGER,
  seen_pass INTEGER NOT NULL DEFAULT 0, missed INTEGER NOT NULL DEFAULT 0,
  delivery INTEGER NOT NULL DEFAULT 0, definition TEXT,
  PRIMARY KEY (entity, id)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS invalid_row (hash BLOB PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS state (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
"""
_LAYOUT = 3
_ROWS_PER_PUT = 100
_PUT = """
INSERT INTO known (entity, id, version, hash, subject_id, definition, seen_pass) VALUES {rows}
ON CONFLICT DO UPDATE SET version = excluded.version, hash = excluded.hash,
  subject_id = excluded.subject_id, definition = excluded.definition,
  seen_pass = excluded.seen_pass, missed = 0, delivery = 0
  WHERE excluded.version >= version
"""
COLUMNS = "id, version, hash, subject_id, delivery, definition"
_SIGHTINGS_TO_DELETE = 2
_IDS_PER_QUERY = 500


class SqliteKnownStore:
    """`connector.interfaces.KnownStore` in one file per study; used by one thread."""

    def __init__(self, path: Path | str) -> None:
        """Take the file, which the first call opens or creates; ``:memory:`` uses none."""
        self._path = path
        self._opened: sqlite3.Connection | None = None

    @property
    def _db(self) -> sqlite3.Connection:
        """The connection, opened now if it is not yet.

        Raises:
            FatalError: the folder is not writable, or another process uses the file.
        """
        if self._opened is None:
            self._opened = self._open(self._path)
        return self._opened

    def _open(self, path: Path | str) -> sqlite3.Connection:
        try:
            if isinstance(path, Path):
                path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            try:
                return self._connect(path)
            except sqlite3.DatabaseError as error:
                if error.sqlite_errorcode == sqlite3.SQLITE_BUSY:
                    raise FatalError(
                        f"Cannot open {path}: another source uses it. Stop it, or set"
                        " SOURCE_STATE_DIR to another folder"
                    ) from None
                # Replace an unreadable cache: the topic has everything.
                if isinstance(path, Path):
                    path.unlink(missing_ok=True)
                return self._connect(path)
        except (OSError, sqlite3.Error) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise FatalError(
                f"Cannot write {path}: {reason}. Set SOURCE_STATE_DIR to a writable folder"
            ) from None

    def _connect(self, path: Path | str) -> sqlite3.Connection:
        if isinstance(path, Path):  # SQLite gives its -wal and -shm files the same mode
            path.touch(mode=0o600)
            path.chmod(0o600)
        # Losing the last transactions in a power cut is harmless: `matches` then returns False.
        db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        # Keep other processes out: their changes would go unnoticed.
        db.execute("PRAGMA locking_mode = EXCLUSIVE")
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = NORMAL")
        if db.execute("PRAGMA user_version").fetchone()[0] not in (0, _LAYOUT):
            raise sqlite3.DatabaseError("unknown layout")
        db.executescript(_SCHEMA)
        db.execute(f"PRAGMA user_version = {_LAYOUT}")
        return db

    def close(self) -> None:
        """Close the file."""
        if self._opened is not None:
            self._opened.close()

    def matches(self, cursor: Cursor) -> bool:
        """See `connector.interfaces.KnownStore`."""
        return self._matched_cursor() == _name(cursor)

    def _matched_cursor(self) -> str | None:
        try:
            found = self._db.execute("SELECT value FROM state WHERE name = 'cursor'").fetchone()
        except sqlite3.DatabaseError:
            self._recreate()
            return None
        return found[0] if found else None

    def rebuild(self, states: Iterable[tuple[Identity, KnownState]], cursor: Cursor) -> None:
        """See `connector.interfaces.KnownStore`."""
        is_same_lineage = (self._matched_cursor() or "").startswith(f"{cursor.lineage}/")
        with self.update() as update:
            if is_same_lineage:
                lost = "CASE delivery WHEN 2 THEN 2 ELSE 1 END"
                self._db.execute(f"UPDATE known SET seen_pass = 0, missed = 0, delivery = {lost}")  # noqa: S608 - constants
            else:
                self._db.execute("DELETE FROM known")
                self._db.execute("DELETE FROM invalid_row")
            rows = ((each.entity, each.id, *_columns(state), 0) for each, state in states)
            _put(self._db, rows)
            update.match(cursor)

    def _recreate(self) -> None:
        """Replace a damaged file with an empty one; the topic is then read again."""
        if not isinstance(self._path, Path):
            return
        self._db.close()
        try:
            for ending in ("", "-wal", "-shm"):
                self._path.with_name(self._path.name + ending).unlink(missing_ok=True)
            self._opened = self._connect(self._path)
        except (OSError, sqlite3.Error) as error:
            raise FatalError(
                f"Cannot recreate {self._path}: {error}. Set SOURCE_STATE_DIR to a writable folder"
            ) from error

    def lookup(self, entity: str, ids: Sequence[EntityId]) -> dict[EntityId, KnownState]:
        """See `connector.interfaces.KnownStore`."""
        found: dict[EntityId, KnownState] = {}
        for placeholders, part in _parts(ids):
            query = (
                f"SELECT {COLUMNS} FROM known"  # noqa: S608 - placeholders only
                f" WHERE entity = ? AND id IN ({placeholders})"
            )
            for row in self._db.execute(query, (entity, *part)):
                found[row[0]] = known_state(row[1:])
        return found

    def definitions(self) -> list[Definition]:
        """See `connector.interfaces.KnownStore`."""
        # By kind, which the key begins with: a scan would read the records of the study, too.
        query = "SELECT definition FROM known WHERE entity = ? AND definition IS NOT NULL"
        return [
            Definition(*orjson.loads(text))
            for entity in DEFINING_KINDS
            for (text,) in self._db.execute(query, (entity.name,))
        ]

    @contextmanager
    def update(self) -> Iterator["_Update"]:
        """See `connector.interfaces.KnownStore`."""
        try:
            self._db.execute("BEGIN")
            yield _Update(self._db)
            self._db.execute("COMMIT")
        except sqlite3.OperationalError as error:
            self._roll_back()
            raise RetryableError(f"Cannot write the known-state cache: {error}") from error
        except sqlite3.DatabaseError as error:
            self._recreate()
            raise RetryableError(
                f"The known-state cache was damaged and has been recreated: {error}"
            ) from error
        except BaseException:
            self._roll_back()
            raise

    def _roll_back(self) -> None:
        if self._db.in_transaction:
            self._db.execute("ROLLBACK")


class _Update:
    """`connector.interfaces.KnownUpdate` on an open SQLite transaction."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def put(self, entity: str, states: Mapping[EntityId, KnownState], full_pass: int) -> None:
        rows = (
            (entity, entity_id, *_columns(state), full_pass) for entity_id, state in states.items()
        )
        _put(self._db, rows)

    def has_listed(self, entity: str, ids: Sequence[EntityId], full_pass: int) -> bool:
        query = "SELECT 1 FROM known WHERE entity = ? AND id IN ({ids}) AND seen_pass = ? LIMIT 1"
        return any(
            self._db.execute(query.format(ids=placeholders), (entity, *part, full_pass)).fetchone()
            for placeholders, part in _parts(ids)
        )

    def seen(self, entity: str, ids: Iterable[EntityId], full_pass: int) -> None:
        self._db.executemany(
            "UPDATE known SET seen_pass = ?, missed = 0 WHERE entity = ? AND id = ?",
            ((full_pass, entity, entity_id) for entity_id in ids),
        )

    def divert(self, identities: Collection[Identity]) -> None:
        self._db.executemany(
            "UPDATE known SET delivery = ? WHERE entity = ? AND id = ?",
            ((Delivery.DIVERTED, each.entity, each.id) for each in identities),
        )

    def vanished(self, entity: str, full_pass: int) -> VanishedRows:
        live = "FROM known WHERE entity = ? AND hash IS NOT NULL"
        (known,) = self._db.execute(f"SELECT count(*) {live}", (entity,)).fetchone()
        (listed,) = self._db.execute(
            f"SELECT count(*) {live} AND seen_pass = ?", (entity, full_pass)
        ).fetchone()
        parameters = (entity, full_pass, _SIGHTINGS_TO_DELETE - 1)
        (missed,) = self._db.execute(
            f"SELECT count(*) {live} AND seen_pass <> ? AND missed < ?", parameters
        ).fetchone()
        gone = self._db.execute(
            f"SELECT {COLUMNS} {live} AND seen_pass <> ? AND missed >= ?", parameters
        )
        undelivered = self._db.execute(
            f"SELECT {COLUMNS} FROM known WHERE entity = ? AND hash IS NULL AND delivery = ?",  # noqa: S608
            (entity, Delivery.LOST),
        )
        states = ({row[0]: known_state(row[1:]) for row in rows} for rows in (gone, undelivered))
        return VanishedRows(known, listed, missed, *states)

    def miss(self, entity: str, full_pass: int) -> None:
        self._db.execute(
            "UPDATE known SET missed = missed + 1"
            " WHERE entity = ? AND hash IS NOT NULL AND seen_pass <> ?",
            (entity, full_pass),
        )

    def is_new_invalid(self, row: InvalidRow) -> bool:
        digest = hashlib.blake2b(row.entity.encode() + b"\0" + row.raw, digest_size=16).digest()
        before = self._db.total_changes
        self._db.execute("INSERT OR IGNORE INTO invalid_row VALUES (?)", (digest,))
        return self._db.total_changes > before

    def match(self, cursor: Cursor) -> None:
        self._db.execute("INSERT OR REPLACE INTO state VALUES ('cursor', ?)", (_name(cursor),))


def _parts(ids: Sequence[EntityId]) -> Iterator[tuple[str, Sequence[EntityId]]]:
    """Yield the ids in parts that fit a query, each with its placeholders."""
    for start in range(0, len(ids), _IDS_PER_QUERY):
        part = ids[start : start + _IDS_PER_QUERY]
        yield ",".join("?" * len(part)), part


def _put(db: sqlite3.Connection, rows: Iterator[tuple[Any, ...]]) -> None:
    # Many rows per statement: each statement releases the GIL, and we wait to get it back.
    while part := list(islice(rows, _ROWS_PER_PUT)):
        placeholders = ", ".join(["(?, ?, ?, ?, ?, ?, ?)"] * len(part))
        db.execute(_PUT.format(rows=placeholders), list(chain.from_iterable(part)))


def _name(cursor: Cursor) -> str:
    return f"{cursor.lineage}/{cursor.sequence}"


def _columns(state: KnownState) -> tuple[int, bytes | None, int | None, str | None]:
    digest = None if state.content_hash is None else bytes.fromhex(state.content_hash)
    definition = None if state.definition is None else orjson.dumps(list(state.definition)).decode()
    return state.version, digest, state.subject_id, definition


def known_state(row: tuple[int, bytes | None, int | None, int, str | None]) -> KnownState:
    """Convert the columns after the id."""
    version, digest, subject_id, delivery, definition = row
    return KnownState(
        version,
        None if digest is None else digest.hex(),
        subject_id,
        Delivery(delivery),
        None if definition is None else Definition(*orjson.loads(definition)),
    )

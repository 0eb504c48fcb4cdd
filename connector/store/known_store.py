"""The known states of one study in a local SQLite file: a cache, never the truth."""

import hashlib
import sqlite3
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain, islice
from pathlib import Path
from typing import Any

from connector.errors import FatalError, RetryableError
from connector.interfaces import InvalidRow, VanishedRows
from connector.model.cursor import Cursor
from connector.model.events import Delivery, EntityId, Identity, KnownState

_SCHEMA = """
CREATE TABLE IF NOT EXISTS known (
  entity TEXT NOT NULL, id NOT NULL, version INTEGER NOT NULL, hash BLOB, subject_id INTEGER,
  seen_pass INTEGER NOT NULL DEFAULT 0, missed INTEGER NOT NULL DEFAULT 0,
  delivery INTEGER NOT NULL DEFAULT 0,
  PRIMARY KEY (entity, id)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS invalid_row (hash BLOB PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS state (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
"""
_LAYOUT = 2
_ROWS_PER_PUT = 100
_PUT = """
INSERT INTO known (entity, id, version, hash, subject_id, seen_pass) VALUES {rows}
ON CONFLICT DO UPDATE SET version = excluded.version, hash = excluded.hash,
  subject_id = excluded.subject_id, seen_pass = excluded.seen_pass, missed = 0, delivery = 0
  WHERE excluded.version >= version
"""
_COLUMNS = "id, version, hash, subject_id, delivery"
_SIGHTINGS_TO_DELETE = 2
_IDS_PER_QUERY = 500


class SqliteKnownStore:
    """`connector.interfaces.KnownStore` in one file per study; used by one thread."""

    def __init__(self, path: Path | str) -> None:
        """Open or make the file; ``:memory:`` for none.

        Raises:
            FatalError: the folder cannot be written.
        """
        try:
            if isinstance(path, Path):
                path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            try:
                self._db = self._opened(path)
            except sqlite3.DatabaseError as error:
                if error.sqlite_errorcode == sqlite3.SQLITE_BUSY:
                    raise FatalError(
                        f"{path} is in use by another source: stop it, or set SOURCE_STATE_DIR to"
                        " another folder"
                    ) from None
                # A cache that cannot be read is no cache: the topic has it all.
                if isinstance(path, Path):
                    path.unlink(missing_ok=True)
                self._db = self._opened(path)
        except (OSError, sqlite3.Error) as error:
            said = getattr(error, "strerror", None) or str(error)
            raise FatalError(
                f"cannot write {path}: {said}: set SOURCE_STATE_DIR to a folder that can be written"
            ) from None
        self._path = path

    def _opened(self, path: Path | str) -> sqlite3.Connection:
        if isinstance(path, Path):  # SQLite gives its -wal and -shm files the same mode
            path.touch(mode=0o600)
            path.chmod(0o600)
        # Losing the last transactions at a power cut is harmless: `matches` then says so.
        db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        # Another process would change what this one knows, unseen: it is kept out to the end.
        db.execute("PRAGMA locking_mode = EXCLUSIVE")
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = NORMAL")
        if db.execute("PRAGMA user_version").fetchone()[0] not in (0, _LAYOUT):
            raise sqlite3.DatabaseError("another layout")
        db.executescript(_SCHEMA)
        db.execute(f"PRAGMA user_version = {_LAYOUT}")
        return db

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def matches(self, cursor: Cursor) -> bool:
        """See `connector.interfaces.KnownStore`."""
        return self._cursor_name() == _name(cursor)

    def _cursor_name(self) -> str | None:
        try:
            found = self._db.execute("SELECT value FROM state WHERE name = 'cursor'").fetchone()
        except sqlite3.DatabaseError:
            self._made_anew()
            return None
        return found[0] if found else None

    def rebuild(self, states: Iterable[tuple[Identity, KnownState]], cursor: Cursor) -> None:
        """See `connector.interfaces.KnownStore`."""
        is_of_lineage = (self._cursor_name() or "").startswith(f"{cursor.lineage}/")
        with self.update() as update:
            if is_of_lineage:
                lost = "CASE delivery WHEN 2 THEN 2 ELSE 1 END"
                self._db.execute(f"UPDATE known SET seen_pass = 0, missed = 0, delivery = {lost}")  # noqa: S608 - constants
            else:
                self._db.execute("DELETE FROM known")
                self._db.execute("DELETE FROM invalid_row")
            _put(self._db, ((who.entity, who.id, *_columns(state), 0) for who, state in states))
            update.match(cursor)

    def _made_anew(self) -> None:
        """A damaged file is no cache: without it, the topic is read again."""
        if not isinstance(self._path, Path):
            return
        self._db.close()
        try:
            for ending in ("", "-wal", "-shm"):
                self._path.with_name(self._path.name + ending).unlink(missing_ok=True)
            self._db = self._opened(self._path)
        except (OSError, sqlite3.Error) as error:
            raise FatalError(
                f"cannot make {self._path} anew: {error}: set SOURCE_STATE_DIR"
            ) from error

    def lookup(self, entity: str, ids: Sequence[EntityId]) -> dict[EntityId, KnownState]:
        """See `connector.interfaces.KnownStore`."""
        found: dict[EntityId, KnownState] = {}
        for start in range(0, len(ids), _IDS_PER_QUERY):
            part = ids[start : start + _IDS_PER_QUERY]
            marks = ",".join("?" * len(part))
            query = (
                f"SELECT {_COLUMNS} FROM known"  # noqa: S608 - marks only
                f" WHERE entity = ? AND id IN ({marks})"
            )
            for row in self._db.execute(query, (entity, *part)):
                found[row[0]] = _known(row[1:])
        return found

    @contextmanager
    def update(self) -> Iterator["_Update"]:
        """See `connector.interfaces.KnownStore`."""
        try:
            self._db.execute("BEGIN")
            yield _Update(self._db)
            self._db.execute("COMMIT")
        except sqlite3.OperationalError as error:
            self._roll_back()
            raise RetryableError(f"the known-state cache cannot be written: {error}") from error
        except sqlite3.DatabaseError as error:
            self._made_anew()
            raise RetryableError(f"the known-state cache is damaged, made anew: {error}") from error
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

    def seen(self, entity: str, ids: Iterable[EntityId], full_pass: int) -> None:
        self._db.executemany(
            "UPDATE known SET seen_pass = ?, missed = 0 WHERE entity = ? AND id = ?",
            ((full_pass, entity, entity_id) for entity_id in ids),
        )

    def divert(self, identities: Collection[Identity]) -> None:
        self._db.executemany(
            "UPDATE known SET delivery = ? WHERE entity = ? AND id = ?",
            ((Delivery.DIVERTED, who.entity, who.id) for who in identities),
        )

    def vanished(self, entity: str, full_pass: int) -> VanishedRows:
        live = "FROM known WHERE entity = ? AND hash IS NOT NULL"
        (known,) = self._db.execute(f"SELECT count(*) {live}", (entity,)).fetchone()
        (listed,) = self._db.execute(
            f"SELECT count(*) {live} AND seen_pass = ?", (entity, full_pass)
        ).fetchone()
        before = (entity, full_pass, _SIGHTINGS_TO_DELETE - 1)
        (missed,) = self._db.execute(
            f"SELECT count(*) {live} AND seen_pass <> ? AND missed < ?", before
        ).fetchone()
        gone = self._db.execute(
            f"SELECT {_COLUMNS} {live} AND seen_pass <> ? AND missed >= ?", before
        )
        undelivered = self._db.execute(
            f"SELECT {_COLUMNS} FROM known WHERE entity = ? AND hash IS NULL AND delivery = ?",  # noqa: S608
            (entity, Delivery.LOST),
        )
        states = ({row[0]: _known(row[1:]) for row in rows} for rows in (gone, undelivered))
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


def _put(db: sqlite3.Connection, rows: Iterator[tuple[Any, ...]]) -> None:
    # Many rows a statement: at each one other threads get the interpreter, and we wait for it.
    while part := list(islice(rows, _ROWS_PER_PUT)):
        marks = ", ".join(["(?, ?, ?, ?, ?, ?)"] * len(part))
        db.execute(_PUT.format(rows=marks), list(chain.from_iterable(part)))


def _name(cursor: Cursor) -> str:
    return f"{cursor.lineage}/{cursor.sequence}"


def _columns(state: KnownState) -> tuple[int, bytes | None, int | None]:
    digest = None if state.content_hash is None else bytes.fromhex(state.content_hash)
    return state.version, digest, state.subject_id


def _known(row: tuple[int, bytes | None, int | None, int]) -> KnownState:
    version, digest, subject_id, delivery = row
    content_hash = None if digest is None else digest.hex()
    return KnownState(version, content_hash, subject_id, Delivery(delivery))

"""Names a study's cache file, and reads one entity's known state from it."""

import hashlib
import re
import sqlite3
from contextlib import closing
from pathlib import Path

from connector.config import Settings
from connector.errors import RetryableError
from connector.model.events import Identity, KnownState
from connector.store.known_store import COLUMNS, known_state

_READABLE_MAX = 60


def cache_file(study: str, topic: str, cluster_id: str) -> str:
    """Return the name of the study's cache file, unique per study, topic and cluster.

    It is short and plain ASCII whatever the study key. A recreated topic keeps the same file, so
    that the source can republish the states that only the old topic had.
    """
    readable = re.sub(r"[^A-Za-z0-9_-]", "_", study)[:_READABLE_MAX]
    identity = f"{study}\0{topic}\0{cluster_id}".encode()
    return f"{readable}-{hashlib.blake2b(identity, digest_size=10).hexdigest()}.sqlite"


def cache_path(settings: Settings, study: str, cluster_id: str) -> Path:
    """The study's cache file; its brokers stand for a cluster that reports no id."""
    cluster = cluster_id or settings.kafka.bootstrap_servers
    return settings.source.state_dir / cache_file(study, settings.kafka.events_topic, cluster)


def cached_state(path: Path, identity: Identity) -> KnownState | None:
    """Look the entity up in a cache that no source uses; None if the cache does not have it.

    Raises:
        RetryableError: a running source uses the file (it keeps all others out), there is no such
            file, or it cannot be read.
    """
    if not path.exists():
        raise RetryableError("this machine has no cache of the study")
    query = f"SELECT {COLUMNS} FROM known WHERE entity = ? AND id = ?"  # noqa: S608 - constants
    try:
        address = f"{path.resolve().as_uri()}?mode=ro"
        with closing(sqlite3.connect(address, uri=True, timeout=1)) as db:
            row = db.execute(query, (identity.entity, identity.id)).fetchone()
    except sqlite3.Error as error:
        is_used = error.sqlite_errorcode == sqlite3.SQLITE_BUSY
        reason = "a running source uses it" if is_used else str(error)
        raise RetryableError(f"the cache cannot be read: {reason}") from None
    return known_state(row[1:]) if row else None

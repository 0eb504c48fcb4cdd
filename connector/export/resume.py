"""Decides whether an export resumes an interrupted one, and where. Pure."""

from collections.abc import Collection, Mapping
from typing import NamedTuple

from pydantic import BaseModel, ValidationError

from connector.errors import FatalError
from connector.model.cursor import Cursor
from connector.model.entities import ENTITIES
from connector.model.entity import Reading
from connector.neo4j.export_positions import StoredPosition
from connector.source.tracks import Mode, Track

RESUME_SECONDS_MAX = 3600
"""An interrupted export is resumed within this time. Later it starts over, since the kinds that it
had finished would be out of date."""


class ExportProgress(BaseModel):
    """The progress of an export up to its cursor, by kind."""

    read: dict[str, int] = {}
    """Rows read."""
    batches: dict[str, int] = {}
    refused: dict[str, str] = {}
    """The records that cannot be stored, by batch. No content."""
    failed: dict[str, str] = {}
    """Why kinds were not exported, or not swept."""
    swept: list[str] = []
    """Kinds whose vanished rows were looked for."""
    settings: dict[str, bool] = {}
    """Those that determine what is written."""


class ExportStart(NamedTuple):
    """Where an export starts, and why (for the log). ``why`` is None if none was interrupted."""

    cursor: Cursor
    progress: ExportProgress
    is_resumed: bool = False
    why: str | None = None


def export_start(
    kept: StoredPosition | None,
    study_key: str,
    kinds: Collection[str],
    settings: dict[str, bool],
    now_ms: int,
) -> ExportStart:
    """Resume from the stored position if it is recent enough and has these settings."""
    new = ExportStart(Cursor(study_key=study_key), ExportProgress(settings=settings))
    if kept is None:
        return new
    found = _resumable(kept, settings, now_ms)
    if isinstance(found, str):
        return new._replace(why=found)
    cursor, progress = found
    if all(_is_exported(cursor, name) for name in kinds):
        return new  # it was complete; only its position was not deleted
    positions = {}
    for name, position in cursor.positions.items():
        kind = name.partition(".")[0]
        if position.passes or ENTITIES[kind].reading is not Reading.LISTED:
            positions[name] = position
        else:  # numbered pages may have moved since then
            progress.read[kind] = 0
    resumed = cursor.model_copy(update={"positions": positions})
    return ExportStart(resumed, progress, is_resumed=True, why="it was interrupted")


def _resumable(
    kept: StoredPosition, settings: Mapping[str, bool], now_ms: int
) -> tuple[Cursor, ExportProgress] | str:
    """Parse the position; or say why it cannot be resumed."""
    if kept.written_ms is None or kept.progress is None:
        return "its position was written by an earlier version of this program"
    if not 0 <= now_ms - kept.written_ms < RESUME_SECONDS_MAX * 1000:
        return f"it was interrupted more than {RESUME_SECONDS_MAX} seconds ago"
    try:
        cursor = Cursor.from_bytes(kept.cursor.encode())
        progress = ExportProgress.model_validate_json(kept.progress)
    except (FatalError, ValidationError):
        return "its position cannot be read"
    if progress.settings != settings:
        return "it had other settings"
    if any(name.partition(".")[0] not in ENTITIES for name in cursor.positions):
        return "it has kinds that this version does not know"
    return cursor, progress


def _is_exported(cursor: Cursor, kind: str) -> bool:
    return cursor.position(Track(ENTITIES[kind], Mode.FULL).name).passes > 0

"""Whether an export resumes an interrupted one, and where. Pure."""

from collections.abc import Collection
from typing import NamedTuple

from pydantic import BaseModel, ValidationError

from connector.errors import FatalError
from connector.model.cursor import Cursor
from connector.model.entities import ENTITIES, Reading
from connector.neo4j.export_places import KeptPlace
from connector.source.tracks import Mode, Track

RESUME_SECONDS_MAX = 3600
"""An interrupted export is resumed within this time. Later, the kinds that it had finished would
be left out of date: it starts over."""


class ExportProgress(BaseModel):
    """What an export has done up to its cursor, by kind."""

    read: dict[str, int] = {}
    """Rows."""
    batches: dict[str, int] = {}
    refused: dict[str, str] = {}
    """By batch: the records that cannot be stored. No content."""


class ExportStart(NamedTuple):
    """Where an export starts, and why: for the log. None: nothing was interrupted."""

    cursor: Cursor
    progress: ExportProgress
    is_resumed: bool = False
    why: str | None = None


def starting(
    kept: KeptPlace | None, study_key: str, kinds: Collection[str], now_ms: int
) -> ExportStart:
    """Resume the kept place if it is young enough, else start over."""
    new = ExportStart(Cursor(study_key=study_key), ExportProgress())
    if kept is None:
        return new
    if kept.written_ms is None or kept.progress is None:
        return new._replace(why="an earlier version of this program wrote its place")
    if not 0 <= now_ms - kept.written_ms < RESUME_SECONDS_MAX * 1000:
        return new._replace(why=f"it was interrupted more than {RESUME_SECONDS_MAX} seconds ago")
    try:
        cursor = Cursor.from_bytes(kept.cursor.encode())
        progress = ExportProgress.model_validate_json(kept.progress)
    except (FatalError, ValidationError):
        return new._replace(why="its place cannot be read")
    if all(_place_is_done(cursor, name) for name in kinds):
        return new  # it was complete, but for saying so
    places = {}
    for name, place in cursor.places.items():
        kind = name.partition(".")[0]
        if place.passes or ENTITIES[kind].reading is not Reading.LISTED:
            places[name] = place
        else:  # numbered pages may have moved since then
            progress.read[kind] = 0
    resumed = cursor.model_copy(update={"places": places})
    return ExportStart(resumed, progress, is_resumed=True, why="it was interrupted")


def _place_is_done(cursor: Cursor, kind: str) -> bool:
    return cursor.place(Track(ENTITIES[kind], Mode.FULL).name).passes > 0

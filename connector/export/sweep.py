"""Delete from the graph what the API lists no more, at the end of a complete pass of one kind."""

from collections.abc import Sequence

import structlog

from connector.export.neo4j_sink import Neo4jExportSink
from connector.export.vanished import MISSING_MAX, IdRange, Missing, ReadAt, SecondLook
from connector.interfaces import VanishedRows
from connector.model.events import EntityId, KnownState
from connector.neo4j.export_queries import emptying
from connector.source.changes import may_delete
from connector.source.reading import ReadPage
from connector.source.tracks import Track

log = structlog.stdlib.get_logger("connector.export")


class Sweep:
    """One pass of one kind, read from its beginning."""

    def __init__(self, track: Track, sink: Neo4jExportSink) -> None:
        self._track, self._sink = track, sink
        self._missing = Missing()
        self._is_short = False

    def begin_again(self) -> None:
        """The pass begins again: what was missing so far says nothing."""
        self._missing = Missing()

    def spans(self, pages: Sequence[ReadPage]) -> list[IdRange]:
        """The ranges of ids of these pages. Must be called for all pages of the pass, in order."""
        self._is_short = pages[-1].after.is_short  # a pass that lacked rows is short to its end
        return [self._missing.range_of(read) for read in pages]

    def first_look(self, spans: Sequence[IdRange]) -> None:
        """Find what the graph has in these ranges, and the pages do not list. Blocks."""
        for span in spans:
            if span.low < span.high and not self._missing.are_too_many:
                ids = self._sink.unlisted(self._track.entity, span, MISSING_MAX + 1)
                self._missing.add(ids, span.offset)

    def delete_gone(self, read_at: ReadAt, size: int, ratio_max: float) -> str | None:
        """Ask the API again for what is missing, and delete what is gone. Blocks.

        Returns why nothing is deleted although rows are gone; None if all is well.

        Raises:
            RetryableError: the API does not answer, or contradicts itself: nothing is deleted.
            ConnectorError: as `ApiReader.read`.
            ExportBatchError: the database does not take the deletes.
        """
        missing, entity = self._missing, self._track.entity
        if not missing.ids:
            return None
        if self._is_short:
            return _WITHHELD
        if missing.are_too_many:
            anew = _start_anew(self._sink.study_key)
            return _refused(f"more than {MISSING_MAX:,}", missing.listed, anew)
        gone = dict(missing.ids)
        if missing.listed:
            gone = SecondLook(self._track, missing, read_at, size).gone()
        known = missing.listed + len(gone)
        states: dict[EntityId, KnownState] = {
            each: KnownState(at, None, None) for each, at in gone.items()
        }
        found = VanishedRows(known, missing.listed, 0, states, {})
        if not may_delete(found, ratio_max):
            anew = _start_anew(self._sink.study_key)
            what_to_do = _RAISE_RATIO if missing.listed else anew
            return _refused(f"{len(gone):,}", missing.listed, what_to_do)
        if gone:
            self._sink.delete_kind(entity, gone)
            log.info("rows that the API lists no more go", kind=entity.plural, rows=len(gone))
        return None


def _refused(gone: str, listed: int, what_to_do: str) -> str:
    return (
        f"exported ({listed:,}), but nothing is deleted: the graph has {gone} rows that the API"
        f" lists no more, too many to be credible: check the API, then {what_to_do}"
    )


_WITHHELD = (
    "exported, but nothing is deleted: the API listed fewer rows than it announced, or rows without"
    " an id; check the API, then export again"
)
_RAISE_RATIO = (
    "raise SOURCE_MAX_DELETE_RATIO (max_delete_ratio of Neo4jSinkConfig) if they are really gone"
)


def _start_anew(study_key: str) -> str:
    return f"empty the study if they are really gone, and export it again: {emptying(study_key)}"

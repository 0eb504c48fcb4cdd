"""Deletes rows from the graph that the API no longer lists, after a complete pass of a kind."""

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
    """The sweep over one pass of one kind, which is read from its beginning."""

    def __init__(self, track: Track, sink: Neo4jExportSink) -> None:
        self._track, self._sink = track, sink
        self._missing = Missing()
        self._is_short = False

    def spans(self, pages: Sequence[ReadPage]) -> list[IdRange]:
        """The id ranges of these pages. Must be called for all pages of the pass, in order."""
        self._is_short = pages[-1].position_after.is_short  # a pass that lacked rows stays short
        return [self._missing.range_of(read) for read in pages]

    def first_look(self, spans: Sequence[IdRange]) -> None:
        """Find the graph's ids in these ranges that the pages do not list. Blocks."""
        for span in spans:
            if span.low < span.high and not self._missing.are_too_many:
                ids = self._sink.unlisted(self._track.entity, span, MISSING_MAX + 1)
                self._missing.add(ids, span.rows_before)

    def delete_gone(self, read_at: ReadAt, size: int, ratio_max: float) -> str | None:
        """Request missing rows from the API again, and delete those that are gone. Blocks.

        Returns the reason if missing rows are not deleted; None otherwise.

        Raises:
            RetryableError: the API does not answer, or contradicts itself; nothing was deleted.
            ConnectorError: as `ApiReader.read`.
            ExportBatchError: the database refuses the deletes.
        """
        missing, entity = self._missing, self._track.entity
        if not missing.ids:
            return None
        if self._is_short:
            return _ROWS_WITHHELD
        if missing.are_too_many:
            start_over = _start_over(self._sink.study_key)
            return _too_many(f"more than {MISSING_MAX:,}", missing.listed, start_over)
        gone = SecondLook(self._track, missing, read_at, size).gone()
        known = missing.listed + len(gone)
        states: dict[EntityId, KnownState] = {
            each: KnownState(at, None, None) for each, at in gone.items()
        }
        found = VanishedRows(known, missing.listed, 0, states, {})
        if not may_delete(found, ratio_max):
            start_over = _start_over(self._sink.study_key)
            advice = _RAISE_RATIO if missing.listed else start_over
            return _too_many(f"{len(gone):,}", missing.listed, advice)
        if gone:
            self._sink.delete_kind(entity, gone)
            log.info("vanished rows deleted", kind=entity.plural, rows=len(gone))
        return None


def _too_many(gone: str, listed: int, advice: str) -> str:
    return (
        f"exported ({listed:,}), but nothing was deleted: the API no longer lists {gone} rows of"
        f" the graph, too many to be credible; check the API, then {advice}"
    )


_ROWS_WITHHELD = (
    "exported, but nothing was deleted: the API listed fewer rows than it announced, or rows"
    " without an id; check the API, then export again"
)
_RAISE_RATIO = (
    "raise SOURCE_MAX_DELETE_RATIO (max_delete_ratio of Neo4jSinkConfig) if they are really gone"
)


def _start_over(study_key: str) -> str:
    return f"empty the study if they are really gone, and export it again: {emptying(study_key)}"

"""Reports an export's outcome: records that cannot be stored, kinds that failed."""

from collections.abc import Mapping, Sequence

import structlog

from connector.export.errors import ExportBatchError, ExportIncompleteError, RecordsRefusedError
from connector.export.rows import RefusedRow
from connector.model.entities import ENTITIES
from connector.model.entity import Entity

log = structlog.stdlib.get_logger("connector.export")

_BATCHES_NAMED_MAX = 5
_IDS_NAMED_MAX = 40


def raise_if_incomplete(
    study_key: str,
    exported: Mapping[str, int],
    failed: Mapping[str, str],
    refused: Mapping[str, str],
) -> None:
    """Raise an error that reports all failures; return if everything was exported.

    ``exported``: rows by kind. ``failed``: reasons by kind. ``refused``: records that cannot be
    stored, by batch.

    Raises:
        ExportIncompleteError: at least one kind failed.
        ExportBatchError: some records cannot be stored.
    """
    texts = list(refused.values())[:_BATCHES_NAMED_MAX]
    if len(refused) > _BATCHES_NAMED_MAX:
        texts.append(f"{len(refused) - _BATCHES_NAMED_MAX} more batches, see the log")
    if failed:
        lines = [f"{ENTITIES[name].plural} {why}" for name, why in failed.items()] + texts
        complete = [name for name in exported if name not in failed]
        done = ", ".join(f"{ENTITIES[name].plural} ({exported[name]:,})" for name in complete)
        raise ExportIncompleteError(
            f"Study {study_key} was exported in part: {'; '.join(lines)}; exported: {done}",
            exported=exported,
            failed=failed,
        )
    if refused:
        raise ExportBatchError("; ".join(texts), batch_id=next(iter(refused)))


def raise_refused(
    entity: Entity, refused: Sequence[RefusedRow], written: int, batch_id: str
) -> None:
    """Log and report the records of a batch that cannot be stored, if there are any.

    Raises:
        RecordsRefusedError: there are some.
    """
    if refused:
        log.error(
            "records cannot be stored",
            batch_id=batch_id,
            ids=[each.id for each in refused],
            reasons=sorted({each.reason for each in refused}),
        )
        raise RecordsRefusedError(_refused_text(entity, refused, written), batch_id=batch_id)


def _refused_text(entity: Entity, refused: Sequence[RefusedRow], written: int) -> str:
    """Name the entities of a batch that cannot be stored, and why. No content."""
    named = [f"{each.id or 'without id'} ({each.reason})" for each in refused[:_IDS_NAMED_MAX]]
    if len(refused) > _IDS_NAMED_MAX:
        named.append(f"{len(refused) - _IDS_NAMED_MAX} more")
    return f"{entity.plural} cannot be stored: {', '.join(named)}; {written} others were written"

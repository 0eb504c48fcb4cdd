"""How an export ended: the error for what could not be exported, if anything. Pure."""

from collections.abc import Mapping

from connector.entities import ENTITIES
from connector.export.errors import ExportBatchError, ExportIncompleteError

_NAMED_MAX = 5


def raise_failed(
    study_key: str,
    exported: Mapping[str, int],
    failed: Mapping[str, str],
    refused: Mapping[str, str],
) -> None:
    """Raise what the caller must know; return if everything was exported.

    ``exported``: rows by kind. ``failed``: reasons by kind. ``refused``: records that cannot be
    stored, by batch.

    Raises:
        ExportIncompleteError: there is a kind that failed.
        ExportBatchError: some records cannot be stored.
    """
    texts = list(refused.values())[:_NAMED_MAX]
    if len(refused) > _NAMED_MAX:
        texts.append(f"{len(refused) - _NAMED_MAX} batches more, see the log")
    if failed:
        lines = [f"{ENTITIES[name].plural} {why}" for name, why in failed.items()] + texts
        complete = [name for name in exported if name not in failed]
        done = ", ".join(f"{ENTITIES[name].plural} ({exported[name]:,})" for name in complete)
        raise ExportIncompleteError(
            f"study {study_key} is exported in part: {'; '.join(lines)}; exported: {done}",
            exported=exported,
            failed=failed,
        )
    if refused:
        raise ExportBatchError("; ".join(texts), batch_id=next(iter(refused)))

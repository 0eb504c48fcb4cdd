"""The end of a full pass: rows that two full passes in a row have missed are deleted."""

from dataclasses import replace

from structlog.stdlib import BoundLogger

from connector.interfaces import KnownUpdate
from connector.model.cursor import PassPosition
from connector.source import changes, window
from connector.source.changes import Changes, PageContext
from connector.source.reading import ReadPage
from connector.source.tracks import Mode


def finish_full_pass(
    last: ReadPage, found: Changes, update: KnownUpdate, context: PageContext, ratio_max: float,
    log: BoundLogger,
) -> PassPosition:  # fmt: skip
    """Return the position after the last page; if it ends a full pass, delete vanished rows.

    Deletes are added to ``found``. A row is deleted once two full passes in a row have missed it;
    the second is due early.
    """
    if last.track.mode is not Mode.FULL or not window.ends_pass(
        last.position_before, last.position_after
    ):
        return last.position_after
    entity, full_pass = last.track.entity, last.position_before.passes + 1
    vanished = update.vanished(entity.name, full_pass)
    if last.position_before.rows + len(last.page.rows) == 0:
        # The pass itself listed nothing: rows that windows have listed do not make it credible.
        vanished = replace(vanished, listed=0)
    if reason := changes.reason_not_to_delete(
        vanished, ratio_max, is_short=last.position_after.is_short
    ):
        log.error(
            "sweep deleted nothing",
            reason=reason,
            entity=entity.name,
            known=vanished.known,
            listed=vanished.listed,
            missing=vanished.missed + len(vanished.gone),
        )
        # It is not a miss either: one wrong response and one miss must not make a delete.
        vanished = replace(vanished, missed=0, gone={})
    elif vanished.missed or vanished.gone:
        update.miss(entity.name, full_pass)
    deleted = changes.deletions(entity, vanished.gone | vanished.undelivered, context)
    update.put(entity.name, deleted.known, full_pass)
    found.extend(deleted)
    is_hurried = last.position_after.is_hurried or vanished.missed > 0
    return last.position_after.model_copy(update={"is_hurried": is_hurried})

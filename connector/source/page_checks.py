"""Checks that a page matches its request, and finds contradictions within it. Pure."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from connector.errors import FatalError, RetryableError
from connector.interfaces import Page, PageRequest, UnreadableRow
from connector.model.cursor import PassPosition
from connector.model.entity import Entity
from connector.model.events import EntityId, id_of, valid_id
from connector.source.tracks import Track, has_announced_more


def check_page(
    track: Track, request: PageRequest, position: PassPosition, page: Page, ids: Sequence[EntityId]
) -> list[str]:
    """Reject a page that does not match its request; return the contradictions in any other.

    ``ids`` are the page's `valid_ids`. A page that contradicts itself is still usable: the pass
    accepts it if the API repeats the contradiction.

    Raises:
        RetryableError: the rows are out of order, not past the position, or of another study.
        FatalError: the API does not know the study.
    """
    is_in_id_order = track.entity.sort_field == track.entity.id_field
    if is_in_id_order and any(low > high for low, high in pairwise(ids)):  # type: ignore[operator]
        raise RetryableError(f"Rejected a page of {track.name}: the rows are not in id order")
    after = position.after if track.is_keyset else None
    if after is not None and ids and not after < ids[-1]:  # type: ignore[operator]
        raise RetryableError(f"Rejected a page of {track.name}: all its rows were read before")
    left = page.total_elements - page.rows_before
    found = {
        "a row is repeated": len(set(ids)) < len(ids),
        "rows of the previous page": after is not None and bool(ids) and not after < ids[0],  # type: ignore[operator]
        "more rows than requested": len(page.rows) > request.size,
        "more rows than the total": len(page.rows) > max(0, left),
        "fewer rows than the total": len(page.rows) < min(_size(request, page), left),
        "no row has an id": bool(page.rows) and not ids and left > len(page.rows),
        "no rows where the previous page announced more": (
            has_announced_more(track, position) and not page.total_elements
        ),
    }
    if track.entity.name == "study":
        _check_study(request, position, page, ids)
    return [contradiction for contradiction, is_present in found.items() if is_present]


def _size(request: PageRequest, page: Page) -> int:
    """The rows in a full page: the API may report a lower limit than requested."""
    return request.size if page.size is None else min(page.size, request.size)


def _check_study(
    request: PageRequest, position: PassPosition, page: Page, ids: Sequence[EntityId]
) -> None:
    if any(each != request.study_key for each in ids):
        raise RetryableError(
            f"Rejected the list of studies: it has studies other than {request.study_key}"
        )
    if not ids and not position.in_pass:
        if position.passes or page.total_elements:
            raise RetryableError(f"The API no longer lists study {request.study_key}")
        raise unknown_study(request.study_key)


def unknown_study(study_key: str) -> FatalError:
    """Return the error of a study that the API does not list."""
    return FatalError(
        f"Study {study_key} is not known to the API. Check the study's key (a source's are in"
        " SOURCE_STUDIES) and the permissions of the API key"
    )


def valid_ids(entity: Entity, page: Page) -> list[EntityId]:
    """The ids of the page's rows, in order; rows without a valid id are omitted."""
    ids = (row_id(entity, row) for row in page.rows)
    return [entity_id for entity_id in ids if entity_id is not None]


def row_id(entity: Entity, row: Any) -> EntityId | None:
    """The row's id; None if it has no valid one.

    A row that cannot be parsed counts as listed by the id recovered from its bytes. If it counted
    as missing, its entity would be deleted.
    """
    if isinstance(row, UnreadableRow):
        return valid_id(entity.name, row.id_hint)
    return id_of(entity, row) if isinstance(row, dict) else None

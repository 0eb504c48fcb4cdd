"""Whether a page is what was asked for. Pure."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from connector.errors import FatalError, RetryableError
from connector.interfaces import Page, PageRequest, UnreadableRow
from connector.model.cursor import PassPosition
from connector.model.entities import Entity
from connector.model.events import EntityId, id_of, valid_id
from connector.source.tracks import Track, was_announced


def check_page(
    track: Track, request: PageRequest, place: PassPosition, page: Page, ids: Sequence[EntityId]
) -> list[str]:
    """Accept only a page that is what was asked for; any other moves nothing.

    ``ids`` are the page's `valid_ids`. Returns what is odd about it: contradictions that cost no
    row, so that the pass can go on if the API insists on them.

    Raises:
        RetryableError: rows of another place or order.
        FatalError: the study is not there.
    """
    is_in_id_order = track.entity.sort_field == track.entity.id_field
    if is_in_id_order and any(low > high for low, high in pairwise(ids)):  # type: ignore[operator]
        raise RetryableError(f"{track.name}: page is not in id order")
    after = place.after if track.is_keyset else None
    if after is not None and ids and not after < ids[-1]:  # type: ignore[operator]
        raise RetryableError(f"{track.name}: page does not go beyond its predecessor")
    left = page.total_elements - page.offset
    found = {
        "a row is repeated": len(set(ids)) < len(ids),
        "rows of the page before": after is not None and bool(ids) and not after < ids[0],  # type: ignore[operator]
        "more rows than were asked for": len(page.rows) > request.size,
        "more rows than the total announces": len(page.rows) > max(0, left),
        "fewer rows than the total announces": len(page.rows) < min(_size(request, page), left),
        "no row has an id": bool(page.rows) and not ids and left > len(page.rows),
        "nothing where more was announced": (
            was_announced(track, place) and not page.total_elements
        ),
    }
    if track.entity.name == "study":
        _check_study(request, place, page, ids)
    return [what for what, is_so in found.items() if is_so]


def _size(request: PageRequest, page: Page) -> int:
    """How many rows a page has by the API's own word: it may allow fewer than were asked for."""
    return request.size if page.size is None else min(page.size, request.size)


def _check_study(
    request: PageRequest, place: PassPosition, page: Page, ids: Sequence[EntityId]
) -> None:
    if any(each != request.study_key for each in ids):
        raise RetryableError("the list of studies has others than were asked for")
    if not ids and not place.in_pass:
        if place.passes or page.total_elements:
            raise RetryableError("the API does not list the study any more")
        raise FatalError(
            f"study {request.study_key} is not known to the API: check SOURCE_STUDIES and the"
            " permissions of the API key"
        )


def valid_ids(entity: Entity, page: Page) -> list[EntityId]:
    """The ids of the rows that have one, in their order."""
    ids = (row_id(entity, row) for row in page.rows)
    return [entity_id for entity_id in ids if entity_id is not None]


def row_id(entity: Entity, row: Any) -> EntityId | None:
    """The row's id, if it has one.

    A row that cannot be parsed is listed all the same: taken for missing, it would be deleted.
    """
    if isinstance(row, UnreadableRow):
        return valid_id(entity.name, row.id_hint)
    return id_of(entity, row) if isinstance(row, dict) else None

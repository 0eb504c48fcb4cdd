"""Leaves users' personal data out of what is read, before anything else sees it. Pure."""

from dataclasses import replace
from typing import Any

from connector.interfaces import ApiReader, Page, PageRequest, UnreadableRow
from connector.model.entities import READ_KINDS

_PERSONAL_FIELDS = {
    entity.resource: frozenset(entity.personal_fields)
    for entity in READ_KINDS.values()
    if entity.personal_fields
}


class WithoutPersonalData:
    """An `ApiReader` whose rows lack the fields that the table of kinds marks as personal.

    The content hash does not cover them either: switching this on or off republishes the rows.
    """

    def __init__(self, reader: ApiReader) -> None:
        self._reader = reader

    def read(self, request: PageRequest) -> Page:
        """See `ApiReader`."""
        page = self._reader.read(request)
        fields = _PERSONAL_FIELDS.get(request.resource)
        if not fields:
            return page
        return replace(page, rows=[_without(fields, row) for row in page.rows])


def _without(fields: frozenset[str], row: Any) -> Any:
    if isinstance(row, UnreadableRow):
        return UnreadableRow(b"", row.id_hint)  # its bytes would go to the dead letter queue
    if not isinstance(row, dict):
        return row
    return {name: value for name, value in row.items() if name not in fields}

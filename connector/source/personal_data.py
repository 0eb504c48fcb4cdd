"""Removes users' personal data from the rows that are read. Pure."""

import hashlib
from dataclasses import replace
from typing import Any

import orjson

from connector.interfaces import ApiReader, Page, PageRequest, UnreadableRow
from connector.model.entities import READ_KINDS

_PERSONAL_FIELDS = {
    entity.resource: frozenset(entity.personal_fields)
    for entity in READ_KINDS.values()
    if entity.personal_fields
}


class WithoutPersonalData:
    """An `ApiReader` that omits the fields marked as personal in the table of kinds.

    The content hash does not cover them, so switching this on or off republishes the rows.
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
        # Its bytes would go to the dead letter queue. The hash tells rows apart.
        digest = hashlib.blake2b(row.raw, digest_size=16).hexdigest()
        text = orjson.dumps({"id": row.id_hint, "omittedBytes": len(row.raw), "hash": digest})
        return UnreadableRow(text, row.id_hint)
    if not isinstance(row, dict):
        return row
    return {name: value for name, value in row.items() if name not in fields}

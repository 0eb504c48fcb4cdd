"""The port to the iMednet API: a reader of pages."""

from dataclasses import dataclass
from typing import Any, Protocol

from connector.model.events import EntityId


@dataclass(frozen=True, slots=True)
class PageRequest:
    """A request for one page of one resource.

    ``resource`` is the path below the study; empty for the list of studies. ``id_field`` is the
    field with the id of a row that cannot be parsed.
    """

    study_key: str
    resource: str
    filter: str | None
    sort: str
    size: int
    page: int
    id_field: str = ""
    parameters: tuple[tuple[str, str], ...] = ()
    """Further query parameters."""


@dataclass(frozen=True, slots=True, repr=False)
class UnreadableRow:
    """A row that no JSON parser used here can read: its bytes, and its id if recoverable."""

    raw: bytes
    id_hint: EntityId | None = None

    def __repr__(self) -> str:
        """Omit the content: texts of errors and assertions may be logged."""
        return f"UnreadableRow({len(self.raw)} bytes)"


@dataclass(frozen=True, slots=True)
class Page:
    """A page: the server's clock (ms, UTC), the number of rows that match the filter, and rows."""

    server_ms: int
    total_elements: int
    rows: list[Any]
    """JSON values: a number that is infinite or NaN as a float is a Decimal. A row that cannot be
    parsed is an `UnreadableRow`."""
    rows_before: int = 0
    """Number of matching rows before this page, from page number and size."""
    took_ms: int = 0
    """Time from request to response: the rows may be this much older than ``server_ms``."""
    size_bytes: int = 0
    """Size of the response body: a measure of the memory that its rows take."""
    size: int | None = None
    """Maximum number of rows per page as the API reports it; None if it does not."""


class ApiReader(Protocol):
    """The iMednet API."""

    def read(self, request: PageRequest) -> Page:
        """Return one page as raw JSON. Blocks up to the request timeout.

        Raises:
            BatchTooLargeError: the response did not arrive in time. Request fewer rows.
            RetryableError: a network error, 429, 5xx, or a 200 that is not the documented envelope.
            ResourceDeniedError: no permission, no such resource, or a rejected filter.
            FatalError: wrong key.
        """

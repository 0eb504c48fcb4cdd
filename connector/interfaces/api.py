"""What the source reads: pages of the API."""

from dataclasses import dataclass
from typing import Any, Protocol

from connector.model.events import EntityId


@dataclass(frozen=True, slots=True)
class PageRequest:
    """One page of one resource: path below the study, filter, sort, and place."""

    study_key: str
    resource: str
    filter: str | None
    sort: str
    size: int
    page: int


@dataclass(frozen=True, slots=True, repr=False)
class UnreadableRow:
    """A row that no JSON parser here reads: its bytes, and its id where that can be made out."""

    raw: bytes
    id_hint: EntityId | None = None

    def __repr__(self) -> str:
        """Without content: texts of errors and assertions may be logged."""
        return f"UnreadableRow({len(self.raw)} bytes)"


@dataclass(frozen=True, slots=True)
class Page:
    """What the API answered: its clock (ms, UTC), how many rows the filter matches, the rows."""

    server_ms: int
    total_elements: int
    rows: list[Any]
    """As JSON, exactly: a number that has no exact form is a Decimal. A row that cannot be parsed
    is an `UnreadableRow`."""
    offset: int = 0
    """How many rows the filter matches before these: by page number and size."""
    took_ms: int = 0
    """From request to answer: what it says may be older than its clock by so much."""
    size_bytes: int = 0
    """Of the answer: a measure of what its rows take in memory."""
    size: int | None = None
    """How many rows a page has at most, by the API's own word; None: it does not say."""


class ApiReader(Protocol):
    """The iMednet API."""

    def read(self, request: PageRequest) -> Page:
        """One page as raw JSON. Blocks up to the request timeout.

        Raises:
            BatchTooLargeError: the answer did not come in time: ask for fewer rows.
            RetryableError: network, 429, 5xx, or a 200 that is not the documented shape.
            ResourceRefusedError: no permission for this resource, no such resource, refused filter.
            FatalError: wrong key.
        """

"""Reading the API for a verification."""

import pytest

from connector.errors import FatalError, RetryableError
from connector.interfaces import Page, PageRequest
from connector.ops.wanted import PatientReader
from tests.fakes.clock import FakeClock

REQUEST = PageRequest("S1", "records", None, "recordId,asc", 500, 0)
PAGE = Page(server_ms=1, total_elements=0, rows=[])


class Failing:
    """An API whose first requests fail."""

    def __init__(self, error: Exception, count: int) -> None:
        self.error, self.left, self.requests = error, count, 0

    def read(self, request: PageRequest) -> Page:
        assert request == REQUEST
        self.requests += 1
        self.left -= 1
        if self.left >= 0:
            raise self.error
        return PAGE


def test_a_request_that_fails_a_few_times_is_repeated() -> None:
    """A pass over the API survives some failed requests, and waits as long as the API demands."""
    error = RetryableError("HTTP 429", retry_after_seconds=60)
    clock, api = FakeClock(), Failing(error, 3)
    before = clock.monotonic()
    assert PatientReader(api, clock).read(REQUEST) is PAGE
    assert clock.monotonic() - before >= 180


def test_a_request_that_keeps_failing_fails() -> None:
    """After ten attempts, or at once if a retry cannot help, the error is raised."""
    api = Failing(RetryableError("HTTP 503"), 1000)
    with pytest.raises(RetryableError, match="HTTP 503"):
        PatientReader(api, FakeClock()).read(REQUEST)
    assert api.requests == 10
    api = Failing(FatalError("HTTP 401"), 1000)
    with pytest.raises(FatalError):
        PatientReader(api, FakeClock()).read(REQUEST)
    assert api.requests == 1

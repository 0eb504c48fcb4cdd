"""The iMednet API: `connector.interfaces.ApiReader` on the SDK's own HTTP client.

The SDK's client provides addresses and error classes. Its models are not used: they invent dates
for missing ones and turn null ids into 0.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import quote

import httpx
from imednet import ImednetSDK
from imednet.core import Client
from imednet.errors import ApiError, ImednetError

from connector.config import ImednetSettings
from connector.errors import (
    BatchTooLargeError,
    ConnectorError,
    FatalError,
    ResourceDeniedError,
    RetryableError,
)
from connector.imednet.http import ApiClient, OneAttempt
from connector.imednet.keys import Keys
from connector.imednet.rows import parse_response
from connector.imednet.throttle import Throttle
from connector.interfaces import Clock, Page, PageRequest
from connector.model.dates import parse_api_date

_STUDIES = "/api/v1/edc/studies"
_UNAUTHORIZED, _TOO_MANY_REQUESTS, _GATEWAY_TIMEOUT = 401, 429, 504
_ADVICE = {
    400: "The API rejects the request's filter or sort",
    401: "Check IMEDNET_API_KEY and IMEDNET_SECURITY_KEY",
    403: "The study is unknown, or the API key may not read it. Check the study's key (a source's"
    " are in SOURCE_STUDIES)",
    404: "Check IMEDNET_BASE_URL and the study's key",
}
_NOT_THE_ENVELOPE = "the response is not the documented envelope"
_RETRY_AFTER_SECONDS = 5.0
"""Used if the API limits the rate without a Retry-After."""
_RETRY_AFTER_SECONDS_MAX = 3600.0


class ImednetReader:
    """Reads pages as raw JSON. Thread-safe, as httpx is."""

    def __init__(self, settings: ImednetSettings, clock: Clock) -> None:
        """Create the client; sends nothing.

        Raises:
            FatalError: a key is missing or malformed, or its file cannot be read.
        """
        self.on_request: Callable[[str, float], None] = lambda _status, _seconds: None
        """Called after each request with the HTTP status ("none": no response) and its seconds."""
        self._keys = Keys(settings)
        self._has_authenticated = False
        self._throttle = Throttle(
            clock,
            per_minute=settings.requests_per_minute_max,
            at_once=settings.requests_at_once_max,
        )
        self._base_url = settings.base_url
        self._client = ApiClient(
            api_key="sent with each request",
            security_key="sent with each request",
            base_url=settings.base_url,
            timeout=settings.request_timeout_seconds,
            retries=1,
            retry_policy=OneAttempt(),
        )

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def read(self, request: PageRequest) -> Page:
        """See `connector.interfaces.ApiReader`."""
        path, parameters = _path_and_query(request)
        started = 0.0
        try:
            with self._throttle.turn():
                started = time.monotonic()
                response = self._get(path, parameters, request)
        except httpx.ReadTimeout:
            raise BatchTooLargeError(_failure(request, "no response in time")) from None
        except (ImednetError, httpx.HTTPError, httpx.InvalidURL) as error:
            raise RetryableError(
                f"No response from the API at {self._base_url} ({type(error).__name__}). Check"
                " IMEDNET_BASE_URL and the network"
            ) from None
        self._has_authenticated = True
        return _page(response, request, started)

    def _get(self, path: str, parameters: dict[str, Any], request: PageRequest) -> httpx.Response:
        """Send the request; if the API limits the rate, hold all others before this returns."""
        headers, started, status = self._keys.headers(), time.monotonic(), "none"
        try:
            response = self._client.get(path, parameters, headers=headers)
            status = str(response.status_code)
        except ApiError as error:
            status = str(error.status_code or "none")
            raise self._translate(error, request) from None  # its text repeats the response body
        finally:
            self.on_request(status, time.monotonic() - started)
        return response

    def budget_remaining(self) -> int:
        """Return how many requests are left of this minute's budget."""
        return self._throttle.remaining()

    def _translate(self, error: ApiError, request: PageRequest) -> ConnectorError:
        status = error.status_code or 0
        if status == _UNAUTHORIZED and self._keys.are_files and self._has_authenticated:
            text = _failure(request, f"HTTP {status}")
            return RetryableError(f"{text}. Waiting for a new key in the key files")
        after = retry_after_seconds(self._client.retry_after, datetime.now(UTC))
        if status == _TOO_MANY_REQUESTS and after is None:
            after = _RETRY_AFTER_SECONDS
        translated = _of_status(status, request, after)
        if isinstance(translated, RetryableError):
            self._throttle.hold(after or 0.0)  # limits apply to the key, so all studies wait
        return translated


class SdkReader:
    """`connector.interfaces.ApiReader` on the client of a caller's SDK, as the caller set it up."""

    def __init__(self, sdk: Any) -> None:
        self._client = sdk._client  # noqa: SLF001 - the SDK has no public name for it

    def read(self, request: PageRequest) -> Page:
        """See `connector.interfaces.ApiReader`."""
        path, parameters = _path_and_query(request)
        started = time.monotonic()
        try:
            response = self._client.get(path, parameters)
        except ApiError as error:
            raise _of_status(error.status_code or 0, request) from None
        except (ImednetError, httpx.HTTPError, httpx.InvalidURL) as error:
            raise RetryableError(f"No response from the API: {type(error).__name__}") from None
        return _page(response, request, started)


def has_client(sdk: Any) -> bool:
    """Return whether `SdkReader` can read with this: an SDK, or an object with an SDK's client."""
    return isinstance(sdk, ImednetSDK) or isinstance(getattr(sdk, "_client", None), Client)


def list_records(sdk: Any, study_key: str) -> Iterable[Any]:
    """Return a study's records, all at once, from any object with ``records.list``. Blocks.

    Raises:
        FatalError: the SDK raised an error; named by its type, because its text may hold content.
    """
    try:
        records: Iterable[Any] = sdk.records.list(study_key=study_key)
    except (ImednetError, httpx.HTTPError, ValueError, TypeError) as error:
        raise FatalError(
            f"Cannot read records of study {study_key}: the SDK raised {type(error).__name__}"
        ) from None
    return records


def _page(response: httpx.Response, request: PageRequest, started: float) -> Page:
    body = response.content
    # Response and stream refer to each other: bodies would stay in memory until the next gc run.
    response.stream = httpx.ByteStream(b"")
    page = parse_page(response.status_code, body, request)
    return replace(page, took_ms=round((time.monotonic() - started) * 1000))


def _of_status(
    status: int, request: PageRequest, retry_after: float | None = None
) -> ConnectorError:
    """Return the error that an HTTP status stands for."""
    text = _failure(request, f"HTTP {status}")
    if status == _GATEWAY_TIMEOUT:
        return BatchTooLargeError(text)
    if status == _UNAUTHORIZED:
        return FatalError(f"{text}. {_ADVICE[status]}")
    if advice := _ADVICE.get(status):
        return ResourceDeniedError(f"{text}. {advice}")
    return RetryableError(text, retry_after_seconds=retry_after)


def _path_and_query(request: PageRequest) -> tuple[str, dict[str, Any]]:
    path = _STUDIES
    if request.resource:
        path = f"{_STUDIES}/{quote(request.study_key, safe='')}/{request.resource}"
    parameters: dict[str, Any] = {
        "page": request.page,
        "size": request.size,
        "sort": request.sort,
    }
    if request.filter:
        parameters["filter"] = request.filter
    parameters |= dict(request.parameters)
    return path, parameters


def _failure(request: PageRequest, reason: str) -> str:
    resource = f"{request.resource} of " if request.resource else ""
    return f"Cannot read {resource}study {request.study_key}: {reason}"


def retry_after_seconds(text: str | None, now: datetime) -> float | None:
    """Parse a Retry-After header: seconds, or a date (RFC 9110); None if absent or invalid."""
    if text is None:
        return None
    if text.strip().isdigit():
        seconds = float(text)
    else:
        try:
            at = parsedate_to_datetime(text)
        except ValueError:
            return None
        # A date has whole seconds: wait until the second that it names is over.
        seconds = (at.astimezone(UTC) - now).total_seconds() + 1.0
    return min(max(0.0, seconds), _RETRY_AFTER_SECONDS_MAX)


def parse_page(status: int, body: bytes, request: PageRequest) -> Page:
    """Parse a response into a page; a row that cannot be parsed costs only itself.

    Raises:
        RetryableError: the response is not the documented envelope of the requested page.
    """
    if status != httpx.codes.OK:
        raise RetryableError(_failure(request, f"HTTP {status}"))
    try:
        response = parse_response(body, request.id_field or request.sort.partition(",")[0])
        rows, pagination = response["data"], response["pagination"]
        total, page = pagination["totalElements"], pagination.get("currentPage", request.page)
        clock = parse_api_date(response["metadata"]["timestamp"])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise RetryableError(_failure(request, _NOT_THE_ENVELOPE)) from None
    if not isinstance(rows, list) or type(total) is not int or clock is None:
        raise RetryableError(_failure(request, _NOT_THE_ENVELOPE))
    if page != request.page:
        raise RetryableError(_failure(request, "the response is not the requested page"))
    size = pagination.get("size")
    if type(size) is not int or not 0 < size < request.size:
        size = request.size
    server_ms = round(clock.timestamp() * 1000)
    return Page(server_ms, total, rows, request.page * size, size_bytes=len(body), size=size)

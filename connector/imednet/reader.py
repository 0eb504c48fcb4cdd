"""The iMednet API: `connector.interfaces.ApiReader` on the SDK's own HTTP client.

The SDK's models are not used: they invent dates for missing ones and turn null ids into 0. Its
client is: addresses and error classes are its.
"""

import time
from collections.abc import Iterable
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
    ResourceRefusedError,
    RetryableError,
)
from connector.imednet.http import ApiClient, OneAttempt
from connector.imednet.keys import Keys
from connector.imednet.rows import parse_answer
from connector.imednet.throttle import Throttle
from connector.interfaces import Clock, Page, PageRequest
from connector.model.dates import parse_api_date

_STUDIES = "/api/v1/edc/studies"
_UNAUTHORIZED, _TOO_MANY_REQUESTS, _GATEWAY_TIMEOUT = 401, 429, 504
_WHAT_TO_DO = {
    400: "the API refuses the request's filter or sort",
    401: "check IMEDNET_API_KEY and IMEDNET_SECURITY_KEY",
    403: "the study is not known, or the key may not read it: check SOURCE_STUDIES",
    404: "nothing there: check IMEDNET_BASE_URL and SOURCE_STUDIES",
}
_RETRY_AFTER_SECONDS = 5.0
"""Where the API limits the rate and does not say for how long."""
_RETRY_AFTER_SECONDS_MAX = 3600.0


class ImednetReader:
    """Reads pages as raw JSON. Thread-safe, as httpx is."""

    def __init__(self, settings: ImednetSettings, clock: Clock) -> None:
        """Make the client; nothing is sent.

        Raises:
            FatalError: a key is not set, or its file cannot be read.
        """
        self._keys = Keys(settings)
        self._was_let_in = False
        self._throttle = Throttle(
            clock,
            per_minute=settings.requests_per_minute_max,
            at_once=settings.requests_at_once_max,
        )
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
        path, parameters = _asked(request)
        began = 0.0
        try:
            with self._throttle.turn():
                began = time.monotonic()
                response = self._client.get(path, parameters, headers=self._keys.headers())
        except ApiError as error:
            raise self._translated(error, request) from None  # its text repeats the answer's body
        except httpx.ReadTimeout:
            raise BatchTooLargeError(f"{_where(request)}: no answer in time") from None
        except (ImednetError, httpx.HTTPError, httpx.InvalidURL) as error:
            raise RetryableError(f"no answer from the API: {type(error).__name__}") from None
        self._was_let_in = True
        return _page(response, request, began)

    def _translated(self, error: ApiError, request: PageRequest) -> ConnectorError:
        status = error.status_code or 0
        if status == _UNAUTHORIZED and self._keys.are_files and self._was_let_in:
            text = _said(request, status)
            return RetryableError(f"{text}: waiting for a new key in the key files")
        after = retry_after_seconds(self._client.retry_after, datetime.now(UTC))
        if status == _TOO_MANY_REQUESTS and after is None:
            after = _RETRY_AFTER_SECONDS
        translated = _of_status(status, request, after)
        if isinstance(translated, RetryableError):
            self._throttle.hold(after or 0.0)  # a limit is the key's: all studies wait
        return translated


class SdkReader:
    """`connector.interfaces.ApiReader` by the client of somebody's SDK, as they have set it up."""

    def __init__(self, sdk: Any) -> None:
        self._client = sdk._client  # noqa: SLF001 - the SDK has no other name for it

    def read(self, request: PageRequest) -> Page:
        """See `connector.interfaces.ApiReader`."""
        path, parameters = _asked(request)
        began = time.monotonic()
        try:
            response = self._client.get(path, parameters)
        except ApiError as error:
            raise _of_status(error.status_code or 0, request) from None
        except (ImednetError, httpx.HTTPError, httpx.InvalidURL) as error:
            raise RetryableError(f"no answer from the API: {type(error).__name__}") from None
        return _page(response, request, began)


def has_client(sdk: Any) -> bool:
    """Whether `SdkReader` can read pages with this: an SDK, or what holds an SDK's client."""
    return isinstance(sdk, ImednetSDK) or isinstance(getattr(sdk, "_client", None), Client)


def list_records(sdk: Any, study_key: str) -> Iterable[Any]:
    """The records of a study from whatever has ``records.list``. Blocks; all at once, as the SDK.

    Raises:
        FatalError: the SDK raised. Its own text may hold content.
    """
    try:
        records: Iterable[Any] = sdk.records.list(study_key=study_key)
    except (ImednetError, httpx.HTTPError, ValueError, TypeError) as error:
        raise FatalError(f"study {study_key}, records: {type(error).__name__} in the SDK") from None
    return records


def _page(response: httpx.Response, request: PageRequest, began: float) -> Page:
    body = response.content
    # Answer and stream refer to each other: bodies would lie about until the collector comes.
    response.stream = httpx.ByteStream(b"")
    page = parse_page(response.status_code, body, request)
    return replace(page, took_ms=round((time.monotonic() - began) * 1000))


def _of_status(
    status: int, request: PageRequest, retry_after: float | None = None
) -> ConnectorError:
    """What an answer with this status means."""
    text = _said(request, status)
    if status == _GATEWAY_TIMEOUT:
        return BatchTooLargeError(text)
    if status == _UNAUTHORIZED:
        return FatalError(f"{text}: {_WHAT_TO_DO[status]}")
    if advice := _WHAT_TO_DO.get(status):
        return ResourceRefusedError(f"{text}: {advice}")
    return RetryableError(text, retry_after_seconds=retry_after)


def _asked(request: PageRequest) -> tuple[str, dict[str, Any]]:
    """Path and query of a request."""
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
    return path, parameters


def _said(request: PageRequest, status: int) -> str:
    return f"study {request.study_key}, {_where(request)}: HTTP {status}"


def retry_after_seconds(text: str | None, now: datetime) -> float | None:
    """What a Retry-After header asks for: seconds, or a date (RFC 9110); None: nothing."""
    if text is None:
        return None
    if text.strip().isdigit():
        seconds = float(text)
    else:
        try:
            at = parsedate_to_datetime(text)
        except ValueError:
            return None
        # A date says whole seconds: the one it names has to be over.
        seconds = (at.astimezone(UTC) - now).total_seconds() + 1.0
    return min(max(0.0, seconds), _RETRY_AFTER_SECONDS_MAX)


def _where(request: PageRequest) -> str:
    return request.resource or "studies"


def parse_page(status: int, body: bytes, request: PageRequest) -> Page:
    """The page that an answer holds; a row that cannot be parsed costs itself only.

    Raises:
        RetryableError: it is not the documented envelope of the page that was asked for.
    """
    where = _where(request)
    if status != httpx.codes.OK:
        raise RetryableError(f"{where}: the API answered {status}")
    try:
        answer = parse_answer(body, request.sort.partition(",")[0])
        rows, pagination = answer["data"], answer["pagination"]
        total, page = pagination["totalElements"], pagination.get("currentPage", request.page)
        clock = parse_api_date(answer["metadata"]["timestamp"])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise RetryableError(f"{where}: the answer is not the documented envelope") from None
    if not isinstance(rows, list) or type(total) is not int or clock is None:
        raise RetryableError(f"{where}: the answer is not the documented envelope")
    if page != request.page:
        raise RetryableError(f"{where}: the answer is another page than was asked for")
    size = pagination.get("size")
    if type(size) is not int or not 0 < size < request.size:
        size = request.size
    server_ms = round(clock.timestamp() * 1000)
    return Page(server_ms, total, rows, request.page * size, size_bytes=len(body), size=size)

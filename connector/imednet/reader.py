"""The iMednet API: `connector.interfaces.ApiReader` on the SDK's own HTTP client.

The SDK's models are not used: they invent dates for missing ones and turn null ids into 0. Its
client is: authentication, addresses and error classes are its.
"""

import json
from typing import Any
from urllib.parse import quote

import httpx
import pydantic_core
from imednet.core import Client
from imednet.errors import ApiError, ImednetError

from connector.config import ImednetSettings
from connector.dates import parse_api_date
from connector.errors import ConnectorError, FatalError, RetryableError
from connector.interfaces import Page, PageRequest

_STUDIES = "/api/v1/edc/studies"
_TOO_MANY_REQUESTS = 429
_WHAT_TO_DO = {
    400: "the API refuses the request's filter or sort",
    401: "check IMEDNET_API_KEY and IMEDNET_SECURITY_KEY",
    403: "the study is not known, or the key may not read it: check SOURCE_STUDIES",
    404: "nothing there: check IMEDNET_BASE_URL and SOURCE_STUDIES",
}


class ImednetReader:
    """Reads pages as raw JSON. Thread-safe, as httpx is."""

    def __init__(self, settings: ImednetSettings) -> None:
        """Make the client; nothing is sent.

        Raises:
            FatalError: a key is not set.
        """
        if settings.api_key is None or settings.security_key is None:
            raise FatalError("IMEDNET_API_KEY and IMEDNET_SECURITY_KEY must both be set")
        self._client = Client(
            api_key=settings.api_key.get_secret_value(),
            security_key=settings.security_key.get_secret_value(),
            base_url=settings.base_url,
            timeout=settings.request_timeout_seconds,
            retries=1,  # the task repeats, and knows for how long
        )

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def read(self, request: PageRequest) -> Page:
        """See `connector.interfaces.ApiReader`."""
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
        try:
            response = self._client.get(path, parameters)
        except ApiError as error:
            raise _translate(error, request) from None  # its text repeats the answer's body
        except (ImednetError, httpx.HTTPError, httpx.InvalidURL) as error:
            raise RetryableError(f"no answer from the API: {type(error).__name__}") from None
        return parse_page(response.status_code, response.content, request)


def parse_page(status: int, body: bytes, request: PageRequest) -> Page:
    """The page that an answer holds.

    Raises:
        RetryableError: it is not the documented envelope of the page that was asked for.
    """
    where = request.resource or "studies"
    if status != httpx.codes.OK:
        raise RetryableError(f"{where}: the API answered {status}")
    try:
        answer = _parse(body)
        rows, pagination = answer["data"], answer["pagination"]
        total, page = pagination["totalElements"], pagination.get("currentPage", request.page)
        clock = parse_api_date(answer["metadata"]["timestamp"])
    except (ValueError, KeyError, TypeError, AttributeError):
        raise RetryableError(f"{where}: the answer is not the documented envelope") from None
    if not isinstance(rows, list) or type(total) is not int or clock is None:
        raise RetryableError(f"{where}: the answer is not the documented envelope")
    if page != request.page:
        raise RetryableError(f"{where}: the answer is another page than was asked for")
    return Page(round(clock.timestamp() * 1000), total, rows)


def _parse(body: bytes) -> Any:
    try:
        return pydantic_core.from_json(body, allow_inf_nan=False)
    except ValueError:
        # Half of a surrogate pair (a cut emoji) is one row's fault: the slower parser takes it,
        # and the row is set aside later, alone.
        return json.loads(body, parse_constant=_refuse)


def _refuse(constant: str) -> None:
    raise ValueError(constant)


def _translate(error: ApiError, request: PageRequest) -> ConnectorError:
    status = error.status_code or 0
    text = f"study {request.study_key}, {request.resource or 'studies'}: HTTP {status}"
    if advice := _WHAT_TO_DO.get(status):
        return FatalError(f"{text}: {advice}")
    return RetryableError(text)

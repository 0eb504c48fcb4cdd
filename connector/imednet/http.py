"""The SDK's HTTP client, limited to one attempt and one deadline, with no proxy for loopback."""

import threading
import time
from collections.abc import Iterator
from ipaddress import ip_address
from urllib.parse import urlsplit

import httpx
from imednet.auth.strategy import AuthStrategy
from imednet.core import Client
from imednet.core.retry import RetryState


class OneAttempt:
    """A `RetryPolicy` that never retries: the task does, and it knows for how long."""

    def should_retry(self, state: RetryState) -> bool:  # noqa: ARG002 - the SDK's signature
        """Return False."""
        return False


class ApiClient(Client):
    """A client that keeps the headers of error responses and ends slow bodies at the deadline."""

    def _create_client(self, auth: AuthStrategy) -> httpx.Client:
        self._timeout_seconds = self.timeout.read or 0.0
        self._last_response = threading.local()
        return httpx.Client(
            base_url=self.base_url,
            headers={
                "Accept": "application/json",
                "Content-Type": "application/json",
                **auth.get_headers(),
            },
            timeout=self.timeout,
            # A proxy named in the environment is for remote hosts.
            trust_env=not is_loopback(self.base_url),
            event_hooks={"request": [self._on_request], "response": [self._on_response]},
        )

    @property
    def retry_after(self) -> str | None:
        """Retry-After of this thread's last response."""
        headers: httpx.Headers | None = getattr(self._last_response, "headers", None)
        return None if headers is None else headers.get("Retry-After")

    def _on_request(self, request: httpx.Request) -> None:
        self._last_response.headers = None
        request.extensions["deadline"] = time.monotonic() + self._timeout_seconds

    def _on_response(self, response: httpx.Response) -> None:
        self._last_response.headers = response.headers
        if isinstance(response.stream, httpx.SyncByteStream):
            response.stream = _BodyWithDeadline(response.stream, response.request)


class _BodyWithDeadline(httpx.SyncByteStream):
    """A response body that raises a timeout once its request's deadline has passed."""

    def __init__(self, stream: httpx.SyncByteStream, request: httpx.Request) -> None:
        self._stream, self._request = stream, request

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self._stream:
            if time.monotonic() > self._request.extensions["deadline"]:
                raise httpx.ReadTimeout("the response took too long", request=self._request)
            yield chunk

    def close(self) -> None:
        """Close the connection's stream."""
        self._stream.close()


def is_loopback(url: str) -> bool:
    """Return whether this URL points to the machine itself."""
    host = urlsplit(url).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"

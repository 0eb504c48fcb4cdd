"""The SDK's client as this program needs it: one attempt, one deadline, no proxy for loopback."""

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
    """A `RetryPolicy` that leaves repeating to the task, which knows for how long."""

    def should_retry(self, state: RetryState) -> bool:  # noqa: ARG002 - the SDK's signature
        """Never."""
        return False


class ApiClient(Client):
    """The answer's headers survive its error, and a body that trickles ends at the deadline."""

    def _create_client(self, auth: AuthStrategy) -> httpx.Client:
        self._seconds = self.timeout.read or 0.0
        self._last = threading.local()
        return httpx.Client(
            base_url=self.base_url,
            headers={
                "Accept": "application/json",
                "Content-Type": "application/json",
                **auth.get_headers(),
            },
            timeout=self.timeout,
            # A proxy that the environment names is for the world outside.
            trust_env=not is_loopback(self.base_url),
            event_hooks={"request": [self._began], "response": [self._answered]},
        )

    @property
    def retry_after(self) -> str | None:
        """Retry-After of the last answer to this thread."""
        answer: httpx.Headers | None = getattr(self._last, "headers", None)
        return None if answer is None else answer.get("Retry-After")

    def _began(self, request: httpx.Request) -> None:
        self._last.headers = None
        request.extensions["deadline"] = time.monotonic() + self._seconds

    def _answered(self, response: httpx.Response) -> None:
        self._last.headers = response.headers
        if isinstance(response.stream, httpx.SyncByteStream):
            response.stream = _Bounded(response.stream, response.request)


class _Bounded(httpx.SyncByteStream):
    """A body that ends with a timeout when its request's deadline has passed."""

    def __init__(self, stream: httpx.SyncByteStream, request: httpx.Request) -> None:
        self._stream, self._request = stream, request

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self._stream:
            if time.monotonic() > self._request.extensions["deadline"]:
                raise httpx.ReadTimeout("the answer took too long", request=self._request)
            yield chunk

    def close(self) -> None:
        """Close the connection's stream."""
        self._stream.close()


def is_loopback(url: str) -> bool:
    """Whether this address is the machine itself."""
    host = urlsplit(url).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"

"""Bounds how long a call of the client may block: some take as long as the brokers like."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Generic, TypeVar

from connector.errors import RetryableError

T = TypeVar("T")


class BoundedCall(Generic[T]):
    """Makes one call at a time, on a thread of its own; used by one thread."""

    def __init__(self, action: str) -> None:
        """``action``: what the calls do, as an infinitive without "to"."""
        self._action = action
        self._made: Future[T] | None = None

    @property
    def is_pending(self) -> bool:
        """Whether a call that took too long still runs."""
        return self._made is not None and not self._made.done()

    def __call__(self, call: Callable[[], T], seconds_max: float) -> T:
        """Return what ``call`` returns. Blocks for ``seconds_max`` at most.

        Raises:
            RetryableError: it takes longer, or an earlier call still runs, and this one was not
                made. Nobody gets the result of a call that took too long.
            Exception: whatever ``call`` raises.
        """
        if self.is_pending:
            raise RetryableError(f"Cannot {self._action}: the brokers do not answer")
        made: Future[T] = Future()

        def run() -> None:
            try:
                made.set_result(call())
            except BaseException as error:  # noqa: BLE001 - raised again by the caller's thread
                made.set_exception(error)

        self._made = made
        threading.Thread(target=run, name=self._action, daemon=True).start()
        try:
            return made.result(seconds_max)
        except TimeoutError:
            if made.done():
                raise  # the call's own
            raise RetryableError(
                f"Cannot {self._action}: no answer within {seconds_max:g} s"
            ) from None

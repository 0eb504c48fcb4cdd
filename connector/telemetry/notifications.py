"""Notifies a webhook of state changes: one CloudEvent each, without record content.

The changes are read from this program's own log events, which are free of content by rule.
"""

import contextlib
import json
import logging
import queue
import socket
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, NamedTuple

import httpx
import structlog

from connector.config import TelemetrySettings

log = structlog.stdlib.get_logger("connector.notifications")

_QUIET_SECONDS = 3600.0
_QUEUE_MAX = 100
_KEPT = 20
_TRIES = 3
_SECONDS_MAX = 10.0
_CLOSE_SECONDS_MAX = 3.0
_BEGINNINGS = {"waiting", "server does not answer"}
_ENDS = {"recovered", "server answers again"}
"""Log events of outages, as the program's own calls and the checks of its servers see them."""
_ONCE_AN_HOUR = {
    "message dead-lettered": ("dead_letter", ("reason",)),
    "sweep deleted nothing": ("sweep_refused", ("study", "entity")),
    "gap accepted": ("gap", ("partition",)),
    "events topic lost events, missing ones will be republished": ("gap", ("study",)),
    "stale graph, rereading events": ("stale_graph", ("checkpoint",)),
    "study taken over": ("taken_over", ("study",)),
}
"""By log event: the type of its notification, and the fields that tell two of them apart."""
_DETAILS = ("study", "what", "reason", "entity", "partition", "offset", "known", "missing",
            "lost", "after_seconds")  # fmt: skip


class Notification(NamedTuple):
    """One state change."""

    type: str
    subject: str
    data: Mapping[str, Any]


class StateChanges:
    """Finds state changes in log events: each is reported once, not with every line. Pure."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._failing: set[tuple[str, str]] = set()
        self._sent_at: dict[tuple[str, ...], float] = {}

    def of(self, event: Mapping[str, Any]) -> Notification | None:
        """Return the notification that this log event calls for, if any."""
        name = event.get("event")
        subject = (str(event.get("study", "")), str(event.get("what", "")))
        if name in _BEGINNINGS and subject not in self._failing:
            self._failing.add(subject)
            return _notification("failed", event)
        if name in _ENDS and subject in self._failing:
            self._failing.discard(subject)
            return _notification("recovered", event)
        if name in _ONCE_AN_HOUR:
            kind, fields = _ONCE_AN_HOUR[name]
            return self._once_an_hour(kind, event, fields)
        return None

    def _once_an_hour(
        self, kind: str, event: Mapping[str, Any], fields: tuple[str, ...]
    ) -> Notification | None:
        key = (kind, *(str(event.get(field)) for field in fields))
        now = self._now()
        if now - self._sent_at.get(key, now - _QUIET_SECONDS) < _QUIET_SECONDS:
            return None
        self._sent_at[key] = now
        return _notification(kind, event)


def _notification(kind: str, event: Mapping[str, Any]) -> Notification:
    data = {name: event[name] for name in _DETAILS if name in event}
    subject = str(event.get("study") or event.get("what") or event.get("event"))
    return Notification(f"imednet.connector.{kind}", subject, data)


class RecentChanges(logging.Handler):
    """Finds state changes in this program's log events, and keeps the newest for its status."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self._changes = StateChanges()
        self._newest: deque[dict[str, str]] = deque(maxlen=_KEPT)
        self.on_change: Callable[[Notification], None] = lambda _: None

    def emit(self, record: logging.LogRecord) -> None:
        """Keep and pass on the change that the record stands for, if any."""
        if isinstance(record.msg, dict) and (found := self._changes.of(record.msg)) is not None:
            change = {
                "at": datetime.now(UTC).isoformat(timespec="seconds"),
                "type": found.type.rpartition(".")[2],
                "subject": found.subject,
            }
            if "reason" in found.data:
                change["reason"] = str(found.data["reason"])
            self._newest.append(change)
            self.on_change(found)

    def newest(self) -> list[dict[str, str]]:
        """Return the newest changes, the oldest of them first."""
        return list(self._newest)


class Webhook:
    """Posts state changes on a separate thread; the program never waits for it."""

    def __init__(self, url: str, role: str) -> None:
        self._url = url
        self._source = f"imednet-connector/{role}/{socket.gethostname()}"
        self._queue: queue.Queue[Notification | None] = queue.Queue(_QUEUE_MAX)
        self._is_over = threading.Event()
        self._has_failed = False
        self._thread = threading.Thread(target=self._run, name="notifications", daemon=True)

    def post(self, found: Notification) -> None:
        """Queue the notification; drop it if too many wait."""
        with contextlib.suppress(queue.Full):  # the receiver has not answered for long
            self._queue.put_nowait(found)

    def start(self) -> None:
        """Start to post."""
        self._thread.start()

    def stop(self) -> None:
        """Post what waits, within a few seconds, and drop the rest."""
        with contextlib.suppress(queue.Full):
            self._queue.put_nowait(None)
        self._thread.join(_CLOSE_SECONDS_MAX)
        self._is_over.set()

    def _run(self) -> None:
        with httpx.Client(timeout=_SECONDS_MAX) as client:
            while not self._is_over.is_set() and (found := self._queue.get()) is not None:
                self._post(client, found)

    def _post(self, client: httpx.Client, found: Notification) -> None:
        body = {
            "specversion": "1.0",
            "id": str(uuid.uuid4()),
            "source": self._source,
            "type": found.type,
            "subject": found.subject,
            "time": datetime.now(UTC).isoformat(),
            "datacontenttype": "application/json",
            "data": found.data,
        }
        headers = {"Content-Type": "application/cloudevents+json"}
        error = ""
        for attempt in range(_TRIES):
            try:
                answer = client.post(
                    self._url, content=json.dumps(body, default=str), headers=headers
                )
            except httpx.HTTPError as exception:
                error = type(exception).__name__
            else:
                if answer.is_success:
                    self._has_failed = False
                    return
                error = f"HTTP {answer.status_code}"
            if self._is_over.wait(2.0**attempt):
                return
        if not self._has_failed:  # once, until one is delivered
            log.warning("notifications not delivered", type=found.type, reason=error)
        self._has_failed = True


@contextmanager
def notifying(settings: TelemetrySettings, role: str) -> Iterator[RecentChanges]:
    """Keep the newest state changes while the block runs, and post them if there is a webhook."""
    recent, logger = RecentChanges(), logging.getLogger("connector")
    webhook = None
    if settings.webhook_url is not None:
        webhook = Webhook(settings.webhook_url.get_secret_value(), role)
        recent.on_change = webhook.post
        webhook.start()
    logger.addHandler(recent)
    try:
        yield recent
    finally:
        logger.removeHandler(recent)
        if webhook is not None:
            webhook.stop()

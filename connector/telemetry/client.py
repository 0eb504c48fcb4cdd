"""Asks running programs for their status, over their own endpoint."""

import contextlib
import http.client
import json
import socket
import threading
import time
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from functools import partial
from itertools import chain
from types import NoneType
from typing import Any, NamedTuple

from connector.config import TelemetrySettings
from connector.telemetry.server import PORTS_TRIED

_SECONDS_MAX = 2.0
_AT_ONCE = 20
_BYTES_MAX = 10_000_000
_NUMBER = (int, float)
_INTEGER_MAX = 2**53
_PARTITION_DIGITS_MAX = 6
_PROGRAM = {"topic": str, "cluster": str}
_FAILING = {"what": str, "since": str, "reason": str}
_SOURCE = {"studies": list, "requests_left": int, "requests_per_minute_max": int}
_STUDY = {"study": str, "failing": (dict, NoneType), "read_ms": (int, NoneType), "rows": int,
          "events": int, "snapshot": (dict, NoneType)}  # fmt: skip
_SNAPSHOT = {"kind": str, "rows": int, "total": int}
_SINK = {"group": str, "partitions": dict, "consumed": int, "applied_ms": (int, NoneType)}
_NOTIFICATION = {"at": str, "type": str, "subject": str}
_PARTITION = {"lag": (int, NoneType), "lag_seconds": _NUMBER}


def program_statuses(settings: TelemetrySettings) -> list[dict[str, Any]]:
    """Return the status of each program that answers, with its ``address``. Blocks for 2 s at most.

    Resolving names is not counted. Without `TelemetrySettings.programs`, the ports that programs on
    this machine use are tried. A name with several addresses stands for several programs.
    """
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        places = list(chain.from_iterable(pool.map(_places, settings.programs)))
        if not settings.programs:
            places = list(_on_this_machine(settings))
        found = dict(zip(places, pool.map(_status, places), strict=True))
    answers = {place: body for place, body in found.items() if body is not None}
    by_ipv4 = {place.name for place in answers if not place.is_ipv6}
    return [
        body | {"address": _shown(place, places)}
        for place, body in answers.items()
        # A program that listens for both protocols is one program.
        if not (place.is_ipv6 and place.name in by_ipv4)
    ]


class _Place(NamedTuple):
    """Where a program may be: its name in the settings, and one address of that name."""

    name: str
    host: str
    port: int

    @property
    def is_ipv6(self) -> bool:
        return ":" in self.host


def _places(name: str) -> list[_Place]:
    host, _, port = name.rpartition(":")
    try:
        found = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)
    except (OSError, UnicodeError, OverflowError):
        return []
    return list(dict.fromkeys(_Place(name, str(each[4][0]), int(port)) for each in found))


def _shown(place: _Place, places: Sequence[_Place]) -> str:
    """The place's name in the settings if that has no other address, else the address."""
    alike = [each for each in places if (each.name, each.is_ipv6) == (place.name, place.is_ipv6)]
    if len(alike) == 1:
        return place.name
    return f"[{place.host}]:{place.port}" if place.is_ipv6 else f"{place.host}:{place.port}"


def _on_this_machine(settings: TelemetrySettings) -> Iterator[_Place]:
    for first in (settings.source_port, settings.sink_port):
        if first:
            for port in range(first, min(first + PORTS_TRIED, 65_536)):
                yield _Place(f"127.0.0.1:{port}", "127.0.0.1", port)


def _status(place: _Place) -> dict[str, Any] | None:
    connection = http.client.HTTPConnection(place.host, place.port, timeout=_SECONDS_MAX)
    # The timeout is that of each part of an answer; whatever trickles in is cut off here.
    watchdog = threading.Timer(_SECONDS_MAX, partial(_cut, connection))
    watchdog.daemon = True
    try:
        connection.connect()
        watchdog.start()
        connection.request("GET", "/status")
        body = json.loads(_read(connection.getresponse()))
    except (OSError, http.client.HTTPException, ValueError, RecursionError):
        return None
    finally:
        watchdog.cancel()
        connection.close()
    return body if _is_ours(body) else None


def _cut(connection: http.client.HTTPConnection) -> None:
    with contextlib.suppress(OSError, AttributeError):  # it has just been closed
        connection.sock.shutdown(socket.SHUT_RDWR)


def _read(response: http.client.HTTPResponse) -> bytes:
    """Read a body of limited size in limited time: anything may answer on these ports."""
    deadline, body = time.monotonic() + _SECONDS_MAX, b""
    while part := response.read1(65_536):
        body += part
        if len(body) > _BYTES_MAX or time.monotonic() > deadline:
            raise ValueError("not a status")
    return body


def _is_ours(body: Any) -> bool:
    """Whether it has the form of a program's status, of this version."""
    if not _has(body, _PROGRAM):
        return False
    if not _has_list(body, "failing", _FAILING) or not _has_list(
        body, "notifications", _NOTIFICATION
    ):
        return False
    if body.get("role") == "sink":
        return _has(body, _SINK) and all(
            number.isdecimal() and len(number) <= _PARTITION_DIGITS_MAX and _has(each, _PARTITION)
            for number, each in body["partitions"].items()
        )
    return (
        body.get("role") == "source"
        and _has(body, _SOURCE)
        and all(
            _has(each, _STUDY)
            and (each["failing"] is None or _has(each["failing"], _FAILING))
            and (each["snapshot"] is None or _has(each["snapshot"], _SNAPSHOT))
            for each in body["studies"]
        )
    )


def _has(value: Any, fields: Mapping[str, Any]) -> bool:
    return isinstance(value, dict) and all(
        isinstance(value.get(name), types) and _is_usable(name, value[name])
        for name, types in fields.items()
    )


def _has_list(body: Mapping[str, Any], name: str, fields: Mapping[str, Any]) -> bool:
    value = body.get(name)
    return isinstance(value, list) and all(_has(each, fields) for each in value)


def _is_usable(name: str, value: Any) -> bool:
    """Whether a value can be shown: anything may answer on these ports."""
    if isinstance(value, _NUMBER):
        return -_INTEGER_MAX < value < _INTEGER_MAX
    if not isinstance(value, str):
        return True
    if name in ("since", "at"):
        try:
            return datetime.fromisoformat(value).tzinfo is not None
        except ValueError:
            return False
    return not any(unicodedata.category(each) == "Cs" for each in value)

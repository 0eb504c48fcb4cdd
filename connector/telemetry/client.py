"""Asks running programs for their status, over their own endpoint."""

import http.client
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from connector.config import TelemetrySettings
from connector.telemetry.server import PORTS_TRIED

_SECONDS_MAX = 2.0
_AT_ONCE = 20


def program_statuses(settings: TelemetrySettings) -> list[dict[str, Any]]:
    """Return the status of each program that answers, with its ``address``. Blocks for 2 s at most.

    Without `TelemetrySettings.programs`, the ports that programs on this machine use are tried.
    """
    addresses = settings.programs or tuple(_on_this_machine(settings))
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        found = list(pool.map(_status, addresses))
    return [each for each in found if each is not None]


def _on_this_machine(settings: TelemetrySettings) -> Iterator[str]:
    for first in (settings.source_port, settings.sink_port):
        if first:
            for port in range(first, min(first + PORTS_TRIED, 65_536)):
                yield f"127.0.0.1:{port}"


def _status(address: str) -> dict[str, Any] | None:
    host, _, port = address.rpartition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=_SECONDS_MAX)
    try:
        connection.request("GET", "/status")
        response = connection.getresponse()
        body = json.loads(response.read())
    except (OSError, http.client.HTTPException, ValueError):
        return None
    finally:
        connection.close()
    is_ours = isinstance(body, dict) and body.get("role") in ("source", "sink")
    return body | {"address": address} if is_ours else None

"""The simulated API over HTTP: envelope, paging, authentication, errors and injected faults."""

import asyncio
import hmac
import math
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import orjson
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from connector.errors import FatalError
from connector.lab.simulator import filters
from connector.lab.simulator.faults import Faults, checked_shares, distorted
from connector.lab.simulator.filters import FilterError
from connector.lab.simulator.resources import STUDY_FILTERS
from connector.lab.simulator.study import Study, api_date
from connector.lab.simulator.tables import Query, Table
from connector.lab.simulator.workload import Workload

API_KEY = "simulator-api-key"
SECURITY_KEY = "simulator-security-key"
PREFIX = "/api/v1/edc/studies"
_SIZE_MAX = 500
_DEFAULT_SIZE = 25
_TICK_SECONDS = 0.05
_STALL_SECONDS = 120.0
_ANSWERS_KEPT = 10_000


class Answered(NamedTuple):
    """A response that was sent: time (monotonic seconds), request path and status."""

    at: float
    path: str
    status: int


@dataclass(slots=True)
class Simulation:
    """The complete state of the simulator."""

    studies: dict[str, Study]
    faults: Faults = field(default_factory=Faults)
    edits_per_second: float = 0.0
    delay_seconds: float = 0.0
    """Added delay of each response."""
    bytes_per_second: float = 0.0
    """Rate at which responses are generated, one at a time, before that delay; 0: instantly."""
    clock_offset_seconds: float = 0.0
    """How far the clock in the responses is ahead."""
    denied: set[str] = field(default_factory=set)
    """Keys of studies that the API key may not read."""
    workloads: list[Workload] = field(default_factory=list)
    answered: deque[Answered] = field(default_factory=lambda: deque(maxlen=_ANSWERS_KEPT))

    def __post_init__(self) -> None:
        self.workloads = [Workload(study) for study in self.studies.values()]

    def studies_table(self) -> Table:
        """Return the table of studies."""
        table = Table("", "studyKey", STUDY_FILTERS)
        for key in sorted(self.studies.keys() - self.denied):
            table.put(self.studies[key].row)
        return table

    async def edit(self) -> None:
        """Make live edits at ``edits_per_second`` until cancelled."""
        edits_due = 0.0
        while True:
            await asyncio.sleep(_TICK_SECONDS)
            if self.edits_per_second == 0:
                for workload in self.workloads:
                    workload.flush()
            edits_due += self.edits_per_second * _TICK_SECONDS
            while edits_due >= 1:
                edits_due -= 1
                for workload in self.workloads:
                    workload.step()


class _Rejection(Exception):  # noqa: N818 - a response, not a failure
    def __init__(self, status: int, code: str, description: str, **details: str) -> None:
        super().__init__(description)
        self.status, self.code, self.description, self.details = status, code, description, details


def make_app(simulation: Simulation) -> Starlette:
    """Return the ASGI application."""
    generation_lock = asyncio.Lock()

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        edits = asyncio.create_task(simulation.edit())
        yield
        edits.cancel()

    async def answer(request: Request) -> Response:
        response = respond(request)
        if simulation.bytes_per_second:
            async with generation_lock:
                await asyncio.sleep(len(response.body) / simulation.bytes_per_second)
        await asyncio.sleep(simulation.delay_seconds)
        answered = Answered(time.monotonic(), request.url.path, response.status_code)
        simulation.answered.append(answered)
        return response

    def respond(request: Request) -> Response:
        try:
            _authenticate(request)
            return _answer(simulation, request)
        except _Rejection as rejection:
            return _error(request, rejection)
        except FilterError as error:
            details = {"attribute": error.attribute, "value": error.value}
            bad_request = _Rejection(400, "1000", "Field raised validation errors", **details)
            return _error(request, bad_request)

    async def control(request: Request) -> Response:
        if request.method == "POST":
            body = orjson.loads(await request.body())
            try:
                simulation.faults.shares = checked_shares(body.get("faults", {}))
            except FatalError as error:
                return JSONResponse({"error": str(error)}, 400)
            simulation.edits_per_second = float(body.get("edits_per_second", 0))
            simulation.delay_seconds = float(body.get("delay_seconds", 0))
            simulation.bytes_per_second = float(body.get("bytes_per_second", 0))
        done = {name: sum(w.done[name] for w in simulation.workloads)
                for workload in simulation.workloads for name in workload.done}  # fmt: skip
        return JSONResponse(
            {
                "studies": list(simulation.studies),
                "edits_per_second": simulation.edits_per_second,
                "edits": done,
                "delay_seconds": simulation.delay_seconds,
                "bytes_per_second": simulation.bytes_per_second,
                "faults": simulation.faults.shares,
            }
        )

    routes = [
        Route(PREFIX, answer),
        Route(PREFIX + "/{study}/{resource}", answer),
        Route("/simulator", control, methods=["GET", "POST"]),
    ]
    app = Starlette(routes=routes, lifespan=lifespan)
    app.state.simulation = simulation
    return app


def _authenticate(request: Request) -> None:
    received = (request.headers.get("x-api-key", ""), request.headers.get("x-imn-security-key", ""))
    pairs = zip(received, (API_KEY, SECURITY_KEY), strict=True)
    matches = [hmac.compare_digest(one.encode(), other.encode()) for one, other in pairs]
    if not all(matches):
        raise _Rejection(401, "9001", "Unauthorized")


def _answer(simulation: Simulation, request: Request) -> Response:
    study_key, resource = request.path_params.get("study"), request.path_params.get("resource")
    study = None
    if study_key is None:
        table = simulation.studies_table()
    else:
        study = simulation.studies.get(study_key)
        if study is None or study_key in simulation.denied:
            raise _Rejection(403, "9001", "Insufficient permission")
        if resource not in study.tables:
            raise _Rejection(404, "9000", "Not found")
        table = study.table(resource)
    fault = simulation.faults.draw()
    query = _query(request, ignore_filter=fault == "filter_ignored")
    total, bodies = table.select(query)
    response = _faulty(fault, _envelope(request, query, total, bodies), bodies)
    if study and fault in {"edit_between_pages", "delete_between_pages"}:
        workload = next(w for w in simulation.workloads if w.study is study)
        workload.step() if fault == "edit_between_pages" else workload.hard_delete()
    return response


def _query(request: Request, *, ignore_filter: bool) -> Query:
    parameters = request.query_params
    page, size = _number(request, "page", 0), _number(request, "size", _DEFAULT_SIZE)
    if not 1 <= size <= _SIZE_MAX:
        raise FilterError("size", str(size))
    sort = []
    for text in parameters.getlist("sort"):
        name, _, direction = text.partition(",")
        sort.append((name, direction.lower() != "desc"))
    text = "" if ignore_filter else parameters.get("filter", "")
    return Query(
        alternatives=filters.parse(text),
        data_alternatives=filters.parse(parameters.get("recordDataFilter", ""), mixed=False),
        sort=sort,
        page=page,
        size=size,
    )


def _number(request: Request, name: str, default: int) -> int:
    text = request.query_params.get(name, str(default))
    if not text.isdigit():
        raise FilterError(name, text)
    return int(text)


def _metadata(request: Request, status: str, error: dict[str, Any]) -> dict[str, Any]:
    offset = timedelta(seconds=request.app.state.simulation.clock_offset_seconds)
    return {
        "status": status, "method": request.method, "path": request.url.path,
        "timestamp": api_date(datetime.now(UTC) + offset), "error": error,
    }  # fmt: skip


def _envelope(request: Request, query: Query, total: int, bodies: list[bytes]) -> bytes:
    pagination = {
        "currentPage": query.page, "size": query.size,
        "totalPages": math.ceil(total / query.size), "totalElements": total,
        "sort": [{"property": name, "direction": "ASC" if up else "DESC"}
                 for name, up in query.sort],
    }  # fmt: skip
    # Rows are stored as JSON, so a page is a plain join: this makes 20 000 rows/s easy.
    return b"".join((
        b'{"metadata":', orjson.dumps(_metadata(request, "OK", {})),
        b',"pagination":', orjson.dumps(pagination),
        b',"data":[', b",".join(bodies), b"]}",
    ))  # fmt: skip


def _error(request: Request, rejection: _Rejection) -> Response:
    error = {
        "code": rejection.code, "description": rejection.description, "field": rejection.details,
    }  # fmt: skip
    status = {400: "BAD_REQUEST", 401: "UNAUTHORIZED", 403: "FORBIDDEN", 404: "NOT_FOUND"}
    body = {"metadata": _metadata(request, status[rejection.status], error)}
    return JSONResponse(body, rejection.status)


_STATUS_FAULTS = {
    "rate_limit": (429, {"Retry-After": "1"}),
    "server_error": (503, {}),
    "redirect": (302, {"Location": "/"}),
    "no_content": (204, {}),
}


def _faulty(fault: str | None, envelope: bytes, bodies: list[bytes]) -> Response:
    if fault in _STATUS_FAULTS:
        status, headers = _STATUS_FAULTS[fault]
        return Response(status_code=status, headers=headers)
    if fault == "html":
        return Response("<html><body>Maintenance</body></html>", media_type="text/html")
    if fault in {"drop", "slow"}:
        return _stalling(envelope, cut=fault == "drop")
    if fault == "truncated":
        envelope = envelope[: len(envelope) // 2]
    elif fault is not None:
        envelope = distorted(fault, envelope, bodies)
    return Response(envelope, media_type="application/json")


def _stalling(envelope: bytes, *, cut: bool) -> Response:
    async def body() -> AsyncIterator[bytes]:
        yield envelope[: len(envelope) // 2]
        if cut:
            raise ConnectionResetError
        await asyncio.sleep(_STALL_SECONDS)

    headers = {"Content-Length": str(len(envelope))}
    return StreamingResponse(body(), headers=headers, media_type="application/json")

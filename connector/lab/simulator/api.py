"""The simulated API over HTTP: envelope, paging, authentication, errors, and faults on request."""

import asyncio
import hmac
import math
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
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
    """One answer that was given: when (monotonic seconds), to what path, with which status."""

    at: float
    path: str
    status: int


@dataclass(slots=True)
class Simulation:
    """The simulator's whole state."""

    studies: dict[str, Study]
    faults: Faults = field(default_factory=Faults)
    edits_per_second: float = 0.0
    delay_seconds: float = 0.0
    """How long each answer takes."""
    bytes_per_second: float = 0.0
    """How fast answers are made before that, one at a time; 0: they are there already."""
    workloads: list[Workload] = field(default_factory=list)
    answered: deque[Answered] = field(default_factory=lambda: deque(maxlen=_ANSWERS_KEPT))

    def __post_init__(self) -> None:
        self.workloads = [Workload(study) for study in self.studies.values()]

    def studies_table(self) -> Table:
        """The list of studies."""
        table = Table("", "studyKey", STUDY_FILTERS)
        for key in sorted(self.studies):
            table.put(self.studies[key].row)
        return table

    async def edit(self) -> None:
        """Make changes at the asked rate for ever."""
        owed = 0.0
        while True:
            await asyncio.sleep(_TICK_SECONDS)
            if self.edits_per_second == 0:
                for workload in self.workloads:
                    workload.flush()
            owed += self.edits_per_second * _TICK_SECONDS
            while owed >= 1:
                owed -= 1
                for workload in self.workloads:
                    workload.step()


class _Refused(Exception):  # noqa: N818 - an answer, not a failure
    def __init__(self, status: int, code: str, description: str, **about: str) -> None:
        super().__init__(description)
        self.status, self.code, self.description, self.about = status, code, description, about


def make_app(simulation: Simulation) -> Starlette:
    """The ASGI application."""
    making = asyncio.Lock()

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        editing = asyncio.create_task(simulation.edit())
        yield
        editing.cancel()

    async def answer(request: Request) -> Response:
        response = respond(request)
        if simulation.bytes_per_second:
            async with making:
                await asyncio.sleep(len(response.body) / simulation.bytes_per_second)
        await asyncio.sleep(simulation.delay_seconds)
        about = Answered(time.monotonic(), request.url.path, response.status_code)
        simulation.answered.append(about)
        return response

    def respond(request: Request) -> Response:
        try:
            _authenticate(request)
            return _answer(simulation, request)
        except _Refused as refused:
            return _error(request, refused)
        except FilterError as error:
            about = {"attribute": error.attribute, "value": error.value}
            return _error(request, _Refused(400, "1000", "Field raised validation errors", **about))

    async def control(request: Request) -> Response:
        if request.method == "POST":
            wanted = orjson.loads(await request.body())
            try:
                simulation.faults.shares = checked_shares(wanted.get("faults", {}))
            except FatalError as error:
                return JSONResponse({"error": str(error)}, 400)
            simulation.edits_per_second = float(wanted.get("edits_per_second", 0))
            simulation.delay_seconds = float(wanted.get("delay_seconds", 0))
            simulation.bytes_per_second = float(wanted.get("bytes_per_second", 0))
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
    return Starlette(routes=routes, lifespan=lifespan)


def _authenticate(request: Request) -> None:
    given = (request.headers.get("x-api-key", ""), request.headers.get("x-imn-security-key", ""))
    wanted = (API_KEY, SECURITY_KEY)
    same = [hmac.compare_digest(a.encode(), b.encode()) for a, b in zip(given, wanted, strict=True)]
    if not all(same):
        raise _Refused(401, "9001", "Unauthorized")


def _answer(simulation: Simulation, request: Request) -> Response:
    study_key, resource = request.path_params.get("study"), request.path_params.get("resource")
    study = None
    if study_key is None:
        table = simulation.studies_table()
    else:
        study = simulation.studies.get(study_key)
        if study is None:
            raise _Refused(403, "9001", "Insufficient permission")
        if resource not in study.tables:
            raise _Refused(404, "9000", "Not found")
        table = study.table(resource)
    fault = simulation.faults.drawn()
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
    return {
        "status": status, "method": request.method, "path": request.url.path,
        "timestamp": api_date(datetime.now(UTC)), "error": error,
    }  # fmt: skip


def _envelope(request: Request, query: Query, total: int, bodies: list[bytes]) -> bytes:
    pagination = {
        "currentPage": query.page, "size": query.size,
        "totalPages": math.ceil(total / query.size), "totalElements": total,
        "sort": [{"property": name, "direction": "ASC" if up else "DESC"}
                 for name, up in query.sort],
    }  # fmt: skip
    # Rows are kept as JSON: a page is made by joining, which is what makes 20 000 rows/s easy.
    return b"".join((
        b'{"metadata":', orjson.dumps(_metadata(request, "OK", {})),
        b',"pagination":', orjson.dumps(pagination),
        b',"data":[', b",".join(bodies), b"]}",
    ))  # fmt: skip


def _error(request: Request, refused: _Refused) -> Response:
    error = {"code": refused.code, "description": refused.description, "field": refused.about}
    status = {400: "BAD_REQUEST", 401: "UNAUTHORIZED", 403: "FORBIDDEN", 404: "NOT_FOUND"}
    body = {"metadata": _metadata(request, status[refused.status], error)}
    return JSONResponse(body, refused.status)


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

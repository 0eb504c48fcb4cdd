"""The pages and fragments of the web page. Read-only; what waits for a server has threads."""

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote

import structlog
from anyio import CapacityLimiter, to_thread
from jinja2 import Environment, FileSystemLoader
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from connector.defects import describe
from connector.errors import ConnectorError
from connector.model.letters import Letter, LetterFilter
from connector.ui import views
from connector.ui.explorer import Explorer
from connector.ui.monitor import Monitor
from connector.ui.security import COOKIE, Guard, is_token

_FOLDER = Path(__file__).parent
_COOKIE_SECONDS = 12 * 3600
_WRONG_LOGIN_SECONDS = 1.0
_FORM_BYTES_MAX = 4096
_PAGE_MAX = 100_000
_ASKING_MAX = 8
_NUMBER = re.compile(r"[0-9]{1,18}")

log = structlog.stdlib.get_logger("connector.ui")

_TITLES = {404: "Not found", 503: "Busy"}


class Pages:
    """What the pages are made of."""

    def __init__(
        self,
        monitor: Monitor,
        explorer: Callable[[], Explorer],
        letters: Callable[[LetterFilter], tuple[Sequence[Letter], int]],
        token: str | None,
    ) -> None:
        """``explorer`` connects to the graph; ``letters`` reads the newest waiting letters.

        It also returns how many wait.
        """
        self._monitor, self._explorer, self._letters = monitor, explorer, letters
        self._token = token
        self._asking_threads = CapacityLimiter(_ASKING_MAX)
        self._wrong_logins = asyncio.Semaphore(1)
        self._templates = Environment(
            loader=FileSystemLoader(_FOLDER / "templates"),
            autoescape=True,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.filters.update(views.FILTERS)
        self._templates.globals["version"] = version("imednet-connector")

    def app(self) -> ASGIApp:
        """The application, guarded: even its failures carry the security headers."""
        study = "/explore/{study:path}"  # a study key may contain slashes
        routes = [
            Route("/", self._pipeline),
            Route("/live", self._live),
            Route("/series", self._series),
            Route("/letters", self._asking(self._dead_letters)),
            Route("/explore", self._asking(self._studies)),
            Route(f"{study}/subjects/{{subject}}", self._asking(self._subject)),
            Route(f"{study}/subjects/{{subject}}/graph", self._asking(self._graph)),
            Route(f"{study}/records/{{record}}", self._asking(self._record)),
            Route(study, self._study, methods=["GET", "POST"]),
            Route("/login", self._login, methods=["GET", "POST"]),
            Mount("/assets", StaticFiles(directory=_FOLDER / "assets")),
        ]
        app = Starlette(
            routes=routes,
            exception_handlers={
                ConnectorError: self._unavailable,
                HTTPException: self._missing,
                Exception: self._defective,
            },
        )
        app.router.redirect_slashes = False  # it would redirect to whatever the Host header says
        return Guard(app, self._token)

    def _asking(
        self, page: Callable[[Request], Response]
    ) -> Callable[[Request], Awaitable[Response]]:
        """Answer on one of a few threads: pages that wait for a server do not hold up the others.

        If all wait already, answer at once that this one does not.
        """

        async def answer(request: Request) -> Response:
            if self._asking_threads.available_tokens < 1:
                raise HTTPException(503, "Too many pages wait for a server. Try again in a moment")
            return await to_thread.run_sync(page, request, limiter=self._asking_threads)

        return answer

    def _page(
        self, name: str, context: Mapping[str, Any] | None = None, status: int = 200
    ) -> Response:
        waiting = views.letters_waiting(self._monitor.taken)
        text = self._templates.get_template(f"{name}.html").render(
            letters_waiting=waiting, **(context or {})
        )
        return HTMLResponse(text, status)

    # ------------------------------------------------------------------------------ pipeline

    def _pipeline(self, _: Request) -> Response:
        return self._page("pipeline", self._state())

    def _live(self, _: Request) -> Response:
        """The parts of the pipeline's page that change, for htmx to swap."""
        return self._page("live", self._state())

    def _state(self) -> dict[str, Any]:
        return views.pipeline(self._monitor.taken, self._monitor.taken_at)

    def _series(self, request: Request) -> Response:
        try:
            after = float(request.query_params.get("after", "0"))
        except ValueError:
            raise HTTPException(400, "after is a number of seconds") from None
        return JSONResponse(self._monitor.history.columns(after))

    def _dead_letters(self, request: Request) -> Response:
        reason = request.query_params.get("reason") or None
        newest, count = self._letters(LetterFilter(reason=reason))
        return self._page("letters", views.letters(newest, count, reason))

    # ------------------------------------------------------------------------------ the graph

    def _studies(self, _: Request) -> Response:
        return self._page("studies", {"studies": self._explorer().studies()})

    async def _study(self, request: Request) -> Response:
        """A study's sites and subjects. What is searched for comes by POST, so no URL has it."""
        find = ""
        if request.method == "POST":
            find = (await _field(request, "find")).strip()
        return await self._asking(partial(self._study_page, find=find))(request)

    def _study_page(self, request: Request, find: str) -> Response:
        study = request.path_params["study"]
        site, page = (_number(request, name) for name in ("site", "page"))
        explorer = self._explorer()
        page = 0 if find else min(page or 0, _PAGE_MAX)
        subjects, has_more = explorer.subjects(study, site, find, page)
        context = {"study": study, "subjects": subjects, "has_more": has_more, "site": site,
                   "page": page, "find": find}  # fmt: skip
        if _is_fragment(request):
            return self._page("subjects", context)
        sites = explorer.sites(study)
        if not sites and not subjects and all(study != each["key"] for each in explorer.studies()):
            raise HTTPException(404, f"The graph has no study {study}")
        return self._page("study", context | {"sites": sites})

    def _subject(self, request: Request) -> Response:
        study, number = request.path_params["study"], _id(request, "subject")
        explorer = self._explorer()
        subject = explorer.subject(study, number)
        if subject is None:
            raise HTTPException(404, f"Study {study} has no subject with the id {number}")
        record_id, record = _number(request, "record"), None
        if record_id is not None:
            record = explorer.record(study, record_id)
            if record is None:
                raise HTTPException(404, f"Study {study} has no record {record_id}")
            if record["subject"] != number:  # it has moved: its values are another subject's
                return RedirectResponse(
                    f"/explore/{quote(study, safe='')}/records/{record_id}", 303
                )
        context = {"study": study, "id": number, "subject": subject, "record": record}
        return self._page("subject", context)

    def _graph(self, request: Request) -> Response:
        study, number = request.path_params["study"], _id(request, "subject")
        return JSONResponse(self._explorer().graph(study, number))

    def _record(self, request: Request) -> Response:
        study, number = request.path_params["study"], _id(request, "record")
        record = self._explorer().record(study, number)
        if record is None:
            raise HTTPException(404, f"Study {study} has no record {number}")
        name = "record" if _is_fragment(request) else "record_page"
        return self._page(name, {"study": study, "record": record})

    # ------------------------------------------------------------------------------ the rest

    async def _login(self, request: Request) -> Response:
        if self._token is None:
            return RedirectResponse("/", 303)
        if request.method != "POST":
            return self._page("login", {"is_wrong": False})
        given = await _field(request, "token")
        if not is_token(self._token, given):
            async with self._wrong_logins:  # one at a time, so that guessing takes for ever
                await asyncio.sleep(_WRONG_LOGIN_SECONDS)
            return self._page("login", {"is_wrong": True}, 401)
        response = RedirectResponse("/", 303)
        response.set_cookie(
            COOKIE,
            given,
            max_age=_COOKIE_SECONDS,
            httponly=True,
            samesite="strict",
            secure=request.url.scheme == "https",
        )
        return response

    def _unavailable(self, request: Request, error: Exception) -> Response:
        return self._failed(request, 503, "A server does not answer", str(error))

    def _missing(self, request: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 500
        detail = error.detail if isinstance(error, HTTPException) else ""
        answer = self._failed(request, status, _TITLES.get(status, "Not valid"), detail)
        answer.headers.update(getattr(error, "headers", None) or {})
        return answer

    def _defective(self, request: Request, error: Exception) -> Response:
        log.error("page failed", reason=describe(error))  # without content
        return self._failed(request, 500, "This page has failed", "The log has the reason.")

    def _failed(self, request: Request, status: int, title: str, text: str) -> Response:
        context = {"title": title, "text": text}
        name = "failure" if _is_fragment(request) else "failure_page"
        return self._page(name, context, status)


def _number(request: Request, name: str) -> int | None:
    text = request.query_params.get(name)
    if not text:
        return None
    if not _NUMBER.fullmatch(text):
        raise HTTPException(400, f"{name} is a number")
    return int(text)


def _id(request: Request, name: str) -> int:
    text = request.path_params[name]
    if not _NUMBER.fullmatch(text):
        raise HTTPException(404, f"A {name} has a number as its id")
    return int(text)


async def _field(request: Request, name: str) -> str:
    """Read one field of a short form; anything longer is refused."""
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > _FORM_BYTES_MAX:
            raise HTTPException(413, "The form is too long")
    return parse_qs(body.decode(errors="replace")).get(name, [""])[0]


def _is_fragment(request: Request) -> bool:
    """Whether htmx asks for a part of a page; when it restores one, it needs the whole page."""
    headers = request.headers
    return "hx-request" in headers and "hx-history-restore-request" not in headers

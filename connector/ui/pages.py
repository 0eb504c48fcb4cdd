"""The pages and fragments of the web page. Read-only; each handler runs on a thread."""

from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from jinja2 import Environment, FileSystemLoader
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from connector.errors import ConnectorError
from connector.model.letters import Letter, LetterFilter
from connector.ui import views
from connector.ui.explorer import Explorer
from connector.ui.monitor import Monitor
from connector.ui.security import COOKIE, Guard, is_token

_FOLDER = Path(__file__).parent
_COOKIE_SECONDS = 12 * 3600
_FIND_MAX = 100


class Pages:
    """What the pages are made of."""

    def __init__(
        self,
        monitor: Monitor,
        explorer: Callable[[], Explorer],
        letters: Callable[[LetterFilter], Sequence[Letter]],
        token: str | None,
    ) -> None:
        """``explorer`` connects to the graph; ``letters`` reads the waiting dead letters."""
        self._monitor, self._explorer, self._letters = monitor, explorer, letters
        self._token = token
        self._templates = Environment(
            loader=FileSystemLoader(_FOLDER / "templates"),
            autoescape=True,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.filters.update(views.FILTERS)
        self._templates.globals["version"] = version("imednet-connector")

    def app(self) -> Starlette:
        """The application."""
        study = "/explore/{study}"
        routes = [
            Route("/", self._pipeline),
            Route("/live", self._live),
            Route("/series", self._series),
            Route("/letters", self._dead_letters),
            Route("/explore", self._studies),
            Route(study, self._study, methods=["GET", "POST"]),
            Route(f"{study}/subjects/{{subject:int}}", self._subject),
            Route(f"{study}/subjects/{{subject:int}}/graph", self._graph),
            Route(f"{study}/records/{{record:int}}", self._record),
            Route("/login", self._login, methods=["GET", "POST"]),
            Mount("/assets", StaticFiles(directory=_FOLDER / "assets")),
        ]
        return Starlette(
            routes=routes,
            middleware=[Middleware(Guard, token=self._token)],
            exception_handlers={
                ConnectorError: self._unavailable,
                HTTPException: self._missing,
            },
        )

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
        return self._page("pipeline", views.pipeline(self._monitor.taken))

    def _live(self, _: Request) -> Response:
        """The parts of the pipeline's page that change, for htmx to swap."""
        return self._page("live", views.pipeline(self._monitor.taken))

    def _series(self, request: Request) -> Response:
        try:
            after = float(request.query_params.get("after", "0"))
        except ValueError:
            raise HTTPException(400, "after is a number of seconds") from None
        return JSONResponse(self._monitor.history.columns(after))

    def _dead_letters(self, request: Request) -> Response:
        reason = request.query_params.get("reason") or None
        found = self._letters(LetterFilter(reason=reason))
        return self._page("letters", views.letters(found, reason))

    # ------------------------------------------------------------------------------ the graph

    def _studies(self, _: Request) -> Response:
        return self._page("studies", {"studies": self._explorer().studies()})

    async def _study(self, request: Request) -> Response:
        """A study's sites and subjects. What is searched for comes by POST, so no URL has it."""
        find = ""
        if request.method == "POST":
            body = parse_qs((await request.body()).decode(errors="replace"))
            find = body.get("find", [""])[0].strip()[:_FIND_MAX]
        return await run_in_threadpool(self._study_page, request, find)

    def _study_page(self, request: Request, find: str) -> Response:
        study = request.path_params["study"]
        site, page = (_number(request, name) for name in ("site", "page"))
        explorer = self._explorer()
        subjects, has_more = explorer.subjects(study, site, find, page or 0)
        context = {"study": study, "subjects": subjects, "has_more": has_more, "site": site,
                   "page": page or 0, "find": find}  # fmt: skip
        if "hx-request" in request.headers:
            return self._page("subjects", context)
        sites = explorer.sites(study)
        if not sites and not subjects and all(study != each["key"] for each in explorer.studies()):
            raise HTTPException(404, f"The graph has no study {study}")
        return self._page("study", context | {"sites": sites})

    def _subject(self, request: Request) -> Response:
        study, number = request.path_params["study"], request.path_params["subject"]
        explorer = self._explorer()
        subject = explorer.subject(study, number)
        if subject is None:
            raise HTTPException(404, f"Study {study} has no subject with the id {number}")
        record_id = _number(request, "record")
        record = explorer.record(study, record_id) if record_id is not None else None
        context = {"study": study, "id": number, "subject": subject, "record": record}
        return self._page("subject", context)

    def _graph(self, request: Request) -> Response:
        study, number = request.path_params["study"], request.path_params["subject"]
        return JSONResponse(self._explorer().graph(study, number))

    def _record(self, request: Request) -> Response:
        study, number = request.path_params["study"], request.path_params["record"]
        record = self._explorer().record(study, number)
        if record is None:
            raise HTTPException(404, f"Study {study} has no record {number}")
        name = "record" if "hx-request" in request.headers else "record_page"
        return self._page(name, {"study": study, "record": record})

    # ------------------------------------------------------------------------------ the rest

    async def _login(self, request: Request) -> Response:
        if request.method == "GET":
            return self._page("login", {"is_wrong": False})
        body = parse_qs((await request.body()).decode(errors="replace"))
        given = body.get("token", [""])[0]
        if not is_token(self._token, given):
            return self._page("login", {"is_wrong": True}, 401)
        response = RedirectResponse("/", 303)
        response.set_cookie(
            COOKIE, given, max_age=_COOKIE_SECONDS, httponly=True, samesite="strict"
        )
        return response

    def _unavailable(self, request: Request, error: Exception) -> Response:
        return self._failed(request, 503, "A server does not answer", str(error))

    def _missing(self, request: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 500
        detail = error.detail if isinstance(error, HTTPException) else ""
        title = "Not found" if status == HTTPStatus.NOT_FOUND else "The request is not valid"
        return self._failed(request, status, title, detail)

    def _failed(self, request: Request, status: int, title: str, text: str) -> Response:
        context = {"title": title, "text": text}
        name = "failure" if "hx-request" in request.headers else "failure_page"
        return self._page(name, context, status)


def _number(request: Request, name: str) -> int | None:
    text = request.query_params.get(name)
    if not text:
        return None
    if not text.isdecimal() or len(text) > 18:  # noqa: PLR2004 - fits into 64 bits
        raise HTTPException(400, f"{name} is a number")
    return int(text)

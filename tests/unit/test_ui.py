"""The web page: what it shows, to whom, and that no content can become markup."""

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import httpx
import pytest
from neo4j.time import Date
from pydantic import SecretStr, ValidationError
from starlette.types import ASGIApp
from structlog.testing import capture_logs

from connector.config import Settings
from connector.config.ui import UiSettings
from connector.errors import RetryableError
from connector.model.letters import Letter, LetterFilter
from connector.ops.status import Surroundings
from connector.ui import views
from connector.ui.durations import moment
from connector.ui.explorer import Row
from connector.ui.history import SAMPLES_MAX, History, Sample
from connector.ui.monitor import Monitor
from connector.ui.pages import Pages
from connector.ui.security import HEADERS, is_loopback
from connector.ui.snapshot import Snapshot, own_programs, problems
from tests.builders import record_row, upsert
from tests.unit.test_redrive import letter
from tests.unit.test_status import FAILING, sink, source, study

HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>{{ 7 * 7 }}"
TOKEN = "a-token-of-some-length"
LOCAL = "http://127.0.0.1:8474"


class Browser:
    """A client that asks the application without a server between, and keeps its cookies."""

    def __init__(self, app: ASGIApp, base: str) -> None:
        self._app, self._base = app, base
        self._cookies = httpx.Cookies()

    def get(self, path: str, **options: Any) -> httpx.Response:
        return asyncio.run(self.ask("GET", path, **options))

    def post(self, path: str, **options: Any) -> httpx.Response:
        return asyncio.run(self.ask("POST", path, **options))

    async def ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        transport = httpx.ASGITransport(self._app, raise_app_exceptions=False)
        async with httpx.AsyncClient(
            transport=transport, base_url=self._base, cookies=self._cookies
        ) as connection:
            answer = await connection.request(method, path, **options)
            self._cookies = connection.cookies
            return answer


class FakeExplorer:
    """A graph with one study, one subject and one record, of hostile content throughout."""

    def studies(self) -> list[Row]:
        return [{"key": HOSTILE, "name": HOSTILE, "sites": 1, "subjects": 1}]

    def sites(self, _: str) -> list[Row]:
        return [{"id": 1, "name": HOSTILE, "status": HOSTILE, "subjects": 1}]

    def subjects(self, _: str, __: int | None, find: str, ___: int) -> tuple[list[Row], bool]:
        if find and not HOSTILE.startswith(find):
            return [], False
        row = {
            "id": 2,
            "key": HOSTILE,
            "status": HOSTILE,
            "site": HOSTILE,
            "visits": 3,
            "queries": 4,
        }
        return [row], True

    def subject(self, _: str, subject: int) -> Row | None:
        if subject != 2:
            return None
        record = {"id": 7, "form": HOSTILE, "form_name": HOSTILE, "deleted": True, "queries": 1}
        visit = {"id": 5, "name": HOSTILE, "date": HOSTILE, "deleted": False, "records": [record]}
        fields = {"subject_key": HOSTILE, "subject_status": HOSTILE, "site_id": 1,
                  "site_name": HOSTILE}  # fmt: skip
        return {"fields": {"subject_key": None} | fields, "visits": [visit], "records": [record]}

    def graph(self, _: str, __: int) -> Row:
        node = {"data": {"id": "a", "kind": "Record", "label": HOSTILE, "record": 7}}
        return {"elements": [node], "left_out": 0}

    def record(self, _: str, record: int) -> Row | None:
        if record != 7:
            return None
        comment = {
            "date": HOSTILE,
            "user": HOSTILE,
            "comment": HOSTILE,
            "annotation_status": HOSTILE,
        }
        return {
            "fields": {"record_id": 7, "form_key": HOSTILE, "record_status": HOSTILE,
                       "deleted": False, "_version": 5},
            "visit": 5, "visit_name": HOSTILE, "form": HOSTILE, "subject": 2,
            "subject_key": HOSTILE, "vanished": True,
            "values": [(HOSTILE, HOSTILE, "text"), ("FLAG", True, "boolean")],
            "queries": [{"is_open": True, "description": HOSTILE, "type": HOSTILE,
                         "variable": HOSTILE, "comments": [comment]}],
            "revisions": [{"revision": 1, "reason": HOSTILE, "status": "", "date": HOSTILE,
                           "user": HOSTILE, "role": HOSTILE}],
            "codings": [{"variable": HOSTILE, "value": HOSTILE, "code": HOSTILE,
                         "dictionary": HOSTILE, "version": HOSTILE, "date": HOSTILE}],
        }  # fmt: skip


class FakeMonitor:
    """What is known of a pipeline."""

    def __init__(self, taken: Snapshot | None) -> None:
        self.taken, self.taken_at, self.history = taken, 5.0, History()
        self.history.add(Sample(100.0, 1.0, 2.0, 3, 4.0, 5))


def change(**fields: str) -> dict[str, str]:
    usual = {"at": "2026-01-31T08:00:00+00:00", "type": "failed", "subject": "neo4j"}
    return usual | fields


def taken_of(*programs: dict[str, Any], **around: Any) -> Snapshot:
    return Snapshot(
        [{"notifications": []} | each for each in programs],
        Surroundings(**{"is_asked": True} | around),
        2.0,
        5.0,
    )


HEALTHY = taken_of(
    source(study("WELL"), study(HOSTILE, failing=FAILING | {"reason": HOSTILE}), requests_left=5,
           requests_per_minute_max=60, notifications=[change(reason=HOSTILE)]),
    sink("one:9484", {"0": {"lag": 4, "lag_seconds": 1.0}}, applied_ms=5),
    lag={0: 4, 1: 6}, letters_by_reason=Counter({HOSTILE: 3}), nodes={"recordRevisions": 1200},
    problems=[HOSTILE],
)  # fmt: skip


def client(
    taken: Snapshot | None = HEALTHY,
    *,
    token: str | None = None,
    explorer: Callable[[], Any] = FakeExplorer,
    letters: Sequence[Letter] = (),
    base: str = LOCAL,
) -> Browser:
    def waiting(wanted: LetterFilter) -> tuple[list[Letter], int]:
        found = [each for each in letters if wanted.takes(each)]
        return found[:2], len(found)

    pages = Pages(FakeMonitor(taken), explorer, waiting, token)  # type: ignore[arg-type]
    return Browser(pages.app(), base)


PATHS = ["/", "/live", "/letters", "/explore", "/explore/DEMO", "/explore/DEMO?site=1&page=2",
         "/explore/DEMO/subjects/2", "/explore/DEMO/subjects/2?record=7", "/explore/DEMO/records/7",
         "/explore/%3Cscript%3E", "/explore/%3Cscript%3E/records/9", "/explore/A/B",
         "/explore/A%2FB/subjects/2"]  # fmt: skip


@pytest.mark.parametrize("path", PATHS)
def test_no_content_becomes_markup(path: str) -> None:
    """Whatever a record, key or reason contains is shown as text, and the headers forbid more."""
    hostile = [letter(1, upsert(record_row(1)), HOSTILE[:40])]
    answer = client(letters=hostile).get(path)
    assert answer.status_code in (200, 404)
    assert "<script>alert" not in answer.text
    assert "<img" not in answer.text
    assert "49" not in answer.text.replace("1249", ""), "content was rendered as a template"
    for name, value in HEADERS.items():
        assert answer.headers[name] == value
    assert answer.headers["cache-control"] == "no-store"


def test_only_files_of_the_package_are_loaded() -> None:
    """Every address in a page is one of this program, and each asset exists."""
    browser = client()
    for path in PATHS:
        text = browser.get(path).text
        assert "http://" not in text
        assert "https://" not in text
        assert 'style="' not in text, "the security policy would block it"
        for part in text.split('"/assets/')[1:]:
            assert browser.get(f"/assets/{part.partition(chr(34))[0]}").status_code == 200


def test_what_is_unknown_is_said() -> None:
    """Before the first answers, for studies, subjects and records that do not exist, and outages."""
    assert "Asking the programs" in client(None).get("/").text
    assert client(None).get("/live").text.strip() == ""
    for path in ("/explore/DEMO/subjects/3", "/explore/DEMO/records/8", "/nothing"):
        answer = client().get(path)
        assert (answer.status_code, "<nav" in answer.text) == (404, True)

    def gone() -> FakeExplorer:
        raise RetryableError("Neo4j does not answer")

    answer = client(explorer=gone).get("/explore")
    assert (answer.status_code, "Neo4j does not answer" in answer.text) == (503, True)
    fragment = client(explorer=gone).get("/explore/DEMO/records/7", headers={"HX-Request": "true"})
    assert "<html" not in fragment.text
    for path in ("/explore/DEMO?site=x", "/explore/DEMO?page=-1", "/series?after=x",
                 f"/explore/DEMO?site={'9' * 30}"):  # fmt: skip
        assert client().get(path).status_code == 400


class Stubs(FakeExplorer):
    """Entities of which the graph has only the key: others refer to them."""

    def subject(self, _: str, __: int) -> Row | None:
        return {"fields": {"study_key": "S", "subject_id": 2}, "visits": [], "records": []}

    def record(self, _: str, __: int) -> Row | None:
        unknown = dict.fromkeys(("visit", "visit_name", "form", "subject_key"))
        lists: Row = {"values": [], "queries": [], "revisions": [], "codings": []}
        return unknown | lists | {"fields": {"record_id": 7}, "vanished": False, "subject": 2}


@pytest.mark.parametrize("path", ["/subjects/2", "/subjects/2?record=7", "/records/7"])
def test_stubs_are_shown_as_what_they_are(path: str) -> None:
    """A node without properties breaks no page."""
    answer = client(explorer=Stubs).get(f"/explore/DEMO{path}")
    assert answer.status_code == 200
    assert "None" not in answer.text.replace("None.", "")
    if "7" in path:
        assert "stub" in answer.text


def test_what_is_searched_for_is_in_no_address() -> None:
    """A subject's key is personal: it travels in the body, and pages link to ids."""
    browser = client()
    page = browser.get("/explore/DEMO").text
    assert 'method="post"' in page
    found = browser.post(
        "/explore/DEMO", content="find=%3Cscript", headers={"HX-Request": "true"}
    ).text
    assert "/subjects/2" in found
    assert "<html" not in found
    assert "No subject" in browser.post("/explore/DEMO", content="find=other").text


def test_the_page_needs_its_token() -> None:
    """With a token nothing is shown without it; the cookie keeps it from scripts and other sites."""
    browser = client(token=TOKEN, base="http://elsewhere:8474")
    assert browser.get("/").status_code == 303
    assert browser.get("/").headers["location"] == "/login"
    assert browser.get("/series", headers={"HX-Request": "true"}).status_code == 401
    assert browser.get("/", headers={"Authorization": "Bearer wrong"}).status_code == 401
    assert browser.get("/", headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 200
    assert browser.get("/login").status_code == 200
    assert browser.get("/assets/app.css").status_code == 200
    wrong = browser.post("/login", content="token=wrong")
    assert (wrong.status_code, "set-cookie" in wrong.headers) == (401, False)
    right = browser.post("/login", content=f"token={TOKEN}")
    assert right.status_code == 303
    assert "HttpOnly" in right.headers["set-cookie"]
    assert "SameSite=strict" in right.headers["set-cookie"]
    assert browser.get("/").status_code == 200


def test_without_a_token_only_this_machine_is_answered() -> None:
    """A foreign page whose name resolves to this machine gets nothing, nor does a login."""
    for host in ("127.0.0.1:8474", "localhost:8474", "[::1]:8474"):
        assert client(base=f"http://{host}").get("/").status_code == 200
    for host in ("attacker.example:8474", "10.0.0.1", "127.0.0.1.attacker.example"):
        assert client(base=f"http://{host}").get("/").status_code == 403
    login = client().post("/login", content="token=")
    assert (login.status_code, "set-cookie" in login.headers) == (303, False)
    assert [is_loopback(each) for each in ("127.1.2.3", "::1", "0.0.0.0", "::", "host")] == [
        True, True, False, False, False,
    ]  # fmt: skip


def test_the_pipeline_names_what_fails() -> None:
    """Each of the five parts has its own state; a part whose program is silent says so."""

    def states(taken: Snapshot) -> dict[str, tuple[str, str]]:
        return {
            each["name"]: (each["tone"], each["state"]) for each in views.pipeline(taken)["stages"]
        }

    assert states(HEALTHY)["Source"] == ("bad", "1 of 2 studies failing")
    assert states(HEALTHY)["Sinks"] == ("ok", "1 sink")
    down = FAILING | {"what": "neo4j"}
    silent = states(taken_of(sink("one:9484", {}, failing=[down])))
    assert silent["Neo4j"] == ("bad", "failing")
    assert silent["Source"] == silent["iMednet API"] == ("warn", "no answer")
    assert silent["Kafka"][0] == "ok"
    assert "no source answers" in " ".join(problems(taken_of(sink("one:9484", {}))))


def test_figures_are_those_of_the_snapshot() -> None:
    """Lag, time to catch up, bars and the newest notifications first."""
    found = views.pipeline(HEALTHY)
    assert (found["lag"], found["catch_up"]) == (10, "caught up in 3 s")
    assert found["nodes"] == [("record revisions", 1200)]
    assert [(each["name"], each["step"]) for each in found["partitions"]] == [("1", 100), ("0", 70)]
    late = change(at="2026-01-31T09:00:00+00:00", type="recovered")
    both = taken_of(source(notifications=[change()], requests_left=1, requests_per_minute_max=1),
                    sink("one:9484", {}, notifications=[late]))  # fmt: skip
    kinds = [each["kind"] for each in views.pipeline(both)["notifications"]]
    assert kinds == ["recovered", "failed"]


def test_sinks_of_other_groups_are_not_part_of_the_pipeline(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They fill other graphs; their rates and lag are not this pipeline's."""
    own = {"group": "imednet-sink"}
    answers = [
        source(), source(address="two:9464", cluster="d"), source(address="three:9464", topic="test"),
        sink("one:9484", {}), sink("two:9485", {}, **own), sink("three:9486", {}, cluster="d", **own),
        sink("four:9487", {}, topic="test", **own), sink("five:9488", {}, cluster="", **own),
    ]  # fmt: skip
    monkeypatch.setattr("connector.ui.snapshot.program_statuses", lambda _: answers)
    addresses = [each["address"] for each in own_programs(Settings(), "c")]
    assert addresses == ["one:9464", "two:9485", "five:9488"]
    assert len(own_programs(Settings())) == 5, "the cluster is not known"


def test_the_history_keeps_an_hour_and_returns_what_is_new() -> None:
    """A page asks for what it lacks; the oldest samples are dropped."""
    history = History()
    for second in range(SAMPLES_MAX + 10):
        history.add(Sample(float(second), 1.0, None, 3, None, 0))
    assert history.columns(0.0)["at_seconds"][0] == 10.0
    assert len(history.columns(0.0)["lag"]) == SAMPLES_MAX
    newest = history.columns(float(SAMPLES_MAX + 8))
    assert newest["at_seconds"] == [float(SAMPLES_MAX + 9)]
    assert newest["applied"] == [None]


def test_dead_letters_are_listed_without_content() -> None:
    """The page has ids and reasons only; the content stays in the queue."""
    found = [letter(at, upsert(record_row(at, recordStatus="canary"))) for at in range(1, 4)]
    page = client(letters=found).get("/letters").text
    assert page.count("index_size") >= 2
    assert "and 1 more" in page
    assert "canary" not in page
    assert "No dead letter" in client(letters=found).get("/letters?reason=key").text


class Defective(FakeExplorer):
    def record(self, _: str, __: int) -> Row | None:
        raise KeyError("canary")


def test_a_defect_is_a_page_with_the_headers_and_without_content() -> None:
    """Whatever fails, the answer has the security headers, and neither it nor the log content."""
    with capture_logs() as lines:
        answer = client(explorer=Defective).get("/explore/DEMO/records/7")
    assert (answer.status_code, "This page has failed" in answer.text) == (500, True)
    assert answer.headers["content-security-policy"] == HEADERS["Content-Security-Policy"]
    assert [each["event"] for each in lines] == ["page failed"]
    assert "canary" not in answer.text + str(lines)


def test_a_record_of_another_subject_is_not_shown_as_this_ones() -> None:
    """An old bookmark leads to the record's own page, which names its subject."""

    class Moved(FakeExplorer):
        def record(self, study: str, record: int) -> Row | None:
            found = super().record(study, record)
            return found and found | {"subject": 99}

    answer = client(explorer=Moved).get("/explore/A%2FB/subjects/2?record=7")
    assert (answer.status_code, answer.headers["location"]) == (303, "/explore/A%2FB/records/7")
    assert client().get("/explore/DEMO/subjects/2?record=8").status_code == 404


def test_a_page_that_is_restored_is_whole() -> None:
    """Back asks htmx for the page, not for the part that it had last shown."""
    headers = {"HX-Request": "true", "HX-History-Restore-Request": "true"}
    for path in ("/explore/DEMO", "/explore/DEMO/records/7"):
        assert "<html" in client().get(path, headers=headers).text


def test_long_forms_and_odd_hosts_are_refused() -> None:
    """A login without a token cannot fill the memory; a Host header is a name and a port."""
    assert client(token=TOKEN).post("/login", content=b"token=" + b"x" * 5000).status_code == 413
    assert client().post("/explore/DEMO", content=b"find=" + b"x" * 5000).status_code == 413
    for host in ("[::1]attacker.example", "localhost:80@attacker.example", "", "a b"):
        answer = client().get("/", headers={"Host": host})
        assert answer.status_code == 403
    assert client().get("/", headers={"Host": "LOCALHOST."}).status_code == 200
    assert (
        client(token=TOKEN).get("/login/", headers={"Host": "attacker.example"}).headers["location"]
        == "/login"
    )


@pytest.mark.parametrize("digits", ["9" * 19, "9" * 5000, "-1", "1.5", "%D9%A1"])
def test_an_id_that_is_none_is_not_found(digits: str) -> None:
    """Ids beyond 64 bits, negative ones and other digits are no defect."""
    for kind in ("records", "subjects"):
        assert client().get(f"/explore/DEMO/{kind}/{digits}").status_code == 404


def test_odd_values_are_shown_as_text() -> None:
    """Times beyond the calendar, lists and the driver's dates."""
    assert moment(10**18) == f"{10**18} ms"
    assert views.shown([True, 2, Date(2024, 1, 31)]) == "true, 2, 2024-01-31"


def test_the_monitor_outlives_any_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a failure it asks again, and what it says was taken is what it last took."""
    answers = iter([ValueError("canary"), None, OverflowError("canary"), None])

    def taken(*_: object) -> Snapshot:
        error = next(answers, None)
        if error is not None:
            raise error
        return HEALTHY

    monkeypatch.setattr("connector.ui.monitor.snapshot", taken)
    monkeypatch.setattr("connector.ui.monitor.ask_surroundings", lambda _: Surroundings())
    monkeypatch.setattr("connector.ui.monitor._SECONDS", 0.01)
    monitor = Monitor(Settings())
    with capture_logs() as lines, monitor.running():
        deadline = time.monotonic() + 30
        while len(monitor.history.columns(0)["lag"]) < 3 and time.monotonic() < deadline:
            time.sleep(0.01)
    assert monitor.taken is HEALTHY
    assert monitor.taken_at > 0
    assert [each["reason"] for each in lines] == ["ValueError", "OverflowError"]


def test_servers_that_could_not_be_asked_are_not_called_well(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whatever asking them raises, without its text."""

    def fails(_: object) -> Surroundings:
        raise ValueError("canary")

    monkeypatch.setattr("connector.ui.monitor.ask_surroundings", fails)
    monkeypatch.setattr(
        "connector.ui.monitor.snapshot", lambda *given: replace(HEALTHY, around=given[-1])
    )
    monkeypatch.setattr("connector.ui.monitor._SECONDS", 0.01)
    monitor = Monitor(Settings())
    with capture_logs(), monitor.running():
        deadline = time.monotonic() + 30
        while not (monitor.taken and monitor.taken.around.is_asked) and time.monotonic() < deadline:
            time.sleep(0.01)
    assert monitor.taken is not None
    states = {each["name"]: each["state"] for each in views.pipeline(monitor.taken)["stages"]}
    assert states["Kafka"] == states["Neo4j"] == "failing"
    assert "canary" not in str(problems(monitor.taken))


def test_what_was_not_asked_yet_is_not_called_well() -> None:
    """Until Kafka and Neo4j have answered, nothing is said of them, and the graph is not empty."""
    found = views.pipeline(taken_of(is_asked=False))
    states = {each["name"]: each["state"] for each in found["stages"]}
    assert states["Kafka"] == states["Neo4j"] == "asking ..."
    assert not found["are_nodes_known"]
    failed = views.pipeline(taken_of(failing={"kafka"}, problems=["Cannot read topic x"]))
    assert failed["stages"][2]["tone"] == "bad"


def test_a_token_is_plain_text() -> None:
    """A header and a cookie cannot carry anything else."""
    with pytest.raises(ValidationError):
        UiSettings(token=SecretStr("passwort-mit-\u00e4-und-mehr"))
    with pytest.raises(ValidationError):
        UiSettings(token=SecretStr("short"))
    assert UiSettings(token=SecretStr(TOKEN)).token is not None


def test_pages_that_wait_for_a_server_do_not_hold_up_the_others() -> None:
    """The pipeline is shown whatever the graph does, and who comes last is told so at once."""
    release = threading.Event()

    class Slow(FakeExplorer):
        def studies(self) -> list[Row]:
            release.wait(60)
            return []

    browser = client(explorer=Slow)

    async def ask() -> list[int]:
        waiting = [asyncio.create_task(browser.ask("GET", "/explore")) for _ in range(8)]
        await asyncio.sleep(0.5)
        others = [(await browser.ask("GET", path)).status_code for path in ("/live", "/explore")]
        release.set()
        return others + [(await each).status_code for each in waiting]

    assert asyncio.run(ask()) == [200, 503] + [200] * 8

"""The web page in a real browser, on a real Kafka and Neo4j, with hostile content."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from connector.config import KafkaSettings
from connector.lab.servers.processes import free_port
from connector.model.graph import node_change
from connector.neo4j.database import Neo4jDatabase
from connector.neo4j.writer import Neo4jGraphWriter
from connector.ui.explorer import Explorer
from tests.brokers import publish_raw
from tests.builders import record_row, upsert
from tests.programs import consumed_all, run_program, running, telemetry_of, wait_until

pytestmark = pytest.mark.servers

HOSTILE = "<img src=x onerror=alert(1)><script>alert(2)</script>\"'&"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
needs_chromium = pytest.mark.skipif(
    CHROMIUM is None, reason="no chromium on the PATH (Debian: apt-get install chromium)"
)


def fill(database: Neo4jDatabase, study: str) -> None:
    """Write a study with one subject, whose texts are hostile."""
    common = {"studyKey": study, "subjectId": 11, "subjectKey": HOSTILE, "recordId": 1}
    comment = {"sequence": 1, "annotationStatus": "New", "user": HOSTILE, "comment": HOSTILE,
               "closed": False, "date": "2024-11-05 08:00:00"}  # fmt: skip
    rows = [
        ("study", {"studyKey": study, "studyId": 1, "studyName": HOSTILE}),
        ("site", {"studyKey": study, "siteId": 3, "siteName": HOSTILE}),
        ("form", {"studyKey": study, "formId": 7, "formKey": "VS", "formName": HOSTILE}),
        ("subject", common | {"siteId": 3, "siteName": HOSTILE, "subjectStatus": HOSTILE}),
        ("visit", common | {"visitId": 5, "intervalName": HOSTILE, "visitDate": "2024-11-04"}),
        ("record", record_row(1, studyKey=study, subjectKey=HOSTILE, recordStatus=HOSTILE,
                              recordData={"TEXT": HOSTILE, "FLAG": True, "SIZE": 2.5})),
        ("record_revision", common | {"recordRevisionId": 21, "recordRevision": 1,
                                      "reasonForChange": HOSTILE, "user": HOSTILE}),
        ("query", common | {"annotationId": 31, "variable": "TEXT", "description": HOSTILE,
                            "queryComments": [comment]}),
        ("coding", common | {"codingId": 41, "variable": "TEXT", "code": HOSTILE,
                             "value": HOSTILE}),
    ]  # fmt: skip
    changes = [node_change(upsert(row, 5, entity)) for entity, row in rows]
    Neo4jGraphWriter(database, {}).write(changes)


@pytest.fixture
def site(
    environment: dict[str, str], topics: dict[str, str], kafka_settings: KafkaSettings,
    database: Neo4jDatabase, study: str, tmp_path: Path,
) -> Iterator[str]:  # fmt: skip
    """The page's address, with a sink that has dead-lettered one message."""
    fill(database, study)
    port = free_port()
    variables = environment | topics | {"SINK_GROUP_ID": study, "UI_PORT": str(port),
                                        "TELEMETRY_SOURCE_PORT": "0"}  # fmt: skip
    assert run_program("setup", variables).returncode == 0
    with running("sink", variables, tmp_path / "sink.log") as sink:
        address = telemetry_of(sink).removeprefix("http://")
        publish_raw(kafka_settings, b"canary-key", b"canary-value")
        wait_until(consumed_all(kafka_settings, study), 60, "the group's lag is 0")
        with running("ui", variables | {"TELEMETRY_PROGRAMS": address}, tmp_path / "ui.log"):
            base = f"http://127.0.0.1:{port}"
            wait_until(lambda: answers(base), 60, "the page")
            yield base


def answers(base: str) -> bool:
    try:
        text = httpx.get(base, trust_env=False).text
    except httpx.TransportError:
        return False
    return "Asking" not in text and "dead letters" in text.lower()


def test_the_page_shows_the_real_state_of_its_servers(site: str, study: str) -> None:
    """Without a browser: the pipeline, the letters, and each page of the study."""
    with httpx.Client(base_url=site, trust_env=False) as client:
        assert "1 sink" in client.get("/").text
        wait_until(lambda: "Dead letters" in client.get("/letters").text, 10, "the letters")
        letters = client.get("/letters").text
        assert "key" in letters
        assert "canary" not in letters
        series = client.get("/series").json()
        assert series["at_seconds"]
        assert series["lag"][-1] == 0
        for path in ("", "/subjects/11", "/records/1"):
            text = client.get(f"/explore/{study}{path}").text
            assert "&lt;img" in text
            assert "<img" not in text
        kinds = [
            each["data"].get("kind")
            for each in client.get(f"/explore/{study}/subjects/11/graph").json()["elements"]
        ]
        assert {"Study", "Site", "Subject", "Visit", "Record", "Query", "Coding"} <= set(kinds)
        assert client.get("/explore/NONE").status_code == 404


def test_a_graph_too_large_to_draw_tells_how_much_is_left_out(
    database: Neo4jDatabase, study: str
) -> None:
    """A subject's first 300 nodes are drawn, and the rest is counted."""
    rows = [("study", {"studyKey": study, "studyId": 1})]
    rows += [("subject", {"studyKey": study, "subjectId": 11, "subjectKey": "A"})]
    rows += [("record", record_row(each, studyKey=study, visitId=None)) for each in range(1, 321)]
    changes = [node_change(upsert(row, 5, entity, study)) for entity, row in rows]
    Neo4jGraphWriter(database, {}).write(changes)
    found = Explorer(database).graph(study, 11)
    drawn = [each for each in found["elements"] if "kind" in each["data"]]
    assert (len(drawn), found["left_out"]) == (300, 322 - 300)


@pytest.fixture
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


def opened(browser: Browser, complaints: list[str], width: int, scheme: Any = "light") -> Page:
    """Open a page that notes errors, blocked resources, dialogs and foreign requests."""
    context = browser.new_context(
        viewport={"width": width, "height": 900}, color_scheme=scheme, reduced_motion="reduce"
    )
    page = context.new_page()
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("dialog", lambda dialog: complaints.append(f"dialog {dialog.message}"))
    page.on(
        "request",
        lambda request: None if "127.0.0.1" in request.url else complaints.append(request.url),
    )
    return page


@needs_chromium
def test_nothing_is_blocked_or_overflows_in_a_browser(
    site: str, study: str, browser: Browser
) -> None:
    """No page logs an error, loads from elsewhere, runs content as script, or is too wide."""
    complaints: list[str] = []
    for width, scheme in ((1440, "light"), (360, "dark")):
        visit_all(opened(browser, complaints, width, scheme), site, study, width)
    assert complaints == []


def visit_all(page: Page, site: str, study: str, width: int) -> None:
    for path in ("/", "/letters", "/explore", f"/explore/{study}", f"/explore/{study}/records/1",
                 f"/explore/{study}/subjects/11?record=1"):  # fmt: skip
        page.goto(site + path)
        page.wait_for_load_state("networkidle" if path != "/" else "load")
        assert page.evaluate("document.documentElement.scrollWidth") <= width, path
    page.wait_for_selector("#graph canvas")


@needs_chromium
def test_a_study_can_be_explored_with_the_keyboard(site: str, study: str, browser: Browser) -> None:
    """From the list of studies to a record, with Tab and Enter; Back leads back."""
    complaints: list[str] = []
    page = opened(browser, complaints, 1440)
    page.goto(f"{site}/explore/{study}")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to content"
    page.evaluate(
        "void (window.found = new Promise(done => document.body.addEventListener("
        "'htmx:afterSettle', () => done(true), {once: true})))"
    )
    page.fill("#find", HOSTILE[:4])
    assert page.evaluate("window.found")  # until then, the list may be replaced under the focus
    link = page.wait_for_selector("#subjects a")
    assert link is not None
    assert "img" not in page.url
    link.focus()
    page.keyboard.press("Enter")
    page.wait_for_url("**/subjects/11")
    page.wait_for_selector("#graph canvas")
    page.focus("nav[aria-label='Visits and records'] a")
    page.keyboard.press("Enter")
    page.wait_for_selector("#record dl.values")
    assert page.url.endswith("/subjects/11?record=1")
    shown = page.inner_text("#record")
    for text in (HOSTILE, "true", "2.5", "boolean", "number", "open"):
        assert text in shown
    page.go_back()
    page.wait_for_selector("#record p.empty")
    page.wait_for_selector("#graph canvas")
    assert complaints == []


@needs_chromium
def test_the_pipeline_keeps_itself_up_to_date(
    site: str, browser: Browser, kafka_settings: KafkaSettings
) -> None:
    """Figures change without a reload, plots are drawn, and a page that gets no answer says so."""
    complaints: list[str] = []
    page = opened(browser, complaints, 1440)
    page.goto(site)
    assert page.locator(".spark canvas").count() == 4
    assert page.locator("#rates canvas").count() == 1
    page.wait_for_selector("#letter-bars dt")
    page.evaluate("window.stays = true")
    page.wait_for_selector("#nodes dt")
    page.evaluate("document.getElementById('nodes').stays = true")
    publish_raw(kafka_settings, b"canary-key", b"canary-value")
    expect(page.locator("#letter-bars dd.r")).to_have_text("2", timeout=120_000)
    assert page.evaluate("window.stays")
    assert page.evaluate("document.getElementById('nodes').stays"), "the counts are the same"
    assert complaints == []
    page.context.set_offline(True)
    page.wait_for_selector("#updated.stale", timeout=60_000)

"""The unmodified SDK can read the simulator, which behaves as the API's documents describe."""

import gc
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from imednet import ImednetSDK
from imednet.core import Client
from imednet.errors import BadRequestError, ForbiddenError, UnauthorizedError
from pydantic import SecretStr

from connector.clock import SystemClock
from connector.config import ImednetSettings
from connector.errors import BatchTooLargeError, RetryableError
from connector.imednet.reader import ImednetReader
from connector.interfaces import PageRequest
from connector.lab.simulator.api import API_KEY, PREFIX, SECURITY_KEY, Simulation
from connector.lab.simulator.faults import FAULTS
from connector.lab.simulator.server import serving
from connector.lab.simulator.study import build_study

KEYS: dict[str, Any] = {"api_key": API_KEY, "security_key": SECURITY_KEY}
RECORDS = 1200


@pytest.fixture(scope="module")
def simulation() -> Simulation:
    return Simulation({key: build_study(key, 50, RECORDS, 1) for key in ("S1", "S2")})


@pytest.fixture(scope="module")
def api(simulation: Simulation) -> Iterator[str]:
    with serving(simulation) as address:
        yield address


@pytest.fixture
def client(api: str) -> Iterator[Client]:
    with Client(base_url=api, **KEYS, retries=1, timeout=3) as client:
        yield client


def test_the_sdk_lists_every_resource(api: str) -> None:
    """The unmodified SDK lists every resource."""
    with ImednetSDK(base_url=api, **KEYS) as sdk:
        records = sdk.records.list("S1")
        assert len(records) == len({record.record_id for record in records}) == RECORDS
        assert len(sdk.subjects.list("S1")) == 50
        assert [study.study_key for study in sdk.studies.list()] == ["S1", "S2"]
        for endpoint in ("sites", "visits", "intervals", "forms", "variables", "queries", "codings",
                         "record_revisions"):  # fmt: skip
            assert getattr(sdk, endpoint).list("S1"), endpoint


def test_users_have_role_dates_as_documented(client: Client) -> None:
    """The dates of users' roles are arrays, as documented."""
    rows = client.get(f"{PREFIX}/S1/users").json()["data"]
    assert rows[0]["roles"][0]["dateCreated"][:3] == [2024, 1, 8]


def test_every_reference_of_a_row_exists(simulation: Simulation) -> None:
    """Every id that a row refers to exists."""
    study = simulation.studies["S1"]
    ids = {name: set(table.ids) for name, table in study.tables.items()}
    for row in study.table("records").rows():
        assert row["subjectId"] is None or row["subjectId"] in ids["subjects"]
        assert row["visitId"] is None or row["visitId"] in ids["visits"]
        assert row["formId"] in ids["forms"]
        assert row["siteId"] in ids["sites"]
        assert row["parentRecordId"] == 0 or row["parentRecordId"] in ids["records"]
        assert 20 <= len(row["recordData"]) <= 60
    for resource in ("recordRevisions", "queries", "codings"):
        assert all(row["recordId"] in ids["records"] for row in study.table(resource).rows())


def test_the_same_seed_makes_the_same_study() -> None:
    """The same seed makes the same study, and another seed another one."""
    one, other = (build_study("S", 5, 60, 9).table("records").bodies for _ in range(2))
    assert one == other
    assert one != build_study("S", 5, 60, 10).table("records").bodies


@pytest.mark.parametrize(
    ("parameters", "count"),
    [
        ({"filter": "recordId>1190"}, 10),
        ({"filter": "recordId>1190;studyKey==S1"}, 10),
        ({"filter": "recordId==1,recordId==2"}, 2),
        ({"filter": "recordId>=5 and recordId<=7"}, 3),
        ({"filter": "studyKey==S2"}, 0),
        ({"filter": "dateModified>=2100-01-01T00:00:00Z"}, 0),
        ({"filter": "dateModified>=2000-01-01T00:00:00Z;recordId>1195"}, 5),
        ({"filter": 'formKey=="DM"'}, 50),
        ({"recordDataFilter": "SEX==F,SEX==M", "filter": "formKey==DM"}, 50),
        ({"recordDataFilter": "DMCOM=~^confirmed", "filter": "formKey==LB"}, 0),
    ],
)  # fmt: skip
def test_the_filter_grammar(client: Client, parameters: dict[str, str], count: int) -> None:
    """The simulator implements the documented filter grammar."""
    answer = client.get(f"{PREFIX}/S1/records", parameters).json()
    assert answer["pagination"]["totalElements"] == count


def test_pages_sort_and_envelope_are_as_documented(client: Client) -> None:
    """Pages, sort order and envelope are as documented."""
    parameters = {"page": 2, "size": 500, "sort": "recordId,desc"}
    answer = client.get(f"{PREFIX}/S1/records", parameters).json()
    assert [row["recordId"] for row in answer["data"]] == list(range(200, 0, -1))
    assert answer["pagination"] == {
        "currentPage": 2, "size": 500, "totalPages": 3, "totalElements": RECORDS,
        "sort": [{"property": "recordId", "direction": "DESC"}],
    }  # fmt: skip
    assert len(answer["metadata"]["timestamp"]) == len("2024-11-04 16:03:19")
    assert len(client.get(f"{PREFIX}/S1/records").json()["data"]) == 25


@pytest.mark.parametrize(
    "parameters",
    [{"size": 501}, {"size": 0}, {"page": "x"}, {"filter": "visitId==1"}, {"filter": "recordId>"},
     {"filter": "recordId>x"}, {"recordDataFilter": "A==1;B==2,C==3"}],
)  # fmt: skip
def test_what_the_documents_do_not_allow_is_refused(
    client: Client, parameters: dict[str, object]
) -> None:
    """Parameters that the documents do not allow are refused."""
    with pytest.raises(BadRequestError):
        client.get(f"{PREFIX}/S1/records", parameters)


def test_wrong_keys_and_unknown_studies_are_refused(api: str, client: Client) -> None:
    """Wrong keys and unknown studies are refused."""
    with pytest.raises(ForbiddenError):
        client.get(f"{PREFIX}/NOPE/records")
    with (
        Client(base_url=api, api_key="wrong", security_key=SECURITY_KEY, retries=1) as wrong,
        pytest.raises(UnauthorizedError),
    ):
        wrong.get(PREFIX)


PAGES = {
    "bad_row", "no_date", "null_date", "bad_utf8", "deep_row", "too_deep_row", "huge_subject",
    "blank_reference", "row_repeated", "short_page", "total_plus_one", "total_minus_one",
    "filter_ignored", "empty", "edit_between_pages", "delete_between_pages",
}  # fmt: skip
"""Faults whose answer is still a page: the source has to detect what is wrong with it."""


@pytest.mark.parametrize("fault", sorted(set(FAULTS) - PAGES))
def test_every_broken_answer_is_an_error_that_moves_nothing(
    api: str, simulation: Simulation, fault: str
) -> None:
    """Every fault that breaks an answer raises an error that can be retried."""
    reader = ImednetReader(
        ImednetSettings(
            base_url=api, api_key=SecretStr(API_KEY), security_key=SecretStr(SECURITY_KEY),
            request_timeout_seconds=0.5,
        ),
        SystemClock(),
    )  # fmt: skip
    simulation.faults.shares = {fault: 1.0}
    try:
        with pytest.raises(BatchTooLargeError if fault == "slow" else RetryableError):
            reader.read(PageRequest("S1", "records", None, "recordId,asc", 100, 0))
    finally:
        simulation.faults.shares = {}
        reader.close()


def test_faults_and_edits_are_switched_over_http(api: str, simulation: Simulation) -> None:
    """Faults and edits can be switched over HTTP."""
    wanted = {"faults": {"server_error": 0.5}, "edits_per_second": 3}
    answer = httpx.post(f"{api}/simulator", json=wanted, trust_env=False).json()
    assert (answer["faults"], answer["edits_per_second"]) == ({"server_error": 0.5}, 3)
    assert httpx.post(f"{api}/simulator", json={"faults": {"x": 1}}, trust_env=False).is_error
    httpx.post(f"{api}/simulator", json={}, trust_env=False)
    assert simulation.faults.shares == {}


def test_answers_are_made_one_at_a_time_at_the_speed_asked_for(api: str, client: Client) -> None:
    """Answers are sent one at a time and at the requested speed."""
    control, path = f"{api}/simulator", f"{PREFIX}/S1/records"
    body_seconds = 0.1
    speed = {"bytes_per_second": len(client.get(path, {"size": 100}).content) / body_seconds}
    try:
        assert httpx.post(control, json=speed, trust_env=False).json()["bytes_per_second"] > 0
        began = time.monotonic()
        with ThreadPoolExecutor(3) as threads:
            list(threads.map(lambda _: client.get(path, {"size": 100}), range(3)))
        assert time.monotonic() - began >= 3 * body_seconds
    finally:
        httpx.post(control, json={}, trust_env=False)


def test_no_answer_outlives_its_page(api: str) -> None:
    """No HTTP answer outlives its page.

    Otherwise each page would leave half a megabyte to the garbage collector.
    """
    settings = ImednetSettings(
        base_url=api, api_key=SecretStr(API_KEY), security_key=SecretStr(SECURITY_KEY)
    )
    reader = ImednetReader(settings, SystemClock())
    gc.collect()
    gc.disable()
    try:
        assert reader.read(PageRequest("S1", "records", None, "recordId,asc", 100, 0)).rows
        assert not [each for each in gc.get_objects() if isinstance(each, httpx.Response)]
    finally:
        gc.enable()
        reader.close()

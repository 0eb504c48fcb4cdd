"""Alert rules and dashboard: they use metrics that exist, and each alert fires when it should.

The rules use a small part of PromQL, which this module evaluates on samples.
"""

import json
import operator
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from connector.telemetry import metrics
from connector.telemetry.metrics import Kind

ROOT = Path(__file__).parents[2]
NOW = 1_800_000_000.0
ALL = {each.name: each for each in (*metrics.COMMON, *metrics.SOURCE, *metrics.SINK)}
_PROCESS = {"process_resident_memory_bytes"}  # of prometheus_client


class Samples(NamedTuple):
    """Values by metric, now and at the beginning of any range."""

    now: dict[str, float]
    before: dict[str, float]


def rules() -> list[dict[str, Any]]:
    text = (ROOT / "deploy" / "alerts.yml").read_text()
    (group,) = yaml.safe_load(text)["groups"]
    found: list[dict[str, Any]] = group["rules"]
    return found


def expressions() -> Iterator[str]:
    yield from (rule["expr"] for rule in rules())
    board = json.loads((ROOT / "deploy" / "dashboard.json").read_text())
    for panel in board["panels"]:
        yield from (target["expr"] for target in panel["targets"])


def used(expression: str) -> set[str]:
    return set(re.findall(r"\b(?:imednet|process)_[a-z0-9_]+", expression))


def test_every_metric_that_they_use_exists() -> None:
    """A renamed metric must not silence an alert or empty a panel."""
    names = set().union(*map(used, expressions()))
    known = set(ALL) | _PROCESS
    for each in ALL.values():
        if each.kind is Kind.HISTOGRAM:
            known |= {f"{each.name}_{part}" for part in ("bucket", "sum", "count")}
    assert names <= known
    assert len(names) > 20


def test_every_label_that_they_use_exists() -> None:
    """Labels in texts and legends are those of the metrics, or Prometheus' own."""
    for rule in rules():
        (name,) = used(rule["expr"])
        texts = " ".join(rule["annotations"].values())
        labels = set(re.findall(r"\$labels\.(\w+)", texts))
        assert labels <= {*ALL[name].labels, "instance"}, rule["alert"]


def fires(expression: str, samples: Samples) -> bool:
    """Evaluate an expression of the forms that the rules use."""
    if found := re.fullmatch(r"absent\((\w+)\)", expression):
        return found[1] not in samples.now
    left, comparison, limit = re.fullmatch(r"(.+) (==|>|<) (\S+)", expression).groups()  # type: ignore[union-attr]
    if found := re.fullmatch(r"increase\((\w+)\[\w+\]\)", left):
        value = samples.now[found[1]] - samples.before[found[1]]
    elif found := re.fullmatch(r"time\(\) - (\w+)", left):
        value = NOW - samples.now[found[1]]
    elif found := re.fullmatch(r"avg_over_time\((\w+)\[\w+\]\)", left):
        value = samples.now[found[1]]
    else:
        value = samples.now[left]
    compare = {"==": operator.eq, ">": operator.gt, "<": operator.lt}[comparison]
    return bool(compare(value, float(limit)))


HEALTHY = dict.fromkeys(ALL, 0.0) | {
    "imednet_dependency_up": 1.0,
    "imednet_loop_heartbeat_timestamp_seconds": NOW - 1,
    "imednet_source_read_timestamp_seconds": NOW - 10,
    "imednet_api_budget_remaining_requests": 500.0,
    "imednet_sink_assigned_partitions": 6.0,
    "imednet_sink_lag_seconds": 1.0,
}
WRONG: dict[str, tuple[str, float | None]] = {
    "ImednetServerDown": ("imednet_dependency_up", 0.0),
    "ImednetStudyFailing": ("imednet_source_study_failing", 1.0),
    "ImednetStudyNotRead": ("imednet_source_read_timestamp_seconds", NOW - 2000),
    "ImednetLoopStuck": ("imednet_loop_heartbeat_timestamp_seconds", NOW - 1000),
    "ImednetNoSource": ("imednet_source_rows_total", None),
    "ImednetNoSink": ("imednet_sink_assigned_partitions", None),
    "ImednetLag": ("imednet_sink_lag_seconds", 400.0),
    "ImednetDeadLetters": ("imednet_sink_dead_letters_total", 1.0),
    "ImednetInvalidRows": ("imednet_source_invalid_rows_total", 1.0),
    "ImednetEventsTooLarge": ("imednet_source_diverted_events_total", 1.0),
    "ImednetBudgetUsedUp": ("imednet_api_budget_remaining_requests", 0.0),
}


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule["alert"])
def test_each_alert_fires_for_what_it_is_for_and_for_nothing_else(rule: dict[str, Any]) -> None:
    """No alert fires in a healthy program, and each fires for its own cause only."""
    assert not fires(rule["expr"], Samples(HEALTHY, HEALTHY))
    for alert, (name, value) in WRONG.items():
        now = {key: each for key, each in HEALTHY.items() if key != name}
        if value is not None:
            now[name] = value
        if value is not None or name not in rule["expr"] or "absent" in rule["expr"]:
            assert fires(rule["expr"], Samples(now, HEALTHY)) == (alert == rule["alert"])
    assert rule["annotations"].keys() == {"summary", "description"}
    assert rule["labels"]["severity"] in {"critical", "warning"}


def test_every_alert_has_a_cause_here() -> None:
    """A new alert needs a test."""
    assert WRONG.keys() == {rule["alert"] for rule in rules()}


PROMTOOL = shutil.which("promtool")
_MINUTES = 80
"""Longer than any rule needs to fire."""
# A Prometheus test begins at second 0, and "0+60x80" is the current time, minute by minute.
HEALTHY_SERIES = dict.fromkeys(ALL, "0") | {
    "imednet_dependency_up": "1",
    "imednet_loop_heartbeat_timestamp_seconds": "0+60",
    "imednet_source_read_timestamp_seconds": "0+60",
    "imednet_api_budget_remaining_requests": "500",
    "imednet_sink_assigned_partitions": "6",
    "imednet_sink_lag_seconds": "1",
}
WRONG_SERIES: dict[str, str | None] = {
    "ImednetServerDown": "0",
    "ImednetStudyFailing": "1",
    "ImednetStudyNotRead": "0",
    "ImednetLoopStuck": "0",
    "ImednetNoSource": None,
    "ImednetNoSink": None,
    "ImednetLag": "400",
    "ImednetDeadLetters": "0+1",
    "ImednetInvalidRows": "0+1",
    "ImednetEventsTooLarge": "0+1",
    "ImednetBudgetUsedUp": "0",
}


def labels_of(name: str) -> dict[str, str]:
    return {"instance": "host:1", **dict.fromkeys(ALL[name].labels, "one")}


def series_name(name: str) -> str:
    labels = ", ".join(f'{label}="{value}"' for label, value in labels_of(name).items())
    return f"{name}{{{labels}}}"


def expected_alert(rule: dict[str, Any]) -> dict[str, Any]:
    """The alert with its labels, and the texts as a person gets them."""
    (name,) = used(rule["expr"])
    labels = {} if rule["expr"].startswith("absent") else labels_of(name)

    def filled(text: str) -> str:
        return re.sub(r"{{ \$labels\.(\w+) }}", lambda found: labels.get(found[1], ""), text)

    texts = {name: filled(text) for name, text in rule["annotations"].items()}
    return {"exp_labels": labels | rule["labels"], "exp_annotations": texts}


def scenario(wrong: str | None) -> dict[str, Any]:
    """A healthy program but for the cause of one alert, and which alerts then fire."""
    values: dict[str, str | None] = dict(HEALTHY_SERIES)
    if wrong is not None:
        values[WRONG[wrong][0]] = WRONG_SERIES[wrong]
    series = [
        {"series": series_name(name), "values": f"{value}x{_MINUTES}"}
        for name, value in values.items()
        if value is not None
    ]
    tests = [
        {
            "eval_time": f"{_MINUTES}m",
            "alertname": rule["alert"],
            "exp_alerts": [expected_alert(rule)] if rule["alert"] == wrong else [],
        }
        for rule in rules()
    ]
    return {"interval": "1m", "input_series": series, "alert_rule_test": tests}


@pytest.mark.skipif(
    PROMTOOL is None, reason="no promtool on the PATH (Debian: apt-get install prometheus)"
)
def test_prometheus_itself_fires_each_alert_for_its_cause_only(tmp_path: Path) -> None:
    """The same in Prometheus, with labels and texts."""
    assert WRONG_SERIES.keys() == {rule["alert"] for rule in rules()}
    assert PROMTOOL is not None
    shutil.copy(ROOT / "deploy" / "alerts.yml", tmp_path)
    file = tmp_path / "test.yml"
    tests = [scenario(wrong) for wrong in (None, *WRONG_SERIES)]
    file.write_text(yaml.safe_dump({"rule_files": ["alerts.yml"], "tests": tests}))
    done = subprocess.run(
        [PROMTOOL, "test", "rules", file], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr

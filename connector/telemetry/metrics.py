"""Every metric that the programs serve: its name, type, labels and meaning. Pure."""

from enum import StrEnum
from typing import NamedTuple

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_COUNTS = (1, 2, 5, 10, 20, 50, 100, 200, 400, 800, 2000, 4000)


class Kind(StrEnum):
    """A metric's type, in Prometheus' terms."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class Metric(NamedTuple):
    """One metric. Every series exists from the program's start, or from the partition's."""

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


def _counter(name: str, text: str, *labels: str) -> Metric:
    return Metric(name, Kind.COUNTER, text, labels)


def _gauge(name: str, text: str, *labels: str) -> Metric:
    return Metric(name, Kind.GAUGE, text, labels)


def _histogram(name: str, text: str, buckets: tuple[float, ...]) -> Metric:
    return Metric(name, Kind.HISTOGRAM, text, (), buckets)


# ------------------------------------------------------------------------------- all programs

INFO = _gauge(
    "imednet_connector_info", "1; the labels name program and version.", "role", "version"
)
DEPENDENCY_UP = _gauge(
    "imednet_dependency_up",
    "Whether the server answers (1) or not (0): kafka, neo4j or imednet.",
    "dependency",
)
HEARTBEAT = _gauge(
    "imednet_loop_heartbeat_timestamp_seconds",
    "When the loop last ran, or until when it pauses: the sink's, or a study's in the source.",
    "loop",
)

# ------------------------------------------------------------------------------------- source

STUDY_FAILING = _gauge(
    "imednet_source_study_failing", "Whether something of the study cannot be read (1).", "study"
)
READ_AT = _gauge(
    "imednet_source_read_timestamp_seconds",
    "When a page of the study was last read and its changes published.",
    "study",
)
PAGES = _counter("imednet_source_pages_total", "Pages read.", "study")
ROWS = _counter("imednet_source_rows_total", "Rows read.", "study")
EVENTS = _counter("imednet_source_events_total", "Events published.", "study")
DIVERTED = _counter(
    "imednet_source_diverted_events_total",
    "Events too large for the topic, counted at each attempt.",
    "study",
)
INVALID_ROWS = _counter(
    "imednet_source_invalid_rows_total", "Rows dead-lettered: they cannot be events.", "study"
)
UNDATED = _counter(
    "imednet_source_undated_events_total", "Events of rows without a usable date.", "study"
)
UNTYPED = _counter(
    "imednet_source_untyped_values_total",
    "Texts that do not fit the definitions of their variables.",
    "study",
)
SOURCE_RETRIES = _counter("imednet_source_retries_total", "Steps that failed.", "study")
SNAPSHOT_ROWS = _gauge(
    "imednet_source_snapshot_rows", "Rows read of the kind whose snapshot is being read.", "study"
)
SNAPSHOT_TOTAL = _gauge(
    "imednet_source_snapshot_expected_rows", "Rows of that kind; 0 if no snapshot runs.", "study"
)
API_REQUESTS = _counter(
    "imednet_api_requests_total",
    "Requests to the API by HTTP status; none: no response.",
    "status",
)
API_SECONDS = _histogram("imednet_api_request_duration_seconds", "Time of a request.", _SECONDS)
API_BUDGET = _gauge(
    "imednet_api_budget_remaining_requests", "Requests left of this minute's budget."
)

# --------------------------------------------------------------------------------------- sink

CONSUMED = _counter("imednet_sink_consumed_events_total", "Messages acknowledged.")
WRITTEN = _counter("imednet_sink_written_events_total", "Events written to the graph.")
UNCHANGED = _counter(
    "imednet_sink_unchanged_events_total", "Events superseded in their batch, or in the graph."
)
DEAD_LETTERS = _counter("imednet_sink_dead_letters_total", "Messages dead-lettered.", "reason")
SINK_RETRIES = _counter("imednet_sink_retries_total", "Steps that failed.", "dependency")
PARTITIONS = _gauge("imednet_sink_assigned_partitions", "Partitions that this sink reads.")
LAG_EVENTS = _gauge(
    "imednet_sink_lag_events", "Offsets that the group has not committed.", "partition"
)
LAG_SECONDS = _gauge(
    "imednet_sink_lag_seconds", "Age of the oldest event read and not yet applied.", "partition"
)
BUFFERED = _gauge("imednet_sink_buffered_bytes", "Memory of the messages that wait.")
APPLIED_AT = _gauge(
    "imednet_sink_applied_timestamp_seconds",
    "Freshness: the API's time at the newest change that was applied.",
)
BATCH_EVENTS = _histogram("imednet_sink_batch_events", "Messages of a batch.", _COUNTS)
TRANSACTION_CHANGES = _histogram(
    "imednet_sink_transaction_changes", "Nodes changed by a transaction.", _COUNTS
)
TRANSACTION_SECONDS = _histogram(
    "imednet_sink_transaction_duration_seconds", "Time of a committed transaction.", _SECONDS
)
NEO4J_UPDATES = _counter(
    "imednet_sink_neo4j_updates_total", "The database's own counts of its updates.", "update"
)

COMMON = (INFO, DEPENDENCY_UP, HEARTBEAT)
SOURCE = (
    STUDY_FAILING, READ_AT, PAGES, ROWS, EVENTS, DIVERTED, INVALID_ROWS, UNDATED, UNTYPED,
    SOURCE_RETRIES, SNAPSHOT_ROWS, SNAPSHOT_TOTAL, API_REQUESTS, API_SECONDS, API_BUDGET,
)  # fmt: skip
SINK = (
    CONSUMED, WRITTEN, UNCHANGED, DEAD_LETTERS, SINK_RETRIES, PARTITIONS, LAG_EVENTS, LAG_SECONDS,
    BUFFERED, APPLIED_AT, BATCH_EVENTS, TRANSACTION_CHANGES, TRANSACTION_SECONDS, NEO4J_UPDATES,
)  # fmt: skip

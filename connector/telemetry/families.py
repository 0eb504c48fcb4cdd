"""Metric families as prometheus_client collects them, made from the list of metrics."""

from collections.abc import Iterable, Sequence

from prometheus_client import Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import CollectorRegistry

from connector.telemetry.metrics import Kind, Metric

Sample = tuple[Sequence[str], float]
"""The values of a series' labels, and its value."""


def family(metric: Metric, samples: Iterable[Sample]) -> CounterMetricFamily | GaugeMetricFamily:
    """Return the family of a counter or gauge, with these series."""
    kind = CounterMetricFamily if metric.kind is Kind.COUNTER else GaugeMetricFamily
    made = kind(metric.name, metric.help, labels=metric.labels)
    for labels, value in samples:
        made.add_metric(list(labels), value)
    return made


def single(metric: Metric, value: float) -> CounterMetricFamily | GaugeMetricFamily:
    """Return the family of a counter or gauge that has one series."""
    return family(metric, [((), value)])


def histogram(metric: Metric, registry: CollectorRegistry) -> Histogram:
    """Return a histogram to observe values with."""
    return Histogram(metric.name, metric.help, buckets=metric.buckets, registry=registry)

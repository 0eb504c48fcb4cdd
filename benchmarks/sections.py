"""The measurements of the sink. Contenders are interleaved, round by round."""

import shutil
import statistics
import sys
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from confluent_kafka import Producer

from benchmarks import work
from benchmarks.contenders import (
    PLAIN_MERGE,
    QUIX,
    SINK,
    SINK_2,
    SINK_4,
    Contender,
    cpu_seconds,
    peak_memory_mb,
    running,
)
from benchmarks.feed import Feed, Loaded
from benchmarks.graph import Graph
from benchmarks.report import UPPER_BOUND, Figures
from connector.kafka.partitioner import partition_of
from connector.lab.servers.local import LocalNeo4j
from connector.lab.servers.processes import Child, free_port
from connector.model.serde import encode

STUDY = "BENCH"
TRANSACTION = 500
"""Rows per transaction of the upper bound: the faster of 500 and 1000."""


@dataclass(frozen=True, slots=True)
class Bench:
    """What every measurement needs."""

    environment: Mapping[str, str]
    graph: Graph
    logs: Path
    rounds: int
    events: int
    log: Callable[[str], None]

    @contextmanager
    def contest(
        self, contender: Contender, partitions: int = 6, **environment: str
    ) -> Iterator[tuple[Feed, list[Child]]]:
        """Run a contender that has joined its group on a new topic, with an empty graph."""
        self.graph.clear()
        topic = f"b{uuid.uuid4().hex[:8]}"
        feed = Feed(self.environment["KAFKA_BOOTSTRAP_SERVERS"], topic, partitions)
        Feed(self.environment["KAFKA_BOOTSTRAP_SERVERS"], f"{topic}.dlq", 1)
        with running(contender, {**self.environment, **environment}, topic, self.logs) as children:
            feed.wait_for_members(topic, contender.processes)
            yield feed, children

    def seconds_to_apply(self, feed: Feed, loaded: Loaded, seconds_max: float = 900) -> float:
        """Measure the time from when the workload is visible until the graph has it."""
        started, last = loaded.commit(), list(loaded.last.values())
        while not self.graph.holds(STUDY, last):
            time.sleep(0.03)
            if time.monotonic() - started > seconds_max:
                raise TimeoutError(
                    f"Workload not applied in {seconds_max:.0f} s. See"
                    f" {self.logs}/{feed.topic}-0.log"
                )
        return time.monotonic() - started

    def seconds_to_commit(self, feed: Feed, loaded: Loaded) -> float:
        """Measure the time until the group has committed a workload that changes nothing."""
        observer = feed.observer(feed.topic)
        while not observer.is_caught_up():
            time.sleep(0.01)
        started = loaded.commit()
        while not observer.is_caught_up():
            time.sleep(0.01)
        return time.monotonic() - started


def throughput(bench: Bench) -> Figures:
    """Measure events/s and CPU time of first load, replay, updates and hot set."""
    figures: Figures = defaultdict(lambda: defaultdict(list))
    load = work.first_load(STUDY, bench.events)
    phases = [load, work.replay(load), work.updates(load), work.hot_set(load)]
    for contender in (SINK, QUIX, PLAIN_MERGE):  # warm up the database's JVM
        measure_phases(bench, contender, phases)
        bench.log(f"warm-up: {contender.name}")
    graphs = set()
    for number in range(bench.rounds):
        bench.graph.clear()
        figures[UPPER_BOUND]["first load"].append(bench.graph.upper_bound(load, TRANSACTION))
        for contender in (SINK, QUIX, PLAIN_MERGE, SINK_2, SINK_4):
            rates = figures[contender.name]
            for name, value in measure_phases(bench, contender, phases).items():
                rates[name].append(value)
            graphs.add(tuple(bench.graph.counts().items()))
            bench.log(f"round {number + 1}: {contender.name}: {last_of(rates)}")
        bench.log(f"round {number + 1}: {UPPER_BOUND}: {last_of(figures[UPPER_BOUND])}")
    if len(graphs) != 1:
        raise AssertionError(f"The contenders wrote different graphs: {graphs}")
    return figures


def measure_phases(
    bench: Bench, contender: Contender, phases: list[work.Work], *, until_committed: bool = False
) -> dict[str, float]:
    """Measure one contender's rates, phase after phase, starting with an empty graph.

    With ``until_committed``, the last event of a phase may be of any kind, not only a record.
    """
    rates: dict[str, float] = {}
    with bench.contest(contender) as (feed, children):
        for each in phases:
            # A replay changes nothing in the graph, so only its commit can be observed.
            by_offsets = until_committed or each.name == "replay"
            measure = bench.seconds_to_commit if by_offsets else bench.seconds_to_apply
            loaded, cpu_before = feed.load(each), cpu_seconds(children)
            seconds = measure(feed, loaded)
            cpu = cpu_seconds(children) - cpu_before
            rates[each.name] = len(each.events) / seconds
            rates[f"{each.name}, CPU s / 100 000"] = cpu / len(each.events) * 100_000
        rates["peak memory MB"] = max(map(peak_memory_mb, children))
    return rates


def latency(bench: Bench, per_second: float = 200, seconds: float = 10) -> Figures:
    """Measure milliseconds from produce until a reader that polls continuously sees the event."""
    figures: Figures = defaultdict(lambda: defaultdict(list))
    quick_quix = Contender(QUIX.name, QUIX.kind, 1, {"QUIX_COMMIT_INTERVAL": "1.0"})
    for number in range(-1, bench.rounds):  # round -1 warms up the database's JVM
        for contender in (SINK, quick_quix):
            with bench.contest(contender) as (feed, _):
                bench.seconds_to_apply(feed, feed.load(work.first_load(STUDY, 2000)))
                latencies = sorted(_latencies_ms(bench, feed, per_second, seconds))
            if number < 0:
                continue
            for name, share in (("p50", 0.5), ("p99", 0.99)):
                value = latencies[int(len(latencies) * share)]
                figures[contender.name][f"{name} ms"].append(value)
            bench.log(f"round {number + 1}: {contender.name}: {last_of(figures[contender.name])}")
    return figures


def _latencies_ms(bench: Bench, feed: Feed, per_second: float, seconds: float) -> Iterator[float]:
    producer = Producer({"bootstrap.servers": feed.servers, "linger.ms": 0})
    producer.list_topics(feed.topic, 10)  # connect before the clock starts
    events = iter(work.first_load(STUDY, int(per_second * seconds), start=1_000_000).events)
    produced_at: dict[int, float] = {}
    started, count = time.monotonic(), 0
    event = next(events, None)
    while event or produced_at:
        while event and time.monotonic() >= started + count / per_second:
            key, value, headers = encode(event)
            subject = int((event.data or {})["subjectId"])
            partition = partition_of(event.identity, subject, feed.partitions)
            producer.produce(feed.topic, value, key, partition, headers=headers)
            producer.poll(0)
            produced_at[int(event.id)] = time.monotonic()
            event, count = next(events, None), count + 1
        rows = bench.graph.run(
            "UNWIND $ids AS id MATCH (n:Record {study_key: $study, record_id: id})"
            " WHERE n._version IS NOT NULL RETURN id",
            ids=list(produced_at), study=STUDY,
        )  # fmt: skip
        now = time.monotonic()
        for (number,) in rows:
            yield (now - produced_at.pop(number)) * 1000
        time.sleep(0.001)
    producer.flush(10)


def distance(bench: Bench) -> Figures:
    """Measure a first load with and without 20 ms added to every round trip to the database."""
    figures: Figures = defaultdict(lambda: defaultdict(list))
    load = work.first_load(STUDY, bench.events)
    for number in range(bench.rounds):
        for name, delay in (("direct", 0), ("20 ms away", 20)):
            with _proxied(bench, delay) as uri, bench.contest(SINK, NEO4J_URI=uri) as (feed, _):
                seconds = bench.seconds_to_apply(feed, feed.load(load))
            figures[name]["first load"].append(bench.events / seconds)
            bench.log(f"round {number + 1}: {name}: {last_of(figures[name])}")
    return figures


def scaling(bench: Bench) -> Figures:
    """Compare four processes with one, 100 ms away, so that the database is not the bottleneck."""
    figures: Figures = defaultdict(lambda: defaultdict(list))
    load = work.first_load(STUDY, bench.events)
    small = {"SINK_WRITERS_MAX": "2", "SINK_TRANSACTION_EVENTS_MAX": "100"}
    for number in range(bench.rounds):
        for name, processes in (("1 process", 1), ("4 processes", 4)):
            contender = Contender(name, "sink", processes, small)
            with (
                _proxied(bench, 100) as uri,
                bench.contest(contender, partitions=8, NEO4J_URI=uri) as (feed, _),
            ):
                seconds = bench.seconds_to_apply(feed, feed.load(load))
            figures[contender.name]["first load"].append(len(load.events) / seconds)
            bench.log(f"round {number + 1}: {contender.name}: {last_of(figures[contender.name])}")
    return figures


@contextmanager
def _proxied(bench: Bench, delay_ms: int) -> Iterator[str]:
    if not delay_ms:
        yield bench.environment["NEO4J_URI"]
        return
    port, target = free_port(), bench.environment["NEO4J_URI"].rsplit(":", 1)[1]
    command = [sys.executable, "-m", "benchmarks.proxy", str(port), target, str(delay_ms)]
    proxy = Child("proxy", command, bench.logs / "proxy.log")
    try:
        yield f"bolt://127.0.0.1:{port}"
    finally:
        proxy.stop()


def million(bench: Bench, total: int = 1_000_000, outage_seconds: float = 60) -> Figures:
    """Measure a backlog of a million with Neo4j down for a minute, and the rates before and after.

    The rates are those at 50 000 and at 1 000 000 records in the graph.
    """
    rates: dict[str, list[float]] = defaultdict(list)
    chunk = 50_000
    with _separate_neo4j(bench) as neo4j:
        environment = {**bench.environment, **neo4j.environment}
        with Graph(environment) as graph:
            graph.create_schema()
            own = Bench(environment, graph, bench.logs, 1, chunk, bench.log)
            with own.contest(SINK) as (feed, children):
                # Warm up the database's JVM.
                own.seconds_to_apply(feed, feed.load(work.first_load(STUDY, chunk, 10_000_000)))
                at_50_000 = own.seconds_to_apply(feed, feed.load(work.first_load(STUDY, chunk)))
                last = _load_backlog(feed, chunk, total)
                visible_at = last.commit()
                time.sleep(15)
                if neo4j.process:
                    neo4j.process.kill()
                time.sleep(outage_seconds)
                neo4j.start()
                neo4j.wait()
                bench.log(f"backlog of {total:,}; Neo4j is up again")
                while not graph.holds(STUDY, list(last.last.values())):
                    time.sleep(0.5)
                rates["backlog s"].append(time.monotonic() - visible_at)
                loads = (work.first_load(STUDY, chunk, total + chunk * each) for each in range(3))
                at_million = [own.seconds_to_apply(feed, feed.load(load)) for load in loads]
                rates["rate at 50 000"].append(chunk / at_50_000)
                rates["rate at 1 000 000"].append(chunk / statistics.median(at_million))
                rates["peak memory MB"].append(peak_memory_mb(children[0]))
    bench.log(f"million: {last_of(rates)}")
    return {SINK.name: rates}


@contextmanager
def _separate_neo4j(bench: Bench) -> Iterator[LocalNeo4j]:
    folder = bench.logs.parent.absolute() / "neo4j-million"
    shutil.rmtree(folder, ignore_errors=True)  # an earlier run's data has another password
    neo4j = LocalNeo4j(folder, free_port(), uuid.uuid4().hex, java_options=())
    neo4j.start()
    try:
        neo4j.wait()
        yield neo4j
    finally:
        if neo4j.process:
            neo4j.process.stop()


def _load_backlog(feed: Feed, chunk: int, total: int) -> Loaded:
    """Produce the backlog in chunks; the last one is returned uncommitted."""
    last = feed.load(work.first_load(STUDY, chunk, chunk))
    for start in range(2 * chunk, total, chunk):
        last.commit()
        last = feed.load(work.first_load(STUDY, chunk, start))
    return last


def last_of(rates: dict[str, list[float]]) -> str:
    """Return the newest value of each figure, for the log."""
    return ", ".join(f"{name} {values[-1]:,.4g}" for name, values in rates.items())


SECTIONS: dict[str, Callable[[Bench], Figures]] = {
    "throughput": throughput,
    "latency": latency,
    "distance": distance,
    "scaling": scaling,
    "million": million,
}

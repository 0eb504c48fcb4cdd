"""The measurements. Each returns plain figures; contenders are interleaved, round by round."""

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
    QUIX,
    SINK,
    SINK_2,
    SINK_4,
    USUAL,
    Contender,
    cpu_seconds,
    peak_memory_mb,
    running,
)
from benchmarks.feed import Feed, Loaded
from benchmarks.graph import Graph
from benchmarks.report import Figures
from connector.kafka.partitioner import partition_of
from connector.lab.servers.local import LocalNeo4j
from connector.lab.servers.processes import Child, free_port
from connector.model.serde import encode

STUDY = "BENCH"
TRANSACTION = 500
"""Rows a transaction of the ceiling: as this sink's default (the faster of 500 and 1000)."""


@dataclass(frozen=True, slots=True)
class Bench:
    """What every measurement needs."""

    environment: Mapping[str, str]
    graph: Graph
    logs: Path
    rounds: int
    events: int
    say: Callable[[str], None]

    @contextmanager
    def contest(
        self, contender: Contender, partitions: int = 6, **environment: str
    ) -> Iterator[tuple[Feed, list[Child]]]:
        """A contender that has joined its group on a new topic, on an empty graph."""
        self.graph.clear()
        topic = f"b{uuid.uuid4().hex[:8]}"
        feed = Feed(self.environment["KAFKA_BOOTSTRAP_SERVERS"], topic, partitions)
        Feed(self.environment["KAFKA_BOOTSTRAP_SERVERS"], f"{topic}.dlq", 1)
        with running(contender, {**self.environment, **environment}, topic, self.logs) as children:
            feed.wait_for_members(topic, contender.processes)
            yield feed, children

    def applied(self, feed: Feed, loaded: Loaded, seconds_max: float = 900) -> float:
        """Seconds from the moment the work is visible in the topic until the graph has it."""
        began, last = loaded.show(), list(loaded.last.values())
        while not self.graph.holds(STUDY, last):
            time.sleep(0.03)
            if time.monotonic() - began > seconds_max:
                raise TimeoutError(f"not applied; see {self.logs}/{feed.topic}-0.log")
        return time.monotonic() - began

    def committed(self, feed: Feed, loaded: Loaded) -> float:
        """Seconds until the group has committed it: for work that changes nothing."""
        observer = feed.observer(feed.topic)
        while not observer.is_through():
            time.sleep(0.01)
        began = loaded.show()
        while not observer.is_through():
            time.sleep(0.01)
        return time.monotonic() - began


def throughput(bench: Bench) -> Figures:
    """Events a second: first load, replay, updates, hot set; CPU of the processes as well."""
    figures: Figures = defaultdict(lambda: defaultdict(list))
    load = work.first_load(STUDY, bench.events)
    phases = [load, work.replay(load), work.updates(load), work.hot_set(load)]
    for contender in (SINK, QUIX, USUAL):  # a cold JVM is nobody's measure
        _phases(bench, contender, phases)
        bench.say(f"warm: {contender.name}")
    graphs = set()
    for number in range(bench.rounds):
        bench.graph.clear()
        figures["ceiling"]["first load"].append(bench.graph.ceiling(load, TRANSACTION))
        for contender in (SINK, QUIX, USUAL, SINK_2, SINK_4):
            rates = figures[contender.name]
            for name, value in _phases(bench, contender, phases).items():
                rates[name].append(value)
            graphs.add(tuple(bench.graph.counts().items()))
            bench.say(f"round {number + 1}: {contender.name}: {_last(rates)}")
        bench.say(f"round {number + 1}: ceiling: {_last(figures['ceiling'])}")
    if len(graphs) != 1:
        raise AssertionError(f"the contenders made different graphs: {graphs}")
    return figures


def _phases(bench: Bench, contender: Contender, phases: list[work.Work]) -> dict[str, float]:
    """Rates of one contender, phase after phase, on a graph that was empty."""
    rates: dict[str, float] = {}
    with bench.contest(contender) as (feed, children):
        for each in phases:
            # Nothing can be seen in the graph of work that changes nothing.
            measure = bench.committed if each.name == "replay" else bench.applied
            loaded, used = feed.load(each), cpu_seconds(children)
            seconds = measure(feed, loaded)
            used = cpu_seconds(children) - used
            rates[each.name] = len(each.events) / seconds
            rates[f"{each.name}, CPU s / 100 000"] = used / len(each.events) * 100_000
        rates["peak memory MB"] = max(map(peak_memory_mb, children))
    return rates


def latency(bench: Bench, per_second: float = 200, seconds: float = 10) -> Figures:
    """Milliseconds from produce to visible to a reader that asks all the time."""
    figures: Figures = defaultdict(lambda: defaultdict(list))
    quick_quix = Contender(QUIX.name, QUIX.kind, 1, {"QUIX_COMMIT_INTERVAL": "1.0"})
    for number in range(-1, bench.rounds):  # a cold JVM is nobody's measure
        for contender in (SINK, quick_quix):
            with bench.contest(contender) as (feed, _):
                bench.applied(feed, feed.load(work.first_load(STUDY, 2000)))
                waits = sorted(_waits(bench, feed, per_second, seconds))
            if number < 0:
                continue
            for name, share in (("p50", 0.5), ("p99", 0.99)):
                figures[contender.name][f"{name} ms"].append(waits[int(len(waits) * share)])
            bench.say(f"round {number + 1}: {contender.name}: {_last(figures[contender.name])}")
    return figures


def _waits(bench: Bench, feed: Feed, per_second: float, seconds: float) -> Iterator[float]:
    producer = Producer({"bootstrap.servers": feed.servers, "linger.ms": 0})
    producer.list_topics(feed.topic, 10)  # its connections are up before the clock starts
    events = iter(work.first_load(STUDY, int(per_second * seconds), start=1_000_000).events)
    produced: dict[int, float] = {}
    began, count = time.monotonic(), 0
    event = next(events, None)
    while event or produced:
        while event and time.monotonic() >= began + count / per_second:
            key, value, headers = encode(event)
            subject = int((event.data or {})["subjectId"])
            partition = partition_of(event.identity, subject, feed.partitions)
            producer.produce(feed.topic, value, key, partition, headers=headers)
            producer.poll(0)
            produced[int(event.id)] = time.monotonic()
            event, count = next(events, None), count + 1
        rows = bench.graph.run(
            "UNWIND $ids AS id MATCH (n:Record {study_key: $study, record_id: id})"
            " WHERE n._version IS NOT NULL RETURN id",
            ids=list(produced), study=STUDY,
        )  # fmt: skip
        now = time.monotonic()
        for (number,) in rows:
            yield (now - produced.pop(number)) * 1000
        time.sleep(0.001)
    producer.flush(10)


def distance(bench: Bench) -> Figures:
    """First load with 20 ms added to every round trip to the database, and without."""
    figures: Figures = defaultdict(lambda: defaultdict(list))
    load = work.first_load(STUDY, bench.events)
    for number in range(bench.rounds):
        for name, delay in (("direct", 0), ("20 ms away", 20)):
            with _proxied(bench, delay) as uri, bench.contest(SINK, NEO4J_URI=uri) as (feed, _):
                seconds = bench.applied(feed, feed.load(load))
            figures[name]["first load"].append(bench.events / seconds)
            bench.say(f"round {number + 1}: {name}: {_last(figures[name])}")
    return figures


def scaling(bench: Bench) -> Figures:
    """Four processes against one where the database is not the limit: 100 ms away."""
    figures: Figures = defaultdict(lambda: defaultdict(list))
    load = work.first_load(STUDY, bench.events)
    small = {"SINK_WRITERS_MAX": "2", "SINK_TRANSACTION_EVENTS_MAX": "100"}
    for number in range(bench.rounds):
        for processes in (1, 4):
            contender = Contender(f"{processes} processes", "sink", processes, small)
            with (
                _proxied(bench, 100) as uri,
                bench.contest(contender, partitions=8, NEO4J_URI=uri) as (feed, _),
            ):
                seconds = bench.applied(feed, feed.load(load))
            figures[contender.name]["first load"].append(len(load.events) / seconds)
            bench.say(f"round {number + 1}: {contender.name}: {_last(figures[contender.name])}")
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
    """A backlog of a million, Neo4j away for a minute; the rate then against the rate at 50 000."""
    figures: Figures = defaultdict(lambda: defaultdict(list))
    chunk = 50_000
    folder = bench.logs.parent.absolute() / "neo4j-million"
    shutil.rmtree(folder, ignore_errors=True)  # an earlier run's, with a password of its own
    neo4j = LocalNeo4j(folder, free_port(), uuid.uuid4().hex)
    neo4j.start()
    try:
        neo4j.wait()
        environment = {**bench.environment, **neo4j.environment}
        with Graph(environment) as graph:
            graph.make_schema()
            own = Bench(environment, graph, bench.logs, 1, chunk, bench.say)
            with own.contest(SINK) as (feed, children):
                own.applied(feed, feed.load(work.first_load(STUDY, chunk, 10_000_000)))  # warm
                few = own.applied(feed, feed.load(work.first_load(STUDY, chunk)))
                last = feed.load(work.first_load(STUDY, chunk, chunk))
                for start in range(2 * chunk, total, chunk):
                    last.show()
                    last = feed.load(work.first_load(STUDY, chunk, start))
                shown = last.show()
                time.sleep(15)
                if neo4j.process:
                    neo4j.process.kill()
                time.sleep(outage_seconds)
                neo4j.start()
                neo4j.wait()
                bench.say(f"backlog of {total:,}; Neo4j is back")
                while not graph.holds(STUDY, list(last.last.values())):
                    time.sleep(0.5)
                figures["this sink"]["backlog s"].append(time.monotonic() - shown)
                many = [
                    own.applied(
                        feed, feed.load(work.first_load(STUDY, chunk, total + chunk * each))
                    )
                    for each in range(3)
                ]
                figures["this sink"]["rate at 50 000"].append(chunk / few)
                figures["this sink"]["rate at 1 000 000"].append(chunk / statistics.median(many))
                figures["this sink"]["peak memory MB"].append(peak_memory_mb(children[0]))
    finally:
        if neo4j.process:
            neo4j.process.stop()
    bench.say(f"million: {_last(figures['this sink'])}")
    return figures


def _last(rates: dict[str, list[float]]) -> str:
    return ", ".join(f"{name} {values[-1]:,.4g}" for name, values in rates.items())


SECTIONS: dict[str, Callable[[Bench], Figures]] = {
    "throughput": throughput,
    "latency": latency,
    "distance": distance,
    "scaling": scaling,
    "million": million,
}

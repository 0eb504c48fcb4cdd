"""``imednet-connector verify``: prove that the graph equals the topic, or the API."""

import json
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

import typer
from rich.console import Console
from rich.table import Table

from connector import logs
from connector.cli.row_counts import row_counts
from connector.config import Settings
from connector.defects import describe
from connector.errors import START_SWEEP, ConnectorError, FatalError
from connector.kafka.topics import Topics
from connector.model.comparison import Problem
from connector.model.entities import READ_KINDS
from connector.neo4j.database import Neo4jDatabase
from connector.neo4j.node_reader import NodeReader
from connector.neo4j.writer import Neo4jGraphWriter
from connector.ops.repair import Repair, Repaired
from connector.ops.verification import Verification, Verifier
from connector.ops.wanted import ApiStates, OnRows, TopicStates
from connector.store.wanted_states import FoundDifference, WantedStates


class Against(StrEnum):
    """What the graph is compared with."""

    TOPIC = "topic"
    API = "api"

    @property
    def shown(self) -> str:
        """The name in messages."""
        return "API" if self is Against.API else self.value


@dataclass(frozen=True, slots=True)
class VerifyArguments:
    """The command's options."""

    study: str | None
    against: Against = Against.TOPIC
    wait_seconds: float = 60.0
    limit: int = 20
    repair: bool = False
    as_json: bool = False
    ends_max: Mapping[int, int] | None = None
    """The offset of each of the topic's partitions to stop at, if not at its end."""


def run(load: Callable[[], Settings], arguments: VerifyArguments) -> None:
    """Compare and print; exit with 0 if equal, 1 if different, 2 if inconclusive.

    A comparison that failed is inconclusive, too, whatever the reason: neither an outage nor a
    wrong setting must look like a difference.
    """
    try:
        settings = load()
        logs.configure(settings.log)
        result = _verify(settings, arguments)
    except Exception as error:  # noqa: BLE001 - described without its text
        typer.echo(f"imednet-connector: {describe(error)}", err=True)
        raise typer.Exit(2) from None
    raise typer.Exit(result.exit_code)


def _verify(settings: Settings, arguments: VerifyArguments) -> Verification:
    """Compare, repair if asked to, and print the result.

    Raises:
        ConnectorError: a server does not answer, constraints are missing, so that two nodes may
            have one key, or neither side has the study.
    """
    study, against = arguments.study, arguments.against
    with (
        Neo4jDatabase(settings.neo4j) as database,
        closing(WantedStates()) as states,
        row_counts() as on_rows,
    ):
        database.require_constraints()
        source = _source(settings, arguments, on_rows)
        verifier = Verifier(NodeReader(database), states, source, on_rows)
        result = verifier.run(study, arguments.wait_seconds)
        repaired = Repaired()
        if arguments.repair and result.problems:
            repair = _Repair(settings, database, states, on_rows)
            repair.run(against, repaired)
            verifier.look_again(states.differing_studies())
            result = verifier.counted(result)
            result.digest = ""  # of the graph before the repair
        found = list(states.differences(arguments.limit))
    if study and not result.nodes.total() and not result.problems:
        raise FatalError(
            f"Neither the graph nor the {against.shown} has study {study}. Check --study"
        )
    if arguments.as_json:
        typer.echo(json.dumps(_as_json(result, found, repaired), indent=2))
    else:
        _print(result, found, against)
        _print_repaired(result, repaired, arguments)
    return result


def _source(
    settings: Settings, arguments: VerifyArguments, on_rows: OnRows
) -> TopicStates | ApiStates:
    if arguments.against is Against.TOPIC:
        Topics(settings.kafka).check()
        return TopicStates(settings, arguments.study, on_rows, arguments.ends_max)
    if arguments.study is None:
        raise FatalError("Give the study to compare with the API: --study KEY")
    return ApiStates(settings, arguments.study, on_rows)


@dataclass(frozen=True, slots=True)
class _Repair:
    """What a repair needs."""

    settings: Settings
    database: Neo4jDatabase
    found: WantedStates
    on_rows: OnRows

    def run(self, against: Against, result: Repaired) -> None:
        """Repair all studies with differences."""
        for study in self.found.differing_studies():
            if against is Against.TOPIC:
                self._study(study, self.found, result)
                continue
            with closing(WantedStates()) as topic:
                TopicStates(self.settings, study, self.on_rows).load(topic)
                self._study(study, topic, result)

    def _study(self, study: str, topic: WantedStates, result: Repaired) -> None:
        writer = Neo4jGraphWriter(self.database, {"repair": study}, force=True)
        repair = Repair(study, self.found, topic, writer, NodeReader(self.database))
        repair.apply_events(result)
        repair.note_strays(result)
        problems = {problem for _, problem in self.found.problems()}
        if problems.isdisjoint({Problem.EXTRA, Problem.NEWER}):
            return
        try:
            api = ApiStates(self.settings, study, self.on_rows)
        except FatalError as error:
            result.notes.append(
                f"Extra and newer nodes were left: the API must confirm them. {error}"
            )
            return
        with closing(api):
            try:
                repair.replace_newer(api, result)
                repair.delete_extras(api, self.settings.source.max_delete_ratio, result)
            except ConnectorError as error:  # the other studies are repaired all the same
                result.notes.append(f"study {study}: extra and newer nodes were left: {error}")


def _as_json(
    result: Verification, found: list[FoundDifference], repaired: Repaired
) -> dict[str, Any]:
    problems: dict[str, dict[str, int]] = {}
    for (kind, problem), count in sorted(result.problems.items()):
        problems.setdefault(kind, {})[problem] = count
    return {
        "result": ("equal", "different", "inconclusive")[result.exit_code],
        "digest": result.digest or None,
        "nodes": dict(result.nodes),
        "differences": problems,
        "unconfirmed": result.unconfirmed,
        "unreadable": result.unreadable,
        "repaired": asdict(repaired),
        "examples": [
            {
                "study": each.identity.study_key,
                "kind": each.identity.entity,
                "id": each.identity.id,
                "problem": each.problem,
                "names": each.names,
                "confirmed": is_confirmed,
            }
            for each, is_confirmed in found
        ],
    }


def _print(result: Verification, found: list[FoundDifference], against: Against) -> None:
    console = Console(highlight=False, soft_wrap=True)
    table = Table("kind", title=f"graph compared with the {against.shown}", title_justify="left")
    for column in ("nodes", *Problem):
        table.add_column(column, justify="right")
    for entity in READ_KINDS.values():
        counts = [result.problems[entity.name, problem] for problem in Problem]
        if result.nodes[entity.name] or any(counts):
            cells = [f"{each:,}" if each else "" for each in counts]
            table.add_row(entity.plural, f"{result.nodes[entity.name]:,}", *cells)
    console.print(table)
    for (identity, problem, names), is_confirmed in found:
        text = f"{identity.study_key} {identity.entity} {identity.id}: {problem}"
        details = f" ({', '.join(names)})" if names else ""
        console.print(f"{text}{details}{'' if is_confirmed else ', unconfirmed'}", markup=False)
    hidden = result.problems.total() - len(found)
    if hidden > 0:
        console.print(f"... and {hidden:,} more. To see them, raise --limit")
    if result.digest:
        console.print(f"digest of the graph as it was read: {result.digest}")


def _print_repaired(result: Verification, repaired: Repaired, arguments: VerifyArguments) -> None:
    console = Console(highlight=False, soft_wrap=True)
    if arguments.repair:
        console.print(f"repaired: {repaired.applied:,} applied, {repaired.deleted:,} deleted")
    for note in repaired.notes:
        console.print(note, markup=False)
    console.print(_conclusion(result, arguments))


def _conclusion(result: Verification, arguments: VerifyArguments) -> str:
    nodes, total = result.nodes.total(), result.problems.total()
    if result.exit_code == 0:
        wanted_by = arguments.against.shown
        return f"equal: all {nodes:,} nodes are as the {wanted_by} has them{_except(result)}"
    by_problem: Counter[Problem] = Counter()
    for (_, problem), count in result.problems.items():
        by_problem[problem] += count
    counts = ", ".join(f"{count:,} {problem}" for problem, count in by_problem.items())
    if result.exit_code == 1:
        return f"different: {counts}. {_advice(by_problem, arguments)}"
    if arguments.against is Against.API:
        return (
            f"inconclusive: {total:,} nodes differ ({counts}), and either side changed meanwhile."
            " Verify again, with a longer --wait if need be"
        )
    return (
        f"inconclusive: {total:,} nodes differ ({counts}), but the sinks have not committed all"
        " events, or either side changed meanwhile. Check that they run, then verify again, with a"
        " longer --wait if need be"
    )


def _except(result: Verification) -> str:
    if not result.unreadable:
        return ""
    return (
        f", except {result.unreadable:,} whose rows cannot become events: they are not compared."
        " To see their dead letters, run: imednet-connector dlq list"
    )


def _advice(by_problem: Mapping[Problem, int], arguments: VerifyArguments) -> str:
    """What helps against these confirmed differences."""
    if set(by_problem) == {Problem.NEWER} and not arguments.repair:
        return (
            "An export wrote the newer nodes, or the topic has lost their events. To publish what"
            f" the topic lacks, {START_SWEEP}. If they stay newer, verify again with --repair"
        )
    if not arguments.repair:
        return "To fix the graph, verify again with --repair"
    if arguments.against is Against.API:
        return f"The topic does not have what the API has. To publish it, {START_SWEEP}"
    return "These could not be repaired: `trace` says why for one entity, `dlq list` for events"

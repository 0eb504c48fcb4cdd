"""``imednet-connector doctor``: examine API, Kafka, Neo4j and disk, and say what to fix."""

import json
from collections.abc import Collection

import typer
from rich.console import Console

from connector import logs
from connector.config import Settings
from connector.errors import FatalError
from connector.ops.doctor import AREAS, examine
from connector.ops.findings import Finding, Outcome

_MARKS = {
    Outcome.OK: "[green]ok     [/]",
    Outcome.WARNING: "[yellow]warning[/]",
    Outcome.FAILURE: "[red]failure[/]",
}


def run(settings: Settings, areas: Collection[str], *, as_json: bool) -> None:
    """Print one line for each check; exit with code 1 if one has failed.

    Raises:
        FatalError: an area is unknown.
    """
    logs.configure(settings.log)
    if unknown := set(areas) - AREAS.keys():
        raise FatalError(f"Unknown area {', '.join(unknown)}. Use one of {', '.join(AREAS)}")
    console = Console(highlight=False, soft_wrap=True)
    found: list[Finding] = []
    for finding in examine(settings, areas):
        found.append(finding)
        if not as_json:
            _print(console, finding)
    counts = {each: sum(one.outcome is each for one in found) for each in Outcome}
    if as_json:
        typer.echo(json.dumps([each._asdict() for each in found], indent=2))
    else:
        summary = ", ".join(f"{count} {each}" for each, count in counts.items() if count)
        console.print(f"\n{len(found)} checks: {summary}")
    if counts[Outcome.FAILURE]:
        raise typer.Exit(1)


def _print(console: Console, finding: Finding) -> None:
    console.print(_MARKS[finding.outcome], end=" ")
    console.print(f"{finding.area:5} {finding.check}: {finding.detail}", markup=False)

"""The commands that stand in for what a user has, and their options: API, servers, all of it."""

from pathlib import Path
from typing import Annotated

import typer


def simulate(
    port: Annotated[int, typer.Option(help="Port to listen on; 0 picks a free one.")] = 8080,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    subjects: Annotated[int, typer.Option(min=1, help="Subjects per study.")] = 2000,
    records: Annotated[int, typer.Option(min=1, help="Approximate records per study.")] = 50_000,
    seed: Annotated[int, typer.Option(help="Random seed; the same seed gives the same data.")] = 1,
    study: Annotated[str, typer.Option(help="Study keys, comma-separated.")] = "DEMO",
    edits: Annotated[float, typer.Option(min=0, help="Live edits per second.")] = 0.0,
    fault: Annotated[
        list[str] | None,
        typer.Option(
            help="NAME=SHARE of responses, such as server_error=0.1; repeatable. help: list them."
        ),
    ] = None,
) -> None:
    """Serve a simulated iMednet API."""
    from connector.cli import demo as command

    command.simulate((host, port), seed, (study, subjects, records), edits, fault or [])


def servers(
    data: Annotated[
        Path | None,
        typer.Option(
            help="Folder for data and logs: new, empty, or from an earlier run (replaced)."
        ),
    ] = None,
) -> None:
    """Run a real Kafka and a real Neo4j on free local ports, without Docker, until stopped."""
    from connector.cli import demo as command

    command.servers(data)


def demo(
    subjects: Annotated[int, typer.Option(min=10, help="Subjects in the study.")] = 2000,
    records: Annotated[
        int, typer.Option(min=100, help="Approximate records in the study.")
    ] = 50_000,
    seconds: Annotated[float, typer.Option(min=1, help="Seconds of live edits.")] = 20.0,
    output: Annotated[
        Path,
        typer.Option(help="Folder for picture and logs: new, empty, or from an earlier demo."),
    ] = Path("demo-output"),
    use_environment: Annotated[
        bool,
        typer.Option(
            "--use-environment",
            help="Use the exported Kafka or Neo4j; topics, group and study get demo-... names.",
        ),
    ] = False,
    keep: Annotated[
        bool, typer.Option("--keep", help="Keep everything running for the web page, until Ctrl-C.")
    ] = False,
) -> None:
    """Run simulated API, Kafka, source, two sinks and Neo4j, then compare graph and API."""
    from connector.cli import demo as command

    command.demo((subjects, records), seconds, output, use_environment=use_environment, keep=keep)

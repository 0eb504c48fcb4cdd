"""The commands by name. Clients are imported when a command runs, so that --help is quick."""

from pathlib import Path
from typing import Annotated

import typer

from connector.config import Settings
from connector.errors import FatalError

app = typer.Typer(
    name="imednet-connector",
    help="iMednet API -> Kafka -> Neo4j: nothing lost, nothing stale.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
)

Config = Annotated[
    Path | None, typer.Option("--config", help="TOML file; the environment goes before it.")
]


@app.command()
def source(
    sweep: Annotated[
        bool, typer.Option("--sweep", help="Begin with a full sweep of every kind (also SIGUSR1).")
    ] = False,
    config: Config = None,
) -> None:
    """Publish the studies' changes to Kafka until stopped."""
    from connector.cli import source as command

    command.run(Settings.load(config), sweep=sweep)


@app.command()
def sink(
    accept_gap: Annotated[
        bool, typer.Option("--accept-gap", help="Go on where events are missing from the topic.")
    ] = False,
    config: Config = None,
) -> None:
    """Apply the events of a consumer group to the graph until stopped."""
    from connector.cli import sink as command

    command.run(Settings.load(config), accept_gap=accept_gap)


@app.command()
def replay(
    start: Annotated[
        str | None,
        typer.Option("--from", help="beginning, a time with its zone, or PARTITION:OFFSET,..."),
    ] = None,
    end: Annotated[str, typer.Option("--to", help="As --from; not included.")] = "end",
    study: Annotated[str | None, typer.Option(help="Only the events of this study.")] = None,
    plan: Annotated[bool, typer.Option("--plan", help="Show ranges and counts only.")] = False,
    join: Annotated[
        str | None, typer.Option(metavar="REPLAY", help="Work with, or go on with, this replay.")
    ] = None,
    rewind: Annotated[
        bool, typer.Option("--rewind", help="Move the live group back instead; its sinks are down.")
    ] = False,
    config: Config = None,
) -> None:
    """Apply events of the topic once more. Live sinks and their offsets are untouched."""
    from connector.cli import replay as command

    if (start is None) == (join is None):
        raise FatalError("give one of --from and --join")
    asked = command.ReplayArguments(start or "", end, study, join, plan, rewind)
    command.run(Settings.load(config), asked)


@app.command()
def export(
    study: Annotated[str, typer.Argument(help="Key of the study.")],
    kinds: Annotated[
        str | None,
        typer.Option(help="Only these, comma-separated, such as visit,record; and the study."),
    ] = None,
    create: Annotated[
        bool, typer.Option("--create", help="Create without looking first: for an empty graph.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print statements and three sample rows only.")
    ] = False,
    password_file: Annotated[
        Path | None, typer.Option(help="File with the Neo4j password, instead of NEO4J_PASSWORD.")
    ] = None,
    config: Config = None,
) -> None:
    """Export one study to Neo4j without Kafka; an interrupted export is resumed for an hour."""
    from connector.cli import export as command

    asked = command.ExportArguments(study, kinds, create, dry_run, password_file)
    command.run(Settings.load(config), asked)


@app.command()
def setup(
    config: Config = None,
    check: Annotated[bool, typer.Option("--check", help="Change nothing.")] = False,
) -> None:
    """Make topics, constraints and indexes, or say what differs."""
    from connector.cli import setup as command

    command.run(Settings.load(config), check=check)


@app.command()
def simulate(
    port: Annotated[int, typer.Option(help="0: any free port.")] = 8080,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    subjects: Annotated[int, typer.Option(min=1, help="Subjects of the study.")] = 2000,
    records: Annotated[int, typer.Option(min=1, help="Records of the study, about.")] = 50_000,
    seed: Annotated[int, typer.Option(help="Same seed, same data.")] = 1,
    study: Annotated[str, typer.Option(help="Study keys, comma-separated.")] = "DEMO",
    edits: Annotated[float, typer.Option(min=0, help="Live changes a second.")] = 0.0,
    fault: Annotated[
        list[str] | None, typer.Option(help="NAME=SHARE of answers, such as server_error=0.1.")
    ] = None,
) -> None:
    """Serve a simulated iMednet API."""
    from connector.cli import demo as command

    command.simulate((host, port), seed, (study, subjects, records), edits, fault or [])


@app.command()
def servers(
    data: Annotated[
        Path | None,
        typer.Option(help="Folder for data and logs: new, empty, or of an earlier run (replaced)."),
    ] = None,
) -> None:
    """Start a real Kafka and a real Neo4j on free local ports, without Docker, until stopped."""
    from connector.cli import demo as command

    command.servers(data)


@app.command()
def demo(
    subjects: Annotated[int, typer.Option(min=10, help="Subjects of the study.")] = 2000,
    records: Annotated[int, typer.Option(min=100, help="Records of the study, about.")] = 50_000,
    seconds: Annotated[float, typer.Option(min=1, help="How long to keep editing.")] = 20.0,
    output: Annotated[
        Path,
        typer.Option(help="Folder for picture and logs: new, empty, or of an earlier demo."),
    ] = Path("demo-output"),
    use_environment: Annotated[
        bool,
        typer.Option(
            "--use-environment",
            help="Use the exported Kafka or Neo4j, under names of the demo's own (demo-...).",
        ),
    ] = False,
) -> None:
    """The whole way in one command: API simulator, Kafka, source, two sinks, Neo4j, comparison."""
    from connector.cli import demo as command

    command.demo((subjects, records), seconds, output, use_environment=use_environment)

"""The commands and their options. Clients are imported on use, which keeps --help fast."""

from pathlib import Path
from typing import Annotated

import typer

from connector.cli.dlq_commands import dlq
from connector.cli.lab_commands import demo, servers, simulate
from connector.config import Settings
from connector.errors import FatalError

app = typer.Typer(
    name="imednet-connector",
    help="Publish changes from the iMednet API to Kafka and apply them to a Neo4j graph.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
)
app.add_typer(dlq, name="dlq")

Config = Annotated[
    Path | None,
    typer.Option("--config", help="TOML file with settings; environment variables override it."),
]


@app.command()
def source(
    sweep: Annotated[
        bool, typer.Option("--sweep", help="Start with a full sweep of every kind (also SIGUSR1).")
    ] = False,
    config: Config = None,
) -> None:
    """Publish changes in the configured studies to Kafka until stopped."""
    from connector.cli import source as command

    command.run(Settings.load(config), sweep=sweep)


@app.command()
def sink(
    accept_gap: Annotated[
        bool,
        typer.Option(
            "--accept-gap", help="Continue at the first available event if some are gone."
        ),
    ] = False,
    config: Config = None,
) -> None:
    """Apply events to the graph, as a member of the consumer group, until stopped."""
    from connector.cli import sink as command

    command.run(Settings.load(config), accept_gap=accept_gap)


@app.command()
def replay(
    start: Annotated[
        str | None,
        typer.Option(
            "--from",
            help="Start: beginning, an ISO 8601 time with zone, 2h (ago), or PARTITION:OFFSET,...",
        ),
    ] = None,
    end: Annotated[
        str, typer.Option("--to", help="End (exclusive), in the same forms, or end.")
    ] = "end",
    study: Annotated[str | None, typer.Option(help="Replay only the events of this study.")] = None,
    plan: Annotated[
        bool, typer.Option("--plan", help="Only show ranges and event counts.")
    ] = False,
    join: Annotated[
        str | None, typer.Option(metavar="REPLAY", help="Join or resume this replay.")
    ] = None,
    rewind: Annotated[
        bool,
        typer.Option(
            "--rewind", help="Move the live group's own offsets instead; stop its sinks first."
        ),
    ] = False,
    force: Annotated[
        bool,
        typer.Option("--force", help="Also rewrite nodes that have the event's own version."),
    ] = False,
    config: Config = None,
) -> None:
    """Apply events from the topic again, in a separate consumer group (or rewind the live one)."""
    from connector.cli import replay as command

    if (start is None) == (join is None):
        raise FatalError("Give either --from or --join")
    if join and force:
        raise FatalError("A worker that joins follows the replay's plan. Omit --force")
    arguments = command.ReplayArguments(start or "", end, study, join, plan, rewind, force)
    command.run(Settings.load(config), arguments)


@app.command()
def export(
    study: Annotated[str, typer.Argument(help="Study key.")],
    kinds: Annotated[
        str | None,
        typer.Option(help="Export only these kinds (such as visit,record) and the study itself."),
    ] = None,
    create: Annotated[
        bool,
        typer.Option("--create", help="Skip the lookup of existing nodes: for an empty graph."),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only print the statements and three sample rows.")
    ] = False,
    password_file: Annotated[
        Path | None, typer.Option(help="File with the Neo4j password; overrides NEO4J_PASSWORD.")
    ] = None,
    config: Config = None,
) -> None:
    """Export one study to Neo4j without Kafka; resumes an export interrupted within the hour."""
    from connector.cli import export as command

    arguments = command.ExportArguments(study, kinds, create, dry_run, password_file)
    command.run(Settings.load(config), arguments)


@app.command()
def query(
    name: Annotated[str | None, typer.Argument(help="Name of a question or a rule.")] = None,
    study: Annotated[str | None, typer.Option("--study", help="Key of the study.")] = None,
    subject: Annotated[str | None, typer.Option(help="Key of one subject (timeline).")] = None,
    rules: Annotated[bool, typer.Option("--rules", help="Check all integrity rules.")] = False,
    show_list: Annotated[bool, typer.Option("--list", help="List questions and rules.")] = False,
    csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    config: Config = None,
) -> None:
    """Ask the graph one of the cookbook's questions, or check its integrity rules."""
    from connector.cli import query as command

    if show_list:
        command.show_list()
        return
    if (name is None) == (not rules):
        raise typer.BadParameter("Give a name, or --rules, or --list")
    if not study:
        raise typer.BadParameter("Give the key of the study", param_hint="--study")
    if csv and json:
        raise typer.BadParameter("Give either --csv or --json")
    output = command.Format.CSV if csv else command.Format.JSON if json else command.Format.TABLE
    command.run(Settings.load(config), command.Asked(name, study, subject), output)


@app.command()
def verify(
    study: Annotated[str | None, typer.Option(help="Only this study; without it, all.")] = None,
    against: Annotated[
        str, typer.Option(metavar="topic|api", help="What to compare the graph with.")
    ] = "topic",
    wait: Annotated[
        float,
        typer.Option(min=0, help="Seconds that differences may take to disappear."),
    ] = 60.0,
    limit: Annotated[int, typer.Option(min=0, help="Differences to list.")] = 20,
    repair: Annotated[
        bool, typer.Option("--repair", help="Apply the topic's events again where they differ.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    config: Config = None,
) -> None:
    """Compare every node, property and relationship; exit 0 equal, 1 different, 2 inconclusive."""
    from connector.cli import verify as command

    if against not in tuple(command.Against):
        raise typer.BadParameter("Give topic or api", param_hint="--against")
    arguments = command.VerifyArguments(study, command.Against(against), wait, limit, repair, json)
    command.run(lambda: Settings.load(config), arguments)


@app.command()
def trace(
    study: Annotated[str, typer.Argument(help="Study key.")],
    kind: Annotated[str, typer.Argument(help="Kind, such as record or subject.")],
    entity_id: Annotated[str, typer.Argument(metavar="ID", help="The entity's id in the API.")],
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    config: Config = None,
) -> None:
    """Show what API, topic, graph and dead letter queue have of one entity, and what it means."""
    from connector.cli import trace as command

    command.run(Settings.load(config), study, kind, entity_id, as_json=json)


@app.command()
def rebuild(
    study: Annotated[str | None, typer.Option(help="Only this study; without it, all.")] = None,
    config: Config = None,
) -> None:
    """Fill an empty graph from the topic, then verify it and print its digest."""
    from connector.cli import rebuild as command

    command.run(Settings.load(config), study)


@app.command()
def setup(
    config: Config = None,
    check: Annotated[bool, typer.Option("--check", help="Only report; change nothing.")] = False,
) -> None:
    """Create missing topics, constraints and indexes, and report those that need fixing."""
    from connector.cli import setup as command

    command.run(Settings.load(config), check=check)


@app.command()
def status(
    watch: Annotated[bool, typer.Option("--watch", help="Refresh until stopped.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    config: Config = None,
) -> None:
    """Show studies, lag, sinks, dead letters and graph on one screen; exit 1 if anything fails."""
    from connector.cli import status as command

    command.run(Settings.load(config), watch=watch, as_json=json)


@app.command()
def doctor(
    only: Annotated[
        list[str] | None,
        typer.Option(metavar="AREA", help="Only api, kafka, neo4j or disk; repeatable."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    config: Config = None,
) -> None:
    """Check API, Kafka, Neo4j, clocks, rights, topics, schema and disk, and say what to fix."""
    from connector.cli import doctor as command

    command.run(Settings.load(config), only or [], as_json=json)


@app.command()
def ui(config: Config = None) -> None:
    """Serve a web page: the pipeline's state, dead letters, and each study's graph."""
    from connector.cli import ui as command

    command.run(Settings.load(config))


for each in (simulate, servers, demo):
    app.command()(each)

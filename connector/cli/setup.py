"""``imednet-connector setup``: create or check topics, constraints and indexes."""

from collections.abc import Mapping, Sequence

import typer
from rich.console import Console

from connector import logs
from connector.config import Settings
from connector.kafka.topics import Topics
from connector.neo4j.database import Neo4jDatabase
from connector.neo4j.schema import Obstacle, SchemaError, SchemaItem, describe_missing
from connector.neo4j.server import outdated_kinds


def run(settings: Settings, *, check: bool) -> None:
    """Create missing items (``check``: only report); exit with code 1 if any problem is left."""
    logs.configure(settings.log)
    console = Console(highlight=False, soft_wrap=True)
    problems = _set_up_topics(settings, console, check=check)
    problems += _set_up_graph(settings, console, check=check)
    if problems:
        raise typer.Exit(1)


def _set_up_topics(settings: Settings, console: Console, *, check: bool) -> int:
    """Create or check the topics, print a line for each, and return the number of problems."""
    problems = 0
    topics = Topics(settings.kafka)
    topics.check()
    for state in topics.ensure(create=not check):
        if state.created:
            console.print(f"topic {state.name}: created")
        elif state.missing:
            console.print(f"topic {state.name}: missing")
        elif state.differences:
            console.print(f"topic {state.name}: {'; '.join(state.differences)}")
        else:
            console.print(f"topic {state.name}: ok")
        problems += (state.missing and not state.created) or bool(state.differences)
    return problems


def _set_up_graph(settings: Settings, console: Console, *, check: bool) -> int:
    """Create or check the schema, print a line for each item, and return the number missing."""
    with Neo4jDatabase(settings.neo4j) as database:
        missing = database.missing_schema()
        still_missing: Mapping[SchemaItem, Sequence[Obstacle]] = {}
        if not missing:
            console.print("graph: constraints and indexes ok")
        elif check:
            still_missing = {item: database.obstacles(item) for item in missing}
        else:
            still_missing = _create(database, missing)
        for item in missing:
            text = (
                describe_missing(item, still_missing[item])
                if item in still_missing
                else f"created {item.name}"
            )
            console.print(f"graph: {text}", markup=False)
        _report_outdated(database, console)
    return len(still_missing)


def _report_outdated(database: Neo4jDatabase, console: Console) -> None:
    """Print which kinds have nodes that an earlier revision of the graph model wrote."""
    if kinds := outdated_kinds(database).outdated:  # a hint only
        console.print(
            f"graph: {', '.join(kinds)}: an earlier graph model wrote some nodes. To update them,"
            " run: imednet-connector replay --from beginning (or export the study again)"
        )


def _create(
    database: Neo4jDatabase, items: Sequence[SchemaItem]
) -> Mapping[SchemaItem, Sequence[Obstacle]]:
    """Create the items; return those that could not be created, with the causes."""
    try:
        database.create_schema(items)
    except SchemaError as error:
        return error.items
    return {}

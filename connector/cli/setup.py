"""``imednet-connector setup``: topics, constraints and indexes."""

from collections.abc import Mapping, Sequence

import typer
from rich.console import Console

from connector import logs
from connector.config import Settings
from connector.kafka.topics import Topics
from connector.neo4j.database import Neo4jDatabase
from connector.neo4j.schema import Obstacle, SchemaError, SchemaItem, described


def run(settings: Settings, *, check: bool) -> None:
    """Make what is missing unless ``check``; exit code 1 when something is not as it should be."""
    logs.configure(settings.log)
    console = Console(highlight=False, soft_wrap=True)
    wrong = _topics(settings, console, check=check)
    wrong += _graph(settings, console, check=check)
    if wrong:
        raise typer.Exit(1)


def _topics(settings: Settings, console: Console, *, check: bool) -> int:
    wrong = 0
    topics = Topics(settings.kafka)
    topics.check()
    for state in topics.ensure(make=not check):
        if state.made:
            console.print(f"topic {state.name}: made")
        elif state.missing:
            console.print(f"topic {state.name}: missing")
        elif state.differences:
            console.print(f"topic {state.name}: {'; '.join(state.differences)}")
        else:
            console.print(f"topic {state.name}: as it should be")
        wrong += (state.missing and not state.made) or bool(state.differences)
    return wrong


def _graph(settings: Settings, console: Console, *, check: bool) -> int:
    with Neo4jDatabase(settings.neo4j) as database:
        missing = database.missing_schema()
        if not missing:
            console.print("graph: constraints and indexes as they should be")
            return 0
        still = (
            _made(database, missing)
            if not check
            else {item: database.obstacles(item) for item in missing}
        )
    for item in missing:
        said = described(item, still[item]) if item in still else f"made {item.name}"
        console.print(f"graph: {said}", markup=False)
    return len(still)


def _made(
    database: Neo4jDatabase, items: Sequence[SchemaItem]
) -> Mapping[SchemaItem, Sequence[Obstacle]]:
    """Make these; those that could not be made, with the causes."""
    try:
        database.make_schema(items)
    except SchemaError as error:
        return error.items
    return {}

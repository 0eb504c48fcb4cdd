"""``imednet-connector setup``: topics, constraints and indexes."""

import typer
from rich.console import Console

from connector import logs
from connector.config import Settings
from connector.kafka.topics import Topics
from connector.neo4j.database import Neo4jDatabase


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
        if check:
            for item in missing:
                console.print(f"graph: missing: {item.cypher}", markup=False)
            return len(missing)
        database.make_schema(missing)
        for item in missing:
            console.print(f"graph: made {item.name}")
        return 0

"""``imednet-connector query``: the cookbook's questions and rules, asked of one study's graph."""

import csv
import json
import sys
from collections.abc import Sequence
from enum import Enum
from typing import Any, NamedTuple

import typer
from rich.console import Console
from rich.table import Table

from connector import logs
from connector.config import Settings
from connector.cookbook.recipes import Recipe, recipes
from connector.errors import ConnectorError, FatalError
from connector.neo4j.database import Neo4jDatabase, ResultTable


class Format(Enum):
    """How rows are printed."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"


def show_list() -> None:
    """Print all names with their sentences."""
    table = Table(box=None, header_style="bold")
    for column in ("name", "", "sentence"):
        table.add_column(column)
    for recipe in recipes().values():
        table.add_row(recipe.name, "rule" if recipe.is_rule else "question", recipe.sentence)
    Console().print(table)


class Asked(NamedTuple):
    """What to ask: one question or rule, or all rules; of a study, or of one of its subjects."""

    name: str | None
    study: str
    subject: str | None


def run(settings: Settings, asked: Asked, output: Format) -> None:
    """Print the rows of one question, or those that break one rule; without a name, all rules.

    Raises:
        FatalError: the name is unknown, it cannot be asked of one subject, or the graph does not
            have the study or the subject.
    """
    logs.configure(settings.log)
    if asked.name is None:
        _run_rules(settings, asked.study, output)
    else:
        _run_one(settings, asked.name, asked.study, asked.subject, output)


def _run_one(
    settings: Settings, name: str, study: str, subject: str | None, output: Format
) -> None:
    recipe = recipes().get(name)
    if recipe is None:
        raise FatalError(
            f"Unknown query {name}. To see all names, run: imednet-connector query --list"
        )
    if subject is not None and not recipe.takes_subject:
        takers = ", ".join(each.name for each in recipes().values() if each.takes_subject)
        raise FatalError(f"{name} covers a whole study. --subject works with {takers}")
    with Neo4jDatabase(settings.neo4j) as database:
        _require_study(database, study)
        if subject is not None:
            _require_subject(database, study, subject)
        found = database.read_table(recipe.cypher, study=study, subject=subject)
    _print(found, output, recipe.sentence)


def _run_rules(settings: Settings, study: str, output: Format) -> None:
    """Print how often each rule is broken; exit with code 1 if any is."""
    rules = [each for each in recipes().values() if each.is_rule]
    with Neo4jDatabase(settings.neo4j) as database:
        _require_study(database, study)
        counts = [_violations(database, each, study) for each in rules]
    rows = [[each.name, each.sentence, count] for each, count in zip(rules, counts, strict=True)]
    found = ResultTable(["rule", "sentence", "violations"], rows)
    _print(found, output, "integrity rules")
    if any(counts):
        if output is Format.TABLE:
            Console().print(
                "To see the violations of a rule, run: imednet-connector query RULE ..."
            )
        raise typer.Exit(1)


def _violations(database: Neo4jDatabase, rule: Recipe, study: str) -> int | str:
    """Return how many rows break a rule, or why they could not be counted."""
    try:
        return len(database.read_table(rule.cypher, study=study, subject=None).rows)
    except ConnectorError as error:
        return f"not checked: {error}"


def _require_study(database: Neo4jDatabase, study: str) -> None:
    if not database.read("MATCH (n:Study {study_key: $study}) RETURN 1", study=study):
        raise FatalError(f"The graph does not have study {study}. Check --study and NEO4J_DATABASE")


def _require_subject(database: Neo4jDatabase, study: str, subject: str) -> None:
    query = "MATCH (n:Subject {study_key: $study, subject_key: $subject}) RETURN 1 LIMIT 1"
    if not database.read(query, study=study, subject=subject):
        raise FatalError(f"Study {study} has no subject with the key {subject}. Check --subject")


def _print(found: ResultTable, output: Format, title: str) -> None:
    if output is Format.JSON:
        rows = [dict(zip(found.columns, row, strict=True)) for row in found.rows]
        typer.echo(json.dumps(rows, default=str, ensure_ascii=False, indent=2))
    elif output is Format.CSV:
        writer = csv.writer(sys.stdout)
        writer.writerow(found.columns)
        writer.writerows(found.rows)
    else:
        _print_rich(found.columns, found.rows, title)


def _print_rich(columns: Sequence[str], rows: Sequence[Sequence[Any]], title: str) -> None:
    table = Table(title=title, title_justify="left", caption=f"{len(rows):,} rows")
    for index, column in enumerate(columns):
        is_number = all(isinstance(row[index], int | float) for row in rows)
        table.add_column(column, justify="right" if rows and is_number else "left")
    for row in rows:
        table.add_row(*("" if value is None else str(value) for value in row))
    Console().print(table)

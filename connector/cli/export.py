"""``imednet-connector export``: one study into Neo4j, without Kafka."""

import contextlib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import orjson
from pydantic import SecretStr
from rich.console import Console
from rich.prompt import Prompt

from connector import logs
from connector.cli.running import tune_interpreter, tune_memory
from connector.clock import SystemClock
from connector.config import Settings
from connector.errors import FatalError, RetryableError
from connector.export.config import Neo4jSinkConfig
from connector.export.errors import ExportIncompleteError
from connector.export.neo4j_sink import Neo4jExportSink
from connector.export.rows import changes_of
from connector.export.study import StudyExport
from connector.imednet.reader import ImednetReader
from connector.model.cursor import Cursor
from connector.model.entities import ENTITIES
from connector.neo4j.cypher import statements
from connector.source import window
from connector.source.tracks import Mode, Track

_SAMPLES = 3
_COLLECT_AFTER = 50_000
"""A twelfth less CPU than by the 10 000 of the sink, which must not stand still so long."""


class ExportArguments(NamedTuple):
    """The command's options."""

    study: str
    kinds: str | None
    create: bool
    dry_run: bool
    password_file: Path | None


def run(settings: Settings, asked: ExportArguments) -> None:
    """Export, or show what would be written.

    Raises:
        FatalError: no such kind; the API does not know the study; no password.
        ExportError: as `connector.export.export_to_neo4j`.
    """
    logs.configure(settings.log)
    tune()
    kinds = kinds_of(asked.kinds)
    reader = ImednetReader(settings.imednet, SystemClock())
    console = Console(highlight=False, soft_wrap=True)
    with contextlib.closing(reader):
        if asked.dry_run:
            _show(reader, asked.study, console)
            return
        neo4j = settings.neo4j
        config = Neo4jSinkConfig(
            idempotent=not asked.create,
            database=neo4j.database,
            max_delete_ratio=settings.source.max_delete_ratio,
        )
        auth = (neo4j.username, _password(neo4j.password, asked.password_file))
        with Neo4jExportSink(neo4j.uri, auth, asked.study, config=config) as sink:
            export = StudyExport(reader, sink, kinds=kinds)
            try:
                export.run()
            except ExportIncompleteError as error:
                for line in outcome_lines(error.exported, error.failed):
                    console.print(line, markup=False)
                raise
    said = ["record"] if "record" in kinds else list(export.counts)
    counts = ", ".join(f"{export.counts[name]:,} {ENTITIES[name].plural}" for name in said)
    console.print(f"study {asked.study}: {counts} exported")


def kinds_of(text: str | None) -> list[str]:
    """The kinds that ``--kinds`` names, all without it.

    Raises:
        FatalError: it names a kind that does not exist, or none.
    """
    if text is None:
        return list(ENTITIES)
    kinds = [name.strip() for name in text.split(",") if name.strip()]
    if unknown := [name for name in kinds if name not in ENTITIES]:
        raise FatalError(f"there is no kind {', '.join(unknown)}; the kinds: {', '.join(ENTITIES)}")
    if not kinds:
        raise FatalError(f"--kinds names no kind; the kinds: {', '.join(ENTITIES)}")
    return kinds


def outcome_lines(exported: Mapping[str, int], failed: Mapping[str, str]) -> list[str]:
    """A line for each kind: how many rows were exported, or why it failed."""
    width = max(len(ENTITIES[name].plural) for name in exported)
    return [
        f"{ENTITIES[name].plural:<{width}}  {failed.get(name) or f'{count:,} exported'}"
        for name, count in exported.items()
    ]


def tune() -> None:
    """Memory and collector of this process, as an export needs them."""
    tune_memory()
    tune_interpreter(_COLLECT_AFTER)


def _password(given: SecretStr | None, file: Path | None) -> str:
    """Of the file, the environment, or asked for; never of the command line."""
    if file is not None:
        try:
            return file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise FatalError(f"cannot read {file}: {type(error).__name__}") from None
    if given is not None and given.get_secret_value():
        return given.get_secret_value()
    if not sys.stdin.isatty():
        raise FatalError("set NEO4J_PASSWORD, or give --password-file")
    return Prompt.ask("Neo4j password", password=True, console=Console(stderr=True))


def _show(reader: ImednetReader, study: str, console: Console) -> None:
    """The statements of each kind, and the first records as their rows."""
    record = ENTITIES["record"]
    track = Track(record, Mode.FULL)
    request = window.next_request(track, Cursor(study_key=study), _SAMPLES)
    try:
        page = reader.read(request)
    except RetryableError as error:
        raise FatalError(str(error)) from None
    found = changes_of(record, page.rows, study, lambda _: page.server_ms)
    changes, absent = list(found.newest.values()), set(found.newest)
    for statement in [*statements(changes, absent), *statements(changes)]:
        console.print(f"{statement.cypher}\n", markup=False)
    for statement in statements(changes):
        for row in statement.rows:
            console.print_json(orjson.dumps(row).decode())
    refused = len(found.refused)
    console.print(
        f"dry run: {page.total_elements:,} records in study {study}; nothing was written"
        + (f"; of the first {len(page.rows)}, {refused} cannot be stored" if refused else "")
    )

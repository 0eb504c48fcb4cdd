"""``imednet-connector export``: export one study to Neo4j, without Kafka."""

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
from connector.model.entities import READ_KINDS
from connector.neo4j.cypher import statements
from connector.source import window
from connector.source.tracks import Mode, Track

_SAMPLES = 3
_COLLECT_AFTER = 50_000
"""New objects between garbage collections.

It takes a twelfth less CPU than the sink's 10 000; a sink cannot afford the longer pauses.
"""


class ExportArguments(NamedTuple):
    """The command's options."""

    study: str
    kinds: str | None
    create: bool
    dry_run: bool
    password_file: Path | None


def run(settings: Settings, arguments: ExportArguments) -> None:
    """Export the study, or for a dry run show what would be written.

    Raises:
        FatalError: unknown kind, unknown study, or no password.
        ExportError: as raised by `connector.export.export_to_neo4j`.
    """
    logs.configure(settings.log)
    tune()
    kinds = kinds_of(arguments.kinds)
    reader = ImednetReader(settings.imednet, SystemClock())
    console = Console(highlight=False, soft_wrap=True)
    with contextlib.closing(reader):
        if arguments.dry_run:
            _show_dry_run(reader, arguments.study, console)
            return
        neo4j = settings.neo4j
        config = Neo4jSinkConfig(
            idempotent=not arguments.create,
            database=neo4j.database,
            max_delete_ratio=settings.source.max_delete_ratio,
            typed_values=settings.source.typed_values,
            omit_personal_data=settings.source.omit_personal_data,
        )
        auth = (neo4j.username, _password(neo4j.password, arguments.password_file))
        with Neo4jExportSink(neo4j.uri, auth, arguments.study, config=config) as sink:
            export = StudyExport(reader, sink, kinds=kinds)
            try:
                export.run()
            except ExportIncompleteError as error:
                for line in outcome_lines(error.exported, error.failed):
                    console.print(line, markup=False)
                raise
    reported = ["record"] if "record" in kinds else list(export.counts)
    counts = ", ".join(f"{export.counts[name]:,} {READ_KINDS[name].plural}" for name in reported)
    console.print(f"study {arguments.study}: {counts} exported")


def kinds_of(text: str | None) -> list[str]:
    """Return the kinds listed in ``--kinds``, or all kinds if it is not given.

    Raises:
        FatalError: the list contains an unknown kind or is empty.
    """
    if text is None:
        return list(READ_KINDS)
    kinds = [name.strip() for name in text.split(",") if name.strip()]
    if unknown := [name for name in kinds if name not in READ_KINDS]:
        raise FatalError(f"Unknown kind {', '.join(unknown)}. Choose from: {', '.join(READ_KINDS)}")
    if not kinds:
        raise FatalError(f"--kinds is empty. Choose from: {', '.join(READ_KINDS)}")
    return kinds


def outcome_lines(exported: Mapping[str, int], failed: Mapping[str, str]) -> list[str]:
    """Return one line per kind: the number of rows exported, or why it failed."""
    width = max(len(READ_KINDS[name].plural) for name in exported)
    return [
        f"{READ_KINDS[name].plural:<{width}}  {failed.get(name) or f'{count:,} exported'}"
        for name, count in exported.items()
    ]


def tune() -> None:
    """Tune memory allocation and garbage collection of this process for an export."""
    tune_memory()
    tune_interpreter(_COLLECT_AFTER)


def _password(configured: SecretStr | None, file: Path | None) -> str:
    """Take the password from the file, the settings or a prompt; never from the command line."""
    if file is not None:
        try:
            return file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise FatalError(f"Cannot read {file}: {type(error).__name__}") from None
    if configured is not None and configured.get_secret_value():
        return configured.get_secret_value()
    if not sys.stdin.isatty():
        raise FatalError(
            "The Neo4j password is missing. Set NEO4J_PASSWORD or pass --password-file"
        )
    return Prompt.ask("Neo4j password", password=True, console=Console(stderr=True))


def _show_dry_run(reader: ImednetReader, study: str, console: Console) -> None:
    """Print the statements that would write the first few records, and their parameter rows."""
    record = READ_KINDS["record"]
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
    rejected = len(found.refused)
    console.print(
        f"dry run: study {study} has {page.total_elements:,} records; nothing was written"
        + (f"; {rejected} of the first {len(page.rows)} cannot be stored" if rejected else "")
    )

"""``imednet-connector export``: one study into Neo4j, without Kafka."""

import sys
from pathlib import Path

import orjson
from pydantic import SecretStr
from rich.console import Console
from rich.prompt import Prompt

from connector import logs
from connector.cli.running import tune_interpreter, tune_memory
from connector.clock import SystemClock
from connector.config import Settings
from connector.cursor import Cursor
from connector.entities import ENTITIES
from connector.errors import FatalError, RetryableError
from connector.export.config import Neo4jSinkConfig
from connector.export.neo4j_sink import Neo4jExportSink
from connector.export.rows import changes_of
from connector.export.study import StudyExport
from connector.imednet.reader import ImednetReader
from connector.neo4j.cypher import statements
from connector.source import window
from connector.source.window import Mode, Track

_SAMPLES = 3
_COLLECT_AFTER = 50_000
"""A twelfth less CPU than by the 10 000 of the sink, which must not stand still so long."""


def run(
    settings: Settings, study: str, *, create: bool, dry_run: bool, password_file: Path | None
) -> None:
    """Export, or show what would be written.

    Raises:
        FatalError: the API does not know the study; no password.
        ExportError: as `connector.export.export_to_neo4j`.
    """
    logs.configure(settings.log)
    tune()
    reader = ImednetReader(settings.imednet, SystemClock())
    console = Console(highlight=False, soft_wrap=True)
    if dry_run:
        _show(reader, study, console)
        return
    neo4j = settings.neo4j
    config = Neo4jSinkConfig(idempotent=not create, database=neo4j.database)
    auth = (neo4j.username, _password(neo4j.password, password_file))
    with Neo4jExportSink(neo4j.uri, auth, study, config=config) as sink:
        count = StudyExport(reader, sink).run()
    reader.close()
    console.print(f"study {study}: {count:,} records exported")


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
    changes, refused = changes_of(record, page.rows, study, lambda _: page.server_ms)
    absent = {change.identity for change in changes}
    for statement in [*statements(changes, absent), *statements(changes)]:
        console.print(f"{statement.cypher}\n", markup=False)
    for statement in statements(changes):
        for row in statement.rows:
            console.print_json(orjson.dumps(row).decode())
    console.print(
        f"dry run: {page.total_elements:,} records in study {study}; nothing was written"
        + (f"; of the first {len(page.rows)}, {len(refused)} cannot be stored" if refused else "")
    )

"""``imednet-connector dlq``: list, show, redrive and drop dead letters."""

import json
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from datetime import UTC, datetime
from functools import partial
from threading import Event
from typing import Any

import structlog
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from connector import logs
from connector.cli.own_letters import is_of_own_sinks, is_own_letter
from connector.clock import SystemClock
from connector.config import Settings
from connector.errors import START_SWEEP, FatalError
from connector.kafka.dead_letter_topic import (
    message_in,
    publish_marks,
    read_letters,
)
from connector.kafka.topics import Topics
from connector.model.dates import moment_ms
from connector.model.letters import Action, Letter, LetterFilter, LetterId, Mark, Stage, state_of
from connector.model.reasons import REASONS
from connector.neo4j.database import Neo4jDatabase
from connector.neo4j.writer import Neo4jGraphWriter
from connector.ops.redrive import Redrive, Redriven, Refusals
from connector.outage import Outage, UntilDone
from connector.sink.applier import Applier
from connector.ui.durations import moment

log = structlog.stdlib.get_logger("connector.dlq")

_OTHERS = "another KAFKA_EVENTS_TOPIC or SINK_GROUP_ID: only with those settings"


def parse_time(text: str | None, option: str) -> int | None:
    """Parse an option's time (see `moment_ms`), if it is given.

    Raises:
        FatalError: it is not a time.
    """
    if text is None:
        return None
    found = moment_ms(text, datetime.now(UTC))
    if found is None:
        raise FatalError(
            f"{option}: {text} is not a time. Give ISO 8601 with a zone, such as"
            " 2026-01-31T08:00:00Z, or how long ago, such as 90s, 2h or 3d"
        )
    return found


def show_list(
    settings: Settings, wanted: LetterFilter, *, with_done: bool, limit: int, as_json: bool
) -> None:
    """Print the letters that wait, and how many have which reason.

    Raises:
        FatalError: a broker does not answer, or the topic is missing.
    """
    _connect(settings)
    shown: list[tuple[Letter, Mark | None]] = []
    by_reason: Counter[str] = Counter()
    for letter, mark in read_letters(settings.kafka):
        if not wanted.takes(letter) or (mark is not None and not with_done):
            continue
        by_reason[letter.reason] += 1
        if len(shown) < limit:
            shown.append((letter, mark))
    if as_json:
        rows = [_as_json(letter, mark) for letter, mark in shown]
        body = {"letters": rows, "by_reason": dict(by_reason), "total": by_reason.total()}
        typer.echo(json.dumps(body, indent=2))
    else:
        _print_list(shown, by_reason, is_filtered=not wanted.is_empty)


def show(settings: Settings, letter_id: str, *, show_data: bool) -> None:
    """Print one letter; its key, headers and value only with ``show_data``.

    Raises:
        FatalError: there is no such letter, or a broker does not answer.
    """
    wanted = LetterId.parse(letter_id)
    _connect(settings)
    for letter, mark in read_letters(settings.kafka):
        if letter.id == wanted:
            _print_letter(letter, mark, show_data=show_data)
            return
    raise _no_letter(settings, [wanted])


def redrive(settings: Settings, wanted: LetterFilter, *, dry_run: bool) -> None:
    """Apply the messages of waiting letters to the graph, and mark those letters.

    Raises:
        FatalError: a server does not answer, or access is denied.
        typer.Exit: with code 1 if letters are left that should have been applied.
    """
    _connect(settings)
    _require_letters(settings, wanted.ids)
    result, sink, clock = Redriven(), settings.sink, SystemClock()
    with Neo4jDatabase(settings.neo4j) as database:
        database.require_constraints()
        refusals = Refusals()
        applier = Applier(
            Neo4jGraphWriter(database, {"redrive": sink.group_id}),
            refusals,
            clock,
            transaction_events_max=sink.transaction_events_max,
            transaction_bytes_max=sink.batch_bytes_max,
            skips_probes=False,
        )
        until_done = UntilDone(
            Outage("redrive", clock, log), clock, sink.retry_wait_seconds_max, Event()
        )
        Redrive(
            applier,
            refusals,
            partial(message_in, settings=settings.kafka),
            partial(publish_marks, settings.kafka),
            until_done,
            partial(is_of_own_sinks, settings),
        ).run(_waiting(settings, wanted), result, dry_run=dry_run)
    _print_redriven(result, dry_run=dry_run)
    if result.refused or result.gone:
        raise typer.Exit(1)


def drop(settings: Settings, wanted: LetterFilter, why: str, *, dry_run: bool) -> None:
    """Mark waiting letters as dropped, with the reason; the letters stay in the topic.

    Raises:
        FatalError: a broker does not answer.
    """
    _connect(settings)
    _require_letters(settings, wanted.ids)
    found: list[LetterId] = []
    of_others = 0
    for letter in _waiting(settings, wanted):
        if is_own_letter(settings, letter):
            found.append(letter.id)
        else:
            of_others += 1
    if not dry_run:
        publish_marks(settings.kafka, [Mark(each, Action.DROPPED, why) for each in found])
    verb = "would be dropped" if dry_run else "dropped"
    typer.echo(f"{len(found):,} letters {verb}")
    if of_others:
        typer.echo(f"of other sinks: {of_others:,} ({_OTHERS})")


def _connect(settings: Settings) -> None:
    logs.configure(settings.log)
    Topics(settings.kafka).check()


def _require_letters(settings: Settings, ids: Collection[LetterId]) -> None:
    """Check that letters with these ids exist, waiting or not.

    Raises:
        FatalError: one does not.
    """
    if ids and (missing := set(ids) - {letter.id for letter, _ in read_letters(settings.kafka)}):
        raise _no_letter(settings, sorted(missing))


def _no_letter(settings: Settings, ids: Sequence[LetterId]) -> FatalError:
    return FatalError(
        f"There is no letter {', '.join(map(str, ids))} in {settings.kafka.dead_letter_topic}. To"
        " see all, run: imednet-connector dlq list"
    )


def _waiting(settings: Settings, wanted: LetterFilter) -> Iterator[Letter]:
    """Yield the letters that wait; at the end, name those that were asked for and do not."""
    missing = set(wanted.ids)
    for letter, mark in read_letters(settings.kafka):
        if mark is None and wanted.takes(letter):
            missing.discard(letter.id)
            yield letter
    if missing:
        typer.echo(f"not waiting: {', '.join(map(str, sorted(missing)))}", err=True)


def _as_json(letter: Letter, mark: Mark | None) -> dict[str, Any]:
    return {
        "letter": str(letter.id),
        "time": datetime.fromtimestamp(letter.time_ms / 1000, UTC).isoformat(),
        "state": state_of(mark),
        "stage": letter.stage,
        "written_by": letter.connector,
        "reason": letter.reason,
        "explanation": letter.explanation,
        "study": letter.study,
        "kind": letter.kind,
        "id": letter.entity_id,
        "origin": letter.origin._asdict() if letter.origin else None,
        "attempts": letter.attempts,
        "bytes": letter.value_bytes,
    }


def _print_list(
    shown: Sequence[tuple[Letter, Mark | None]], by_reason: Counter[str], *, is_filtered: bool
) -> None:
    console = Console(highlight=False, soft_wrap=True)
    if not by_reason:
        console.print("No letter matches" if is_filtered else "No dead letters wait")
        return
    table = Table(box=None, header_style="bold")
    for column in ("letter", "time (UTC)", "state", "reason", "study", "kind", "id", "origin"):
        table.add_column(column)
    for letter, mark in shown:
        origin = letter.origin
        place = f"{origin.topic}[{origin.partition}] {origin.offset}" if origin else "API"
        cells = (letter.id, moment(letter.time_ms), state_of(mark), letter.reason,
                 letter.study or "", letter.kind or "", letter.entity_id or "", place)  # fmt: skip
        table.add_row(*(Text(str(cell)) for cell in cells))
    console.print(table)
    if (hidden := by_reason.total() - len(shown)) > 0:
        console.print(f"... and {hidden:,} more. To see them, raise --limit")
    console.print()
    for reason, count in by_reason.most_common():
        console.print(f"{count:>7,} {reason}: {REASONS.get(reason, 'not known to this version')}")


def _print_letter(letter: Letter, mark: Mark | None, *, show_data: bool) -> None:
    fields = _as_json(letter, mark)
    if mark is not None:
        fields["marked"] = f"{moment(mark.time_ms)} {mark.why}".strip()
    fields["meaning"] = REASONS.get(letter.reason, "not known to this version")
    if show_data:
        fields["key"] = letter.key
        fields["headers"] = {name: value for name, value in letter.headers}  # noqa: C416 - repeats
        fields["value"] = letter.value
    for name, value in fields.items():
        if value is not None:
            text = value.decode(errors="backslashreplace") if isinstance(value, bytes) else value
            typer.echo(f"{name + ':':13} {text}")
    if letter.is_reference:
        typer.echo("The message was too large for the queue; the topic may still have it.")
    if letter.stage is Stage.SOURCE:
        typer.echo(
            "The source tries this row again in each full pass. If the row has become valid, drop"
            " the letter."
        )
    if not show_data:
        typer.echo("To see key, headers and value, add --show-data (they may be patient data).")


def _print_redriven(result: Redriven, *, dry_run: bool) -> None:
    applied = "to apply:" if dry_run else "applied: "
    typer.echo(f"{applied} {result.applied:,}")
    typer.echo(f"obsolete: {result.obsolete:,} (the graph has this state, or a newer one)")
    for reason, count in result.refused.most_common():
        text = REASONS.get(reason, "not known to this version")
        typer.echo(f"still refused: {count:,} {reason}: {text}")
    if result.gone:
        typer.echo(f"not found: {result.gone:,} (neither the queue nor the topic has the message)")
    if result.of_others:
        typer.echo(f"of other sinks: {result.of_others:,} ({_OTHERS})")
    if result.left_to_source:
        typer.echo(
            f"left to the source: {result.left_to_source:,} (it tries these rows again in each full"
            f" pass; to start one now, {START_SWEEP}. Drop the letters of rows that have become"
            " valid)"
        )

"""The commands of ``imednet-connector dlq`` and their options."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from connector.config import Settings
from connector.errors import FatalError

if TYPE_CHECKING:
    from connector.model.letters import LetterFilter

dlq = typer.Typer(
    help="List, show, redrive or drop dead letters.", no_args_is_help=True, add_completion=False
)

Config = Annotated[
    Path | None,
    typer.Option("--config", help="TOML file with settings; environment variables override it."),
]
Reason = Annotated[str | None, typer.Option(help="Only letters with this reason.")]
Study = Annotated[str | None, typer.Option(help="Only letters of this study.")]
Kind = Annotated[str | None, typer.Option(help="Only letters of this kind, such as record.")]
Since = Annotated[
    str | None, typer.Option(help="Only letters since: ISO 8601 with zone, or 90s, 2h, 3d ago.")
]
Until = Annotated[str | None, typer.Option(help="Only letters before: in the same forms.")]
Letters = Annotated[
    list[str] | None, typer.Argument(metavar="[PARTITION:OFFSET]...", help="Only these letters.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Change nothing.")]


@dlq.command("list")
def list_letters(
    reason: Reason = None,
    study: Study = None,
    kind: Kind = None,
    since: Since = None,
    until: Until = None,
    all_letters: Annotated[
        bool, typer.Option("--all", help="Also those that were redriven or dropped.")
    ] = False,
    limit: Annotated[int, typer.Option(min=0, help="Letters to list.")] = 50,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    config: Config = None,
) -> None:
    """List the dead letters that wait, without their content."""
    from connector.cli import dlq as command

    wanted = _filter(reason, study, kind, since, until)
    settings = Settings.load(config)
    command.show_list(settings, wanted, with_done=all_letters, limit=limit, as_json=json)


@dlq.command()
def show(
    letter: Annotated[str, typer.Argument(metavar="PARTITION:OFFSET", help="As listed.")],
    show_data: Annotated[
        bool, typer.Option("--show-data", help="Also print key, headers and value.")
    ] = False,
    config: Config = None,
) -> None:
    """Show one dead letter."""
    from connector.cli import dlq as command

    command.show(Settings.load(config), letter, show_data=show_data)


@dlq.command()
def redrive(
    letters: Letters = None,
    reason: Reason = None,
    study: Study = None,
    kind: Kind = None,
    since: Since = None,
    until: Until = None,
    dry_run: DryRun = False,
    config: Config = None,
) -> None:
    """Apply dead letters to the graph once their cause is fixed; never back in time."""
    from connector.cli import dlq as command

    wanted = _filter(reason, study, kind, since, until, letters or [])
    command.redrive(Settings.load(config), wanted, dry_run=dry_run)


@dlq.command()
def drop(
    why: Annotated[str, typer.Option(help="Why they can be dropped; kept in the queue.")],
    letters: Letters = None,
    reason: Reason = None,
    study: Study = None,
    kind: Kind = None,
    since: Since = None,
    until: Until = None,
    all_letters: Annotated[bool, typer.Option("--all", help="Drop all letters.")] = False,
    dry_run: DryRun = False,
    config: Config = None,
) -> None:
    """Mark dead letters as dropped. They stay in the topic and in `dlq list --all`."""
    from connector.cli import dlq as command

    wanted = _filter(reason, study, kind, since, until, letters or [])
    if wanted.is_empty and not all_letters:
        raise FatalError("Name letters, give a filter, or drop all with --all")
    if not why.strip():
        raise FatalError("--why is empty. Say why the letters can be dropped")
    command.drop(Settings.load(config), wanted, why, dry_run=dry_run)


def _filter(
    reason: str | None,
    study: str | None,
    kind: str | None,
    since: str | None,
    until: str | None,
    letters: list[str] | None = None,
) -> "LetterFilter":
    """Return the filter that the options stand for.

    Raises:
        FatalError: a kind is unknown, a time is not a time, or a letter is not one.
    """
    from connector.cli.dlq import parse_time
    from connector.model.entities import ENTITIES
    from connector.model.letters import LetterFilter, LetterId

    if kind is not None and kind not in ENTITIES:
        raise FatalError(f"Unknown kind {kind}. Use one of {', '.join(ENTITIES)}")
    return LetterFilter(
        reason=reason,
        study=study,
        kind=kind,
        since_ms=parse_time(since, "--since"),
        until_ms=parse_time(until, "--until"),
        ids=frozenset(LetterId.parse(each) for each in letters or ()),
    )

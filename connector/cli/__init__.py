"""The command line: reads the environment, wires objects together, sets exit codes.

Exit codes: 0 success; 1 failure, with the reason on stderr; 2 invalid usage, or a verification that
is inconclusive; 130 ended by a second signal.
"""

import io
import sys


def main() -> None:
    """Run the command and report a failure as one line on stderr, never as a traceback."""
    from connector.cli.app import app
    from connector.defects import describe, hide_content

    hide_content()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(
            errors="backslashreplace"
        )  # as stderr does: the locale may not encode a name
    try:
        app()
    except Exception as error:  # noqa: BLE001 - the last resort
        print(f"imednet-connector: {describe(error)}", file=sys.stderr)
        sys.exit(1)

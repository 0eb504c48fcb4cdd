"""The command line: reads the environment, wires objects, sets exit codes.

Exit codes: 0 done, 1 stopped with a reason on stderr, 2 wrong usage or settings, 130 ended by a
second signal.
"""

import io
import sys


def main() -> None:
    """Run the command; a failure is one clear line on stderr, never a traceback."""
    from connector.cli.app import app
    from connector.cli.defects import described, hide_content

    hide_content()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(
            errors="backslashreplace"
        )  # as stderr: a name may not fit the locale
    try:
        app()
    except Exception as error:  # noqa: BLE001 - the last door
        print(f"imednet-connector: {described(error)}", file=sys.stderr)
        sys.exit(1)

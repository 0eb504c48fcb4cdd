"""The command line: reads the environment, wires objects, sets exit codes.

Exit codes: 0 done, 1 stopped with a reason on stderr, 2 wrong usage or settings, 130 ended by a
second signal.
"""

import sys

from connector.errors import ConnectorError


def main() -> None:
    """Run the command; a known failure is one clear line on stderr, never a traceback."""
    from connector.cli.app import app

    try:
        app()
    except ConnectorError as error:
        print(f"imednet-connector: {error}", file=sys.stderr)
        sys.exit(1)

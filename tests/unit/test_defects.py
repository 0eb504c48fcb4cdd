"""A defect in a command, run as a separate program whose command is replaced by a failing one."""

import subprocess
import sys

import pytest

PROGRAM = """
import sys, threading
import connector.cli.{command} as command
from connector.neo4j.probes import probe
def fail(*_, **__):
    thread = threading.Thread(target=probe, args=("canary-thread",))
    thread.start()
    thread.join()
    probe("canary-record")
command.run = fail
sys.argv = ["imednet-connector", "{command}", *{options}]
from connector.cli import main
main()
"""


@pytest.mark.parametrize(
    ("command", "options"),
    [
        ("sink", []),
        ("source", []),
        ("setup", []),
        ("export", ["S1"]),
        ("replay", ["--from", "beginning"]),
    ],
)
def test_a_defect_says_its_type_and_place_and_no_content_whatever_the_command(
    command: str, options: list[str]
) -> None:
    """A defect in any command prints its type and location, and no content."""
    code = PROGRAM.format(command=command, options=options)
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 1, done.stderr
    assert "canary" not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    lines = done.stderr.splitlines()
    assert len(lines) == 2, done.stderr
    for line in lines:
        assert line.startswith("imednet-connector: internal error: KeyError at ")
        assert "connector.neo4j.probes:" in line

"""The documents agree with the program."""

import json
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import jsonschema
import orjson

from connector.cli.app import app
from connector.cli.dlq_commands import dlq
from connector.model.serde import encode
from tests.builders import delete, record_row, upsert

SCHEMA = Path("schemas/record_event.v1.json")
# The promise to readers of version 1, independent of the generator: never edited, only extended.
REQUIRED_IN_V1 = {
    "entity": "string", "op": ["delete", "upsert"], "origin": ["poll", "snapshot", "sweep"],
    "studyKey": "string", "id": ["integer", "string"], "version": "integer",
    "contentHash": ["null", "string"], "observedAt": "string", "data": ["null", "object"],
}  # fmt: skip


def test_generated_files_are_up_to_date() -> None:
    """The generated files are up to date."""
    done = subprocess.run(
        [sys.executable, "docs/generate.py", "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_the_schema_accepts_what_is_published() -> None:
    """The schema accepts the events that are published."""
    schema = json.loads(SCHEMA.read_text())
    for event in (upsert(record_row()), delete(1, 2)):
        jsonschema.validate(orjson.loads(encode(event)[1]), schema)


def test_the_schema_keeps_the_promise_of_version_1() -> None:
    """The schema still requires every field of version 1, with its type."""
    schema = json.loads(SCHEMA.read_text())
    assert schema.get("additionalProperties", True) is True
    assert set(REQUIRED_IN_V1) <= set(schema["required"])
    for name, kinds in REQUIRED_IN_V1.items():
        field = schema["properties"][name]
        field = schema["$defs"][field["$ref"].rpartition("/")[2]] if "$ref" in field else field
        found = field.get("enum") or [each["type"] for each in field.get("anyOf", [field])]
        assert sorted(found) == sorted([kinds] if isinstance(kinds, str) else kinds), name


def test_every_test_that_the_architecture_names_exists() -> None:
    """Every test that ARCHITECTURE.md names exists."""
    named = set(re.findall(r"`(test_\w+)`", Path("ARCHITECTURE.md").read_text()))
    assert named
    defined = "\n".join(path.read_text() for path in Path("tests").rglob("test_*.py"))
    assert {name for name in named if f"def {name}(" not in defined} == set()


def test_every_function_on_the_paths_that_the_architecture_draws_exists() -> None:
    """Every function that ARCHITECTURE.md names exists."""
    named = re.findall(r"`(connector(?:\.\w+)+)`", Path("ARCHITECTURE.md").read_text())
    assert len(named) > 12
    assert [name for name in named if not pkgutil.resolve_name(name)] == []


def test_every_command_and_target_that_the_documents_name_exists() -> None:
    """Every command and make target that the documents name exists."""
    commands = {
        command.name or getattr(command.callback, "__name__", "")
        for command in app.registered_commands
    } | {group.name for group in app.registered_groups}
    of_queue = {
        each.name or getattr(each.callback, "__name__", "") for each in dlq.registered_commands
    }
    targets = set(re.findall(r"^(\w+):", Path("Makefile").read_text(), re.MULTILINE))
    for document in ("README.md", "CONTRIBUTING.md", "ARCHITECTURE.md"):
        text = Path(document).read_text()
        assert set(re.findall(r"imednet-connector (\w+)(?= |$|`)", text, re.MULTILINE)) <= commands
        assert set(re.findall(r"\bdlq (\w+)", text)) <= of_queue
        assert set(re.findall(r"^make (\w+)", text, re.MULTILINE)) <= targets


def test_no_address_of_a_package_registry_is_committed() -> None:
    """The constraints contain no address of a package registry."""
    assert "://" not in Path("constraints.txt").read_text()
    assert "@" not in Path("constraints.txt").read_text()

"""Writes what can be generated: event schema, configuration table, graph model, file map.

``--check`` writes nothing and fails when a file is out of date.
"""

import ast
import json
import sys
from pathlib import Path

from pydantic import SecretStr, TypeAdapter
from pydantic.fields import FieldInfo

from connector.config import environment_name, sections
from connector.model.entities import ENTITIES, Entity, snake_case
from connector.model.events import RecordEvent
from connector.neo4j.schema import schema

ROOT = Path(__file__).resolve().parent.parent


def event_schema() -> str:
    """The JSON Schema of the event contract."""
    made = TypeAdapter(RecordEvent).json_schema(by_alias=True)
    head = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "urn:imednet-connector:record-event:v1",
    }
    return json.dumps(head | made, indent=2) + "\n"


def configuration() -> str:
    """All settings, a table for each section."""
    lines = [
        "# Settings",
        "",
        "Made from `connector/config/` by `make docs`.",
        "",
        "A setting is a variable of the environment, or stands in a TOML file (`--config FILE`):",
        "`KAFKA_EVENTS_TOPIC` is `events_topic` in `[kafka]`. The environment goes first. A name",
        "that no setting has is refused in a file.",
    ]
    for section in sections():
        lines += ["", f"## `[{section.name}]`", "", f"{section.__doc__}", ""]
        lines += ["| variable | default | meaning |", "|---|---|---|"]
        lines += [
            f"| `{environment_name(section, name)}` | {_default(field)} | {field.description} |"
            for name, field in section.model_fields.items()
        ]
    return "\n".join([*lines, ""])


def _default(field: FieldInfo) -> str:
    if SecretStr in getattr(field.annotation, "__args__", ()):
        return "(secret)"
    value = field.default
    if value is None or value == ():
        return ""
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


def graph_model() -> str:
    """The graph model: diagram, entities, statements."""
    lines = [
        "# The graph model",
        "",
        "Made from `connector/model/entities.py` by `make docs`.",
        "",
        "```mermaid",
        "graph LR",
    ]
    for entity in ENTITIES.values():
        for reference in entity.references:
            for target in reference.targets:
                other = ENTITIES[target.entity].label
                ends = (entity.label, other) if reference.outgoing else (other, entity.label)
                lines.append(f"  {ends[0]} -- {reference.relationship} --> {ends[1]}")
    lines += ["```", ""]
    for entity in ENTITIES.values():
        lines += _entity(entity)
    lines += [
        "## Rules",
        "",
        "- A reference goes to the first of its targets that the row gives; null and 0 give none.",
        "- A relationship belongs to the entity whose field it comes from, and moves with it.",
        "- A node without `_version` is a stub: something refers to it that has not arrived.",
        "- Properties are the API's fields in snake_case. A record's variables are properties",
        "  under their own names; with the prefix `var_` where the name is a field's, or begins",
        "  with `_`, `x_` or `var_`.",
        "- Null is no property. Objects, mixed and nested lists are JSON text.",
        "- Properties are replaced by a newer version. `x_` properties are yours and stay.",
        "- `_version` orders an entity's states, `_hash` names its content. `_redirected` marks a",
        "  record that an export attached to its subject, since its visit is another subject's.",
        "- A row that vanished from the API keeps its key, `_version`, `deleted: true` and the",
        "  label `Deleted`. The API's own `deleted` flag is data.",
        "",
        "## Constraints and indexes",
        "",
        "`imednet-connector setup` makes them; a sink does not start without the constraints.",
        "",
        "```cypher",
        *(f"{item.cypher};" for item in schema()),
        "```",
        "",
    ]
    return "\n".join(lines)


def _entity(entity: Entity) -> list[str]:
    fields = ", ".join(f"`{snake_case(name)}`" for name in entity.fields if name != "recordData")
    keys = ", ".join(f"`{name}`" for name in entity.key_properties)
    variables = ", and the form's variables" if "recordData" in entity.fields else ""
    return [
        f"## {entity.label}",
        "",
        f"Key: {keys}. Read as {entity.reading.value}. Properties: {fields}{variables}.",
        "",
    ]


def file_map() -> str:
    """Each module with the first line of its docstring."""
    rows = []
    for path in sorted((ROOT / "connector").rglob("*.py")):
        summary = (ast.get_docstring(ast.parse(path.read_text())) or "").partition("\n")[0]
        if summary:
            rows.append(f"| `{path.relative_to(ROOT)}` | {summary} |")
    return "\n".join(["| file | what it is |", "|---|---|", *rows])


def between(path: Path, name: str, content: str) -> str:
    """The file's text with the part between its markers replaced."""
    begin, end = f"<!-- {name}: begin, made by `make docs` -->", f"<!-- {name}: end -->"
    head, _, rest = path.read_text().partition(begin)
    _, _, tail = rest.partition(end)
    return f"{head}{begin}\n{content}\n{end}{tail}"


def main(arguments: list[str]) -> int:
    """Write, or only compare."""
    files = {
        ROOT / "schemas" / "record_event.v1.json": event_schema(),
        ROOT / "docs" / "graph-model.md": graph_model(),
        ROOT / "docs" / "configuration.md": configuration(),
        ROOT / "ARCHITECTURE.md": between(ROOT / "ARCHITECTURE.md", "file map", file_map()),
    }
    stale = [path for path, text in files.items() if not path.exists() or path.read_text() != text]
    for path in stale:
        if "--check" in arguments:
            print(f"{path.relative_to(ROOT)} is out of date: run `make docs`", file=sys.stderr)
        else:
            path.write_text(files[path])
            print(f"wrote {path.relative_to(ROOT)}")
    return 1 if stale and "--check" in arguments else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

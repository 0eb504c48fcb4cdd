"""Generates the event schema, settings, metrics, graph model, cookbook and file map from the code.

``--check`` writes nothing and exits with code 1 if a file is out of date.
"""

import ast
import json
import sys
from pathlib import Path

from pydantic import SecretStr, TypeAdapter
from pydantic.fields import FieldInfo

from connector.config import environment_name, sections
from connector.cookbook.recipes import recipes
from connector.model.entities import ENTITIES
from connector.model.entity import Entity, Reading, snake_case
from connector.model.events import RecordEvent
from connector.model.reasons import REASONS
from connector.neo4j.schema import schema
from connector.telemetry import metrics

ROOT = Path(__file__).resolve().parent.parent
READING_TEXTS = {
    Reading.WINDOWED: "Polled for rows that changed since the last poll",
    Reading.APPENDED: "Polled for rows with a higher id, because rows never change",
    Reading.LISTED: "Polled as a full list, which the source compares with the known states",
    Reading.EMBEDDED: "Has no endpoint: other kinds' rows refer to it",
}


def event_schema() -> str:
    """Return the JSON Schema of the event contract."""
    generated = TypeAdapter(RecordEvent).json_schema(by_alias=True)
    head = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "urn:imednet-connector:record-event:v1",
    }
    return json.dumps(head | generated, indent=2) + "\n"


def configuration() -> str:
    """Return the settings as one table per section."""
    lines = [
        "# Settings",
        "",
        "Generated from `connector/config/` by `make docs`.",
        "",
        "Set each one as an environment variable, or in a TOML file passed with `--config",
        "FILE`: `KAFKA_EVENTS_TOPIC` is `events_topic` in section `[kafka]`. Environment",
        "variables override the file. An unknown name in the file is an error.",
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
    """Return the graph model: diagram, entities, rules, constraints and indexes."""
    lines = [
        "# The graph model",
        "",
        "Generated from `connector/model/entities.py` by `make docs`.",
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
        for each in entity.reference_lists:
            other = ENTITIES[each.target].label
            lines.append(f"  {entity.label} -- {each.relationship} --> {other}")
        lines += [
            f"  {entity.label} -- {each.relationship} --> {each.label}" for each in entity.parts
        ]
    lines += ["```", ""]
    for entity in ENTITIES.values():
        lines += _entity(entity)
    lines += [
        "## Rules",
        "",
        "- Where the diagram shows several targets for one relationship, it goes to the first",
        "  one that the row refers to: a record is attached to its visit, else its subject,",
        "  else its site, else its study. Null, 0, blank text, `[]` and `{}` refer to nothing.",
        "- A relationship belongs to the entity that has the reference field, and changes with",
        "  that field.",
        "- A list field that refers to several entities (`keywords`, `forms`, `roles`) makes one",
        "  relationship for each of its elements, with the element's other fields as properties.",
        "- Comments of a query are nodes that belong to it: its next event replaces them all.",
        "  Their `position` counts from 1.",
        "- References use ids. What the API names by `formKey`, login or variable name is a",
        "  property; a variable's name may differ in case between kinds.",
        "- A node without `_version` is a stub: a placeholder for an entity that others refer",
        "  to and whose own event has not been applied.",
        "- Properties are the API's fields in snake_case. A record's variables are properties",
        "  under their own names, with the prefix `var_` if the name is that of a field or",
        "  starts with `_`, `x_` or `var_`.",
        "- A variable's text is stored as a number, boolean, date or datetime if the study's",
        "  definition of the variable says so and the text stands for exactly one such value",
        "  (`12.50` is 12.5). Any other text stays text: `2024-UN-UN`, `<5`, `007`. So a",
        "  variable may have values of several types. Codes of radio buttons and lists are text.",
        "- Null values are not stored. Objects, nested lists and lists of mixed types are",
        "  stored as JSON text.",
        "- A newer version replaces all properties except those that start with `x_`, which are",
        "  reserved for your own use.",
        "- `_version` orders an entity's states; `_hash` is the hash of its content; `_links` is",
        "  the relationships that it owns; `_model` is the revision of this model that wrote it.",
        "- The node of a row that vanished from the API keeps only its key, `_version` and",
        "  `deleted: true`, and gets the label `Deleted`. The API's own `deleted` flag is",
        "  ordinary data.",
        "",
        "## Constraints and indexes",
        "",
        "`imednet-connector setup` creates them. A sink does not start without the constraints.",
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
    variables = ", and the variables of the form" if "recordData" in entity.fields else ""
    return [
        f"## {entity.label}",
        "",
        f"Key: {keys}. {READING_TEXTS[entity.reading]}. Properties: {fields}{variables}.",
        "",
    ]


def cookbook() -> str:
    """Return the questions and rules with their sentences."""
    lines = [
        "# Cookbook",
        "",
        "Generated from `connector/cookbook/` by `make docs`. Each name is a Cypher file there, to",
        "run as it is, or to start your own from:",
        "",
        "```",
        "imednet-connector query NAME --study MYSTUDY     # --csv and --json for other programs",
        "imednet-connector query --rules --study MYSTUDY  # exits with code 1 if a rule is broken",
        "```",
    ]
    for title, is_rule in (("Questions", False), ("Rules", True)):
        lines += ["", f"## {title}", "", "| name | |", "|---|---|"]
        lines += [
            f"| `{each.name}` | {each.sentence} |"
            for each in recipes().values()
            if each.is_rule is is_rule
        ]
    return "\n".join([*lines, ""])


def file_map() -> str:
    """Return a table of all modules with the first line of their docstrings."""
    rows = []
    for path in sorted((ROOT / "connector").rglob("*.py")):
        summary = (ast.get_docstring(ast.parse(path.read_text())) or "").partition("\n")[0]
        if summary:
            rows.append(f"| `{path.relative_to(ROOT)}` | {summary} |")
    return "\n".join(["| file | contents |", "|---|---|", *rows])


def between(path: Path, name: str, content: str) -> str:
    """Return the file's text with ``content`` between the markers of ``name``."""
    begin, end = f"<!-- {name}: begin, generated by `make docs` -->", f"<!-- {name}: end -->"
    head, _, rest = path.read_text().partition(begin)
    _, _, tail = rest.partition(end)
    return f"{head}{begin}\n{content}\n{end}{tail}"


def metric_list() -> str:
    """Return all metrics, and the reasons of dead letters."""
    lines = ["# Metrics", "", "Generated from `connector/telemetry/metrics.py` by `make docs`.", ""]
    lines += [
        "Each program serves its own at `/metrics` (`TELEMETRY_HOST`, `TELEMETRY_SOURCE_PORT`,",
        "`TELEMETRY_SINK_PORT`), with those of its process. Every series exists from the start;",
        "those of a partition exist while the sink has it. No label holds record content.",
    ]
    parts = {"All programs": metrics.COMMON, "Source": metrics.SOURCE, "Sink": metrics.SINK}
    for title, found in parts.items():
        lines += [
            "",
            f"## {title}",
            "",
            "| metric | type | labels | meaning |",
            "|---|---|---|---|",
        ]
        lines += [
            f"| `{each.name}` | {each.kind} | {', '.join(each.labels)} | {each.help} |"
            for each in found
        ]
    lines += ["", "## Reasons of dead letters", "", "| reason | meaning |", "|---|---|"]
    lines += [f"| `{reason}` | {meaning} |" for reason, meaning in REASONS.items()]
    return "\n".join([*lines, ""])


def main(arguments: list[str]) -> int:
    """Write the files that have changed, or with ``--check`` only report them."""
    files = {
        ROOT / "schemas" / "record_event.v1.json": event_schema(),
        ROOT / "docs" / "graph-model.md": graph_model(),
        ROOT / "docs" / "configuration.md": configuration(),
        ROOT / "docs" / "cookbook.md": cookbook(),
        ROOT / "docs" / "metrics.md": metric_list(),
        ROOT / "ARCHITECTURE.md": between(ROOT / "ARCHITECTURE.md", "file map", file_map()),
    }
    stale = [path for path, text in files.items() if not path.exists() or path.read_text() != text]
    for path in stale:
        if "--check" in arguments:
            print(f"{path.relative_to(ROOT)} is out of date. Run `make docs`", file=sys.stderr)
        else:
            path.write_text(files[path])
            print(f"wrote {path.relative_to(ROOT)}")
    return 1 if stale and "--check" in arguments else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

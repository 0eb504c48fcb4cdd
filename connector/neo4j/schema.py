"""The graph's constraints and indexes: required, missing and blocked ones. Pure.

Items are matched by definition, not by name: a user's own constraint on the same label and
properties serves as well.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from connector.errors import FatalError
from connector.model.entities import ENTITIES, NODE_KEYS
from connector.neo4j import checkpoints

EXPORT_POSITION_LABEL = "_ImednetExport"
STUDY_LABELS = "|".join([*NODE_KEYS, EXPORT_POSITION_LABEL])
"""A label expression for all nodes of a study."""
DUPLICATES_SHOWN_MAX = 5
_STUDIES_NAMED_MAX = 20
_TEXT_SHOWN_MAX = 80
_UNIQUE = {"UNIQUENESS", "NODE_PROPERTY_UNIQUENESS", "NODE_KEY"}
_PLAIN_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

SHOW_CONSTRAINTS = (
    "SHOW CONSTRAINTS YIELD name, type, entityType, labelsOrTypes, properties"
    " RETURN name, type, entityType, labelsOrTypes, properties"
)
SHOW_INDEXES = (
    "SHOW INDEXES YIELD name, type, entityType, labelsOrTypes, properties, state,"
    " owningConstraint"
    " RETURN name, type, entityType, labelsOrTypes, properties, state, owningConstraint"
)


@dataclass(frozen=True, slots=True)
class SchemaItem:
    """A uniqueness constraint or an index. Without the constraints, sinks write duplicates."""

    name: str
    label: str
    properties: tuple[str, ...]
    is_constraint: bool

    @property
    def cypher(self) -> str:
        """The statement that creates the item if it is missing."""
        names = ", ".join(f"n.{name}" for name in self.properties)
        if self.is_constraint:
            return (
                f"CREATE CONSTRAINT {self.name} IF NOT EXISTS FOR (n:{self.label})"
                f" REQUIRE ({names}) IS UNIQUE"
            )
        return f"CREATE INDEX {self.name} IF NOT EXISTS FOR (n:{self.label}) ON ({names})"

    @property
    def duplicates_cypher(self) -> str:
        """The query that lists keys with more than one node, most nodes first."""
        keys = ", ".join(f"n.{name} AS {name}" for name in self.properties)
        names = ", ".join(self.properties)
        present = " AND ".join(f"n.{name} IS NOT NULL" for name in self.properties)
        return (
            f"MATCH (n:{self.label}) WHERE {present} WITH {keys}, count(*) AS nodes"
            f" WHERE nodes > 1 RETURN {names}, nodes ORDER BY nodes DESC, {names}"
        )


def schema() -> list[SchemaItem]:
    """All constraints and indexes, derived from the table of entities."""
    items = []
    for entity in ENTITIES.values():
        key = f"imednet_{entity.name}_key"
        items.append(SchemaItem(key, entity.label, entity.key_properties, is_constraint=True))
        for name in entity.indexed:
            index = f"imednet_{entity.name}_{name}"
            items.append(SchemaItem(index, entity.label, ("study_key", name), is_constraint=False))
    properties = (checkpoints.KEY_PROPERTY,)
    items.append(
        SchemaItem("imednet_checkpoint_key", checkpoints.LABEL, properties, is_constraint=True)
    )
    return items


class Existing(NamedTuple):
    """A constraint or index in the database: a row of one of the two SHOW statements."""

    name: str
    type: str
    entity_type: str
    labels: list[str] | None
    properties: list[str] | None
    state: str = ""
    owning_constraint: str | None = None
    """For an index: the constraint that it belongs to."""

    @property
    def is_constraint(self) -> bool:
        """Whether this is a constraint: only indexes have a state."""
        return not self.state

    @property
    def drop(self) -> str:
        """The statement that drops it; an index of a constraint is dropped with the constraint."""
        if self.is_constraint:
            return f"DROP CONSTRAINT {_quoted(self.name)};"
        if self.owning_constraint is not None:
            return f"DROP CONSTRAINT {_quoted(self.owning_constraint)};"
        return f"DROP INDEX {_quoted(self.name)};"

    def __str__(self) -> str:
        """Its type, name, label and properties."""
        kind = "constraint" if self.is_constraint else "index"
        on = ":".join(self.labels or ["everything"])
        return f"{kind} {self.name} on {on} ({', '.join(self.properties or ())})"

    def is_on(self, item: SchemaItem) -> bool:
        """Whether it covers the same label and the same properties in the same order."""
        return (
            self.entity_type == "NODE"
            and self.labels == [item.label]
            and self.properties == list(item.properties)
        )

    def serves(self, item: SchemaItem) -> bool:
        """Whether it can stand in for ``item``."""
        if not self.is_on(item):
            return False
        if item.is_constraint:
            return self.is_constraint and self.type in _UNIQUE
        return not self.is_constraint and self.type == "RANGE" and self.state == "ONLINE"


def missing(items: Sequence[SchemaItem], existing: Sequence[Existing]) -> list[SchemaItem]:
    """The ``items`` that nothing in the database can stand in for."""
    return [item for item in items if not any(each.serves(item) for each in existing)]


class Duplicates(NamedTuple):
    """Keys with more than one node: the first few rows, all their studies, the number of keys."""

    rows: Sequence[Sequence[Any]] = ()
    studies: Sequence[Any] = ()
    keys: int = 0


@dataclass(frozen=True, slots=True)
class Obstacle:
    """Why an item cannot be created, and the remedy: Cypher statements, then commands."""

    cause: str
    remedy: tuple[str, ...]

    def __str__(self) -> str:
        """The cause, then one step per line."""
        return "\n    ".join((f"  {self.cause}", *self.remedy))


def obstacles(
    item: SchemaItem, existing: Sequence[Existing], duplicates: Duplicates, refusal: str | None
) -> list[Obstacle]:
    """Everything that prevents a missing item from being created.

    ``refusal`` is the server's error code, reported only if none of the known causes applies.
    """
    found = [
        *_taken_name(item, existing),
        *_blocking_indexes(item, existing),
        *([_duplicate_keys(item, duplicates)] if duplicates.keys else []),
    ]
    if not found and refusal:
        return [Obstacle(f"Neo4j rejected it: {refusal}. To see why, run:", (f"{item.cypher};",))]
    return found


def _taken_name(item: SchemaItem, existing: Sequence[Existing]) -> list[Obstacle]:
    taken = next((each for each in existing if each.name == item.name), None)
    if taken is None or taken.is_on(item):  # else _blocking_indexes reports it
        return []
    cause = (
        f"its name is taken by the {taken}. Drop that (to keep it, recreate it under another"
        " name), then run setup again:"
    )
    return [Obstacle(cause, (taken.drop, "imednet-connector setup"))]


def _blocking_indexes(item: SchemaItem, existing: Sequence[Existing]) -> list[Obstacle]:
    return [
        _index_obstacle(index, item)
        for index in existing
        if not index.is_constraint
        and index.owning_constraint is None
        and index.type == "RANGE"
        and index.is_on(item)
    ]


def _index_obstacle(index: Existing, item: SchemaItem) -> Obstacle:
    if index.state == "POPULATING" and not item.is_constraint:
        cause = f"the {index} is still being populated. Run setup again later:"
        return Obstacle(cause, ("imednet-connector setup",))
    is_online = index.state == "ONLINE"
    # Not the failure message itself: it may quote property values.
    state = "" if is_online else f", which is {index.state} (see failureMessage of SHOW INDEXES)"
    cause = f"it is blocked by the {index}{state}. Drop that, then run setup again:"
    return Obstacle(cause, (index.drop, "imednet-connector setup"))


def _duplicate_keys(item: SchemaItem, duplicates: Duplicates) -> Obstacle:
    shown = "; ".join(
        ", ".join(
            f"{name} {_shortened(value)}" for name, value in zip(item.properties, row, strict=False)
        )
        + f": {row[-1]} nodes"
        for row in duplicates.rows
    )
    studies = ", ".join(_literal(key) for key in duplicates.studies[:_STUDIES_NAMED_MAX])
    more = len(duplicates.studies) - _STUDIES_NAMED_MAX
    cause = (
        f"keys with more than one node: {duplicates.keys:,} ({shown}). List all of them with the"
        " query below. Then stop the sinks, delete the nodes of these studies, run setup again, and"
        " replay the studies from the topic (or export them again, if exports wrote them)"
        + (f"; then do the same for {more:,} more studies" if more > 0 else "")
        + ":"
    )
    # Deleting the duplicates alone is not enough: some of their relationships belong to the node at
    # the other end, which a replay leaves unchanged while its version is current.
    delete = (
        f"MATCH (n:{STUDY_LABELS}) WHERE n.study_key IN [{studies}]"
        " CALL (n) { DETACH DELETE n } IN TRANSACTIONS OF 10000 ROWS;"
    )
    commands = ("imednet-connector setup", "imednet-connector replay --from beginning")
    return Obstacle(cause, (f"{item.duplicates_cypher};", delete, *commands))


def describe_missing(item: SchemaItem, found: Sequence[Obstacle]) -> str:
    """Describe a missing item and its obstacles in lines of text."""
    return "\n".join((f"missing: {item.cypher}", *map(str, found)))


class SchemaError(FatalError):
    """Some items could not be created; all others were."""

    def __init__(self, items: dict[SchemaItem, list[Obstacle]]) -> None:
        super().__init__("\n".join(describe_missing(item, found) for item, found in items.items()))
        self.items = items


def _quoted(name: str) -> str:
    return name if _PLAIN_NAME.fullmatch(name) else "`" + name.replace("`", "``") + "`"


def _shortened(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _TEXT_SHOWN_MAX else f"{text[:_TEXT_SHOWN_MAX]}..."


def _literal(value: Any) -> str:
    """The Cypher literal for a key value."""
    if not isinstance(value, str):
        return repr(value)
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"

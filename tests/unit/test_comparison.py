"""Comparing a found node with its wanted state, without a database."""

from datetime import date
from typing import Any

import pytest

from connector.model.comparison import FoundLink, FoundNode, Problem, compare_node, is_written
from connector.model.entities import ENTITIES
from connector.model.events import Identity
from connector.model.graph import NodeChange, node_change
from tests.builders import delete, record_row, upsert

STUDY = "S1"


def found(change: NodeChange, **changed: Any) -> FoundNode:
    """The node as the sink writes it."""
    links = [
        [FoundLink(link.target.entity, link.target.study_key, link.target.id, {})]
        if link.target
        else []
        for link in change.links
    ]
    links += [[] for _ in ENTITIES["record"].reference_lists]
    properties = {name: value for name, value in change.properties.items() if value is not None}
    given: dict[str, Any] = {
        "is_deleted": change.is_delete,
        "properties": properties,
        "links": links,
    }
    return FoundNode(change.identity, **(given | changed))


def problems(wanted: NodeChange | None, node: FoundNode, **options: bool) -> list[Problem]:
    return [each.problem for each in compare_node(wanted, node, **options)]


def record(version: int = 5, **variables: Any) -> NodeChange:
    row = record_row(1, studyKey=STUDY, recordData={"AGE": "7", **variables})
    return node_change(upsert(row, version))


def test_a_node_as_the_sink_writes_it_has_no_problem() -> None:
    """A live or deleted node as written by the sink has no problem."""
    assert not problems(record(), found(record()))
    gone = node_change(delete(1, 9, study_key=STUDY))
    assert not problems(gone, found(gone))
    assert not problems(None, found(gone))


@pytest.mark.parametrize(
    ("value", "is_same"), [("7", True), (7, False), (7.0, False), (None, False), (["7"], False)]
)
def test_values_are_equal_only_with_their_type(value: object, *, is_same: bool) -> None:
    """A property's value must have the right type, too."""
    node = found(record())
    properties = {**node.properties, "AGE": value}
    node = found(record(), properties={k: v for k, v in properties.items() if v is not None})
    (*differences,) = compare_node(record(), node)
    assert [each.names for each in differences] == ([] if is_same else [("AGE",)])


def test_versions_decide_before_content() -> None:
    """An older node is stale, whatever it contains; a newer one counts if its content differs.

    An export that wrote the topic's content with a higher version has changed nothing.
    """
    assert problems(record(4), found(record(5))) == []
    assert problems(record(9, AGE="8"), found(record(5))) == [Problem.STALE]
    assert problems(record(4, AGE="8"), found(record(5))) == [Problem.NEWER]
    assert problems(record(9), found(record(5)), compare_versions=False) == []
    assert problems(record(9, AGE="8"), found(record(5)), compare_versions=False) == [
        Problem.DIFFERENT
    ]


def test_a_stub_is_no_entity_and_no_extra() -> None:
    """A node with only its key is a stub; with anything else it should not exist."""
    key = {"study_key": STUDY, "record_id": 1}
    empty: list[list[FoundLink]] = [[] for _ in found(record()).links]
    stub = FoundNode(Identity(STUDY, "record", 1), False, key, empty)
    assert problems(None, stub) == []
    assert problems(record(), stub) == [Problem.MISSING]
    for more in ({"form_key": "A"}, {"_version": 5}):
        node = FoundNode(Identity(STUDY, "record", 1), False, key | more, empty)
        assert problems(None, node) == [Problem.EXTRA]
    linked = [[FoundLink("visit", STUDY, 3, {})], *empty[1:]]
    node = FoundNode(Identity(STUDY, "record", 1), False, key, linked)
    assert problems(None, node) == [Problem.EXTRA]


@pytest.mark.parametrize(
    "links",
    [
        [],
        [FoundLink("visit", STUDY, 4, {})],
        [FoundLink("visit", "S2", 3, {})],
        [FoundLink("subject", STUDY, 3, {})],
        [FoundLink("", None, None, {})],
        [FoundLink("visit", STUDY, 3, {})] * 2,
        [FoundLink("visit", STUDY, 3, {"since": date(2024, 1, 1)})],
    ],
)
def test_an_entity_has_just_the_links_of_its_event(links: list[FoundLink]) -> None:
    """A missing, second or other link, or one with other properties, is wrong."""
    row = record_row(1, studyKey=STUDY, visitId=3)
    change = node_change(upsert(row, 5))
    right = found(change)
    assert right.links[0] == [FoundLink("visit", STUDY, 3, {})]
    (difference,) = compare_node(change, found(change, links=[links, *right.links[1:]]))
    assert difference.problem is Problem.WRONGLY_LINKED
    assert difference.names == ("HAS_RECORD",)


def test_the_hash_covers_all_that_the_connector_wrote() -> None:
    """The hash changes with content, links and versions, not with what users add."""
    node = found(record())
    assert node.hash() == found(record()).hash()
    assert [is_written(each) for each in ("AGE", "_version", "_links", "x_note", "_own")] == [
        True, True, True, False, False,
    ]  # fmt: skip
    others = [
        found(record(6)),
        found(record(AGE="8")),
        found(record(), is_deleted=True),
        found(record(), links=[[FoundLink("visit", STUDY, 99, {})], *node.links[1:]]),
        found(record(), properties={**node.properties, "AGE": 7}),
    ]
    assert len({each.hash() for each in (node, *others)}) == 6


def test_properties_of_a_link_have_no_order() -> None:
    """The database returns a relationship's properties in any order: it is the same link."""
    one, other = {"level": 1, "since": "2024"}, {"since": "2024", "level": 1}
    hashes = {
        found(
            record(), links=[[FoundLink("visit", STUDY, 3, each)], *found(record()).links[1:]]
        ).hash()
        for each in (one, other)
    }
    assert len(hashes) == 1

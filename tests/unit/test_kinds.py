"""Every kind with every kind of bad key and reference: an event, a dead letter, never a node without key."""

from typing import Any

import pytest

from connector.errors import InvalidEventError
from connector.interfaces import Page, PageRequest, TopicPartition, UnreadableRow
from connector.model.entities import ENTITIES, NODE_KEYS, READ_KINDS
from connector.model.entity import Entity, Reading
from connector.model.events import Identity, Origin, RecordEvent, id_of
from connector.model.graph import node_change
from connector.model.serde import decode_event, encode
from connector.source.changes import PageContext, detect
from connector.source.personal_data import WithoutPersonalData
from tests.builders import message, upsert

STUDY = "S1"
CONTEXT = PageContext(STUDY, 1_700_000_000_000, Origin.SNAPSHOT)
BLANK: list[Any] = [None, 0, "", " ", [], {}]
WRONG: list[Any] = [True, 1.5, -1, 2**63, "x" * 1001, "\ud800", [1], {"a": 1}]
KINDS = pytest.mark.parametrize("entity", READ_KINDS.values(), ids=lambda each: each.name)


def row_of(entity: Entity) -> dict[str, Any]:
    own: Any = 7 if entity.id_is_number else "seven"
    return {"studyKey": STUDY, entity.id_field: STUDY if entity.name == "study" else own}


def event_of(entity: Entity, row: dict[str, Any]) -> RecordEvent:
    return upsert(row, 1, entity.name, STUDY)


@KINDS
@pytest.mark.parametrize("value", [*BLANK, *WRONG], ids=repr)
def test_a_row_without_a_valid_id_becomes_a_dead_letter(entity: Entity, value: Any) -> None:
    """A row whose id is blank or of the wrong type is reported as invalid and not published."""
    row = row_of(entity) | {entity.id_field: value}
    changes = detect(entity, [row], {}, CONTEXT)
    assert changes.events == []
    assert [each.reason for each in changes.invalid] == ["id"]


@KINDS
def test_a_valid_row_survives_the_topic_and_gives_a_node_with_its_key(entity: Entity) -> None:
    """Key, value and headers of each kind are read back as the same event, with a full node key."""
    event = event_of(entity, row_of(entity))
    key, value, headers = encode(event)
    identity = Identity.from_key(key)
    assert identity == event.identity
    read = message(TopicPartition("t", 0), 0, key, value, headers)
    assert decode_event(identity, read, 1_700_000_000_000) == event
    properties = node_change(event).properties
    assert all(properties[name] for name in entity.key_properties)


def references() -> list[Any]:
    return [
        pytest.param(entity, target.field, id=f"{entity.name}-{target.field}")
        for entity in READ_KINDS.values()
        for reference in entity.references
        for target in reference.targets
        if target.field
    ]


@pytest.mark.parametrize(("entity", "field"), references())
@pytest.mark.parametrize("value", BLANK, ids=repr)
def test_a_blank_reference_means_none(entity: Entity, field: str, value: Any) -> None:
    """A blank reference makes no node; the next target of the table counts."""
    links = node_change(event_of(entity, row_of(entity) | {field: value})).links
    assert all(each.target is None or each.target.id for each in links)


@pytest.mark.parametrize(("entity", "field"), references())
@pytest.mark.parametrize("value", WRONG, ids=repr)
def test_a_reference_of_the_wrong_type_makes_a_dead_letter(
    entity: Entity, field: str, value: Any
) -> None:
    """Any other value that is not an id is refused, by the source or by the sink."""
    with pytest.raises(InvalidEventError):
        node_change(event_of(entity, row_of(entity) | {field: value}))


def lists() -> list[Any]:
    return [
        pytest.param(entity, each.field, each.id_field, id=f"{entity.name}-{each.field}")
        for entity in READ_KINDS.values()
        for each in entity.reference_lists
    ]


@pytest.mark.parametrize(("entity", "field", "id_field"), lists())
def test_a_list_of_references_links_the_elements_with_ids(
    entity: Entity, field: str, id_field: str
) -> None:
    """Elements without a valid id make no link, and never cost the entity: the list is kept."""
    is_number = next(
        ENTITIES[each.target].id_is_number for each in entity.reference_lists if each.field == field
    )
    one, two = (1, 2) if is_number else ("1", "2")

    def listed(value: Any) -> Any:
        (links,) = node_change(event_of(entity, row_of(entity) | {field: value})).listed
        return [each.target.id for each in links]

    assert listed([{id_field: 2}, {id_field: 1}, {id_field: 2}]) == [one, two]
    assert listed([{id_field: 2, "a": 1}, {id_field: 2, "a": 2}]) == [two, two]
    assert listed({id_field: 1}) == [one]
    for blank in BLANK:
        assert listed(blank) == []
        assert listed([{id_field: blank, "name": "x"}, {id_field: 1}]) == [one]
    odd: list[Any] = ["text", 5, {"a": 1}, [1], [None], [[]], [{id_field: -1}], [{id_field: True}]]
    for value in odd:
        assert listed(value) == []
        properties = node_change(event_of(entity, row_of(entity) | {field: value})).properties
        assert field in properties


def test_parts_keep_their_order_and_cannot_take_their_owners_key() -> None:
    """Each comment gets its position and its query's key, whatever fields it has."""
    query = READ_KINDS["query"]
    comments = [
        {"sequence": 2},
        {"position": 9, "studyKey": "S2", "annotationId": 1},
        None,
        {"a": 1},
    ]
    change = node_change(event_of(query, row_of(query) | {"queryComments": comments}))
    key = {"study_key": STUDY, "annotation_id": 7}
    assert change.parts == [[{"sequence": 2, "position": 1, **key}, {"position": 2, **key},
                             {"a": 1, "position": 3, **key}]]  # fmt: skip
    for odd in ("text", [1], 5):
        assert node_change(event_of(query, row_of(query) | {"queryComments": odd})).parts == [[]]


def test_a_coding_without_an_id_is_identified_by_record_variable_and_revision() -> None:
    """The documented fallback; a numeric id is the text of its digits."""
    coding = READ_KINDS["coding"]
    row = {"recordId": 4, "variable": "AETERM", "revision": 2, "codingId": ""}
    assert id_of(coding, row) == "4/AETERM/2"
    assert id_of(coding, row | {"codingId": 5}) == "5"
    assert id_of(coding, row | {"codingId": "C1"}) == "C1"
    assert id_of(coding, row | {"variable": " "}) is None
    event = event_of(coding, row)
    assert Identity.from_key(encode(event)[0]) == event.identity
    assert node_change(event).properties["coding_id"] == "4/AETERM/2"


def test_personal_data_of_users_can_be_left_out() -> None:
    """Names and addresses are gone before the content hash; other kinds are untouched."""
    rows = [
        {"userId": "u", "login": "l", "firstName": "A", "lastName": "B", "email": "c", "roles": []},
        UnreadableRow(b'{"firstName": "A"', "u"),
        "no row",
    ]

    class Reader:
        def read(self, _: PageRequest) -> Page:
            return Page(0, len(rows), rows)

    def read(resource: str) -> list[Any]:
        request = PageRequest(STUDY, resource, None, "login,asc", 10, 0)
        return WithoutPersonalData(Reader()).read(request).rows

    user, unreadable, other = read("users")
    assert (user, other) == ({"userId": "u", "login": "l", "roles": []}, "no row")
    assert unreadable.id_hint == "u"
    assert b"firstName" not in unreadable.raw
    assert b'"id":"u"' in unreadable.raw  # names the row, and differs from other rows
    assert read("records") == rows


def test_the_table_is_consistent() -> None:
    """References go to kinds of the table by documented fields; labels and names are unique."""
    assert len(NODE_KEYS) == len(ENTITIES) + sum(len(each.parts) for each in ENTITIES.values())
    for entity in ENTITIES.values():
        for reference in entity.references:
            assert all(each.entity in ENTITIES for each in reference.targets)
            assert {each.field for each in reference.targets} - {None} <= set(entity.fields)
        lists = {each.field for each in entity.reference_lists}
        assert lists | {each.field for each in entity.parts} <= set(entity.fields)
        names = [each.relationship for each in entity.references]
        names += [each.relationship for each in entity.reference_lists]
        names += [each.relationship for each in entity.parts]
        assert len(set(names)) == len(names)
        assert (entity.reading is Reading.EMBEDDED) == (entity.name not in READ_KINDS)
        assert {*entity.id_fallback, *entity.personal_fields} <= set(entity.fields)

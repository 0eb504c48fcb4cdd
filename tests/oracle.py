"""The independent fold of a topic: the graph that it must produce, despite redelivery."""

from collections.abc import Iterable
from typing import Any

import orjson

from connector.interfaces import Message
from connector.model.graph_state import GraphState, differences
from connector.ops.expected_graph import add_deleted, add_row, add_stubs


def fold(messages: Iterable[Message]) -> GraphState:
    """Return the graph of each key's newest event. All messages must be valid events."""
    newest: dict[bytes, dict[str, Any]] = {}
    for message in messages:
        event = orjson.loads(message.value or b"null")
        before = newest.get(message.key or b"")
        if before is None or before["version"] < event["version"]:
            newest[message.key or b""] = event
    state = GraphState()
    for event in newest.values():
        if event["op"] == "delete":
            key = add_deleted(state, event["entity"], event["studyKey"], event["id"])
            state.nodes[key]["_version"] = event["version"]
        else:
            key = add_row(
                state, event["entity"], event["studyKey"], event["data"], event.get("types")
            )
            state.nodes[key] |= {"_version": event["version"], "_hash": event["contentHash"]}
    add_stubs(state)
    return state


def assert_equal(expected: GraphState, actual: GraphState) -> None:
    """Assert that the settled states are equal; on failure, list the first differences."""
    found = list(differences(expected.settled(), actual.settled()))
    assert not found, "\n".join(found[:20])
    assert expected.digest() == actual.digest()

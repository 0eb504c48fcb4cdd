import pytest

from connector.model.graph_state import GraphState, NodeKey, differences

KEY = NodeKey("Record", ("S1", 1))


def state(**properties: object) -> GraphState:
    return GraphState({KEY: {"study_key": "S1", "record_id": 1, "_version": 1, **properties}})


@pytest.mark.parametrize(("one", "other"), [(1, True), (1, 1.0), ([1], [1.0])])
def test_values_of_different_types_differ(one: object, other: object) -> None:
    """Values that Python holds for equal differ if the graph tells their types apart."""
    assert list(differences(state(a=one), state(a=other))) == ["Record ('S1', 1): differs in a"]


def test_comparison_ignores_reserved_properties_except_version_and_hash() -> None:
    """Comparisons ignore reserved and users' properties, except version and hash."""
    plain = state(_hash="a", a=1)
    marked = state(_hash="a", a=1, _redirected=True, _other=[1], x_note="n")
    assert plain.digest() == marked.digest()
    assert list(differences(plain.settled(), marked.settled())) == []
    assert plain.digest() != state(_hash="b", a=1).digest()
    assert plain.digest() != state(_hash="a", a=1, _version=2).digest()

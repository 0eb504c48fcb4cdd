from connector.neo4j.schema import Duplicates, Existing, missing, obstacles, schema

STUDY = next(item for item in schema() if item.name == "imednet_study_key")
INDEX = next(item for item in schema() if not item.is_constraint)


def test_names_and_keys_of_users_are_quoted_in_the_statements_that_a_remedy_prints() -> None:
    """Users' names and keys are quoted in the statements that a remedy prints."""
    own = Existing("a`b", "RANGE", "NODE", ["Study"], ["study_key"], "ONLINE")
    duplicates = Duplicates([["it's \\", 2]], ["it's \\"], 1)
    in_the_way, twice = obstacles(STUDY, [own], duplicates, None)
    assert "DROP INDEX `a``b`;" in in_the_way.remedy
    assert any("IN ['it\\'s \\\\']" in step for step in twice.remedy)


def test_a_duplicated_key_is_shown_in_part_when_it_is_long() -> None:
    """A long duplicate key is printed only in part."""
    (twice,) = obstacles(STUDY, [], Duplicates([["x" * 10_000, 2]], ["S1"], 1), None)
    assert len(twice.cause) < 1000


def test_an_equal_constraint_or_index_of_another_name_serves() -> None:
    """An equivalent constraint or index of another name is accepted."""
    constraint = Existing("mine", "UNIQUENESS", "NODE", ["Study"], ["study_key"])
    assert STUDY not in missing(schema(), [constraint])
    index = Existing("mine", "RANGE", "NODE", [INDEX.label], list(INDEX.properties), "ONLINE")
    assert INDEX not in missing(schema(), [index])


def test_an_index_of_relationships_or_one_that_is_not_online_does_not_serve() -> None:
    """An index on relationships, or one that is not online, is not accepted."""
    index = Existing("mine", "RANGE", "NODE", [INDEX.label], list(INDEX.properties), "ONLINE")
    for other in (index._replace(entity_type="RELATIONSHIP"), index._replace(state="POPULATING")):
        assert INDEX in missing(schema(), [other])


def test_a_refusal_for_another_reason_is_reported_by_its_code() -> None:
    """A refusal for any other reason is reported by its code."""
    (found,) = obstacles(STUDY, [], Duplicates(), "Neo.ClientError.Schema.Other")
    assert "Neo.ClientError.Schema.Other" in found.cause

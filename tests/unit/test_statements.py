"""Tests of the statements that changes become."""

import random
from dataclasses import replace

import pytest

from connector.model.graph import NodeChange, node_change
from connector.neo4j import cypher
from tests.builders import record_row, upsert

DATES = [f"DATE{number}" for number in range(8)]


def record_with(record_id: int, filled: set[str]) -> NodeChange:
    values = {"OTHER": "x"} | {name: "2024-01-02" if name in filled else "" for name in DATES}
    event = upsert(record_row(record_id, subjectId=record_id % 50 + 1, recordData=values))
    return node_change(replace(event, types=dict.fromkeys(filled, "date") or None))


@pytest.mark.parametrize("are_absent", [True, False])
def test_rare_dates_do_not_make_a_statement_of_each_combination(*, are_absent: bool) -> None:
    """The database plans each new statement, and keeps only some of the plans."""
    chosen = random.Random(1)
    texts = set()
    for _ in range(60):
        changes = [
            record_with(number, {name for name in DATES if chosen.random() < 0.003})
            for number in range(1, 211)
        ]
        absent = {each.identity for each in changes} if are_absent else ()
        (statement,) = cypher.statements(changes, absent)
        texts.add(statement.cypher)
    assert len(texts) <= len(DATES) + 1

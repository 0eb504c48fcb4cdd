"""The list of dead letters' reasons is complete."""

import ast
from pathlib import Path

import connector
from connector.model.reasons import REASONS
from connector.neo4j.failures import _DATA


def test_every_reason_that_the_code_gives_is_listed() -> None:
    """Metrics have a series for each reason from the start, and `dlq list` explains it."""
    given = set()
    for path in Path(connector.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and "InvalidEventError" in ast.dump(node.func):
                given |= {
                    keyword.value.value
                    for keyword in node.keywords
                    if keyword.arg == "reason" and isinstance(keyword.value, ast.Constant)
                }
    assert len(given) > 15
    given |= {code.rsplit(".", 1)[-1] for code in _DATA} | {"index_size", "too_large"}
    assert given == REASONS.keys()

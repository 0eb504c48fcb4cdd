"""Checkpoints in the graph: up to which offset it holds a partition's events. Cypher text only."""

LABEL = "_ImednetCheckpoint"
KEY_PROPERTY = "key"

_FOUND = (
    f"MATCH (checkpoint:{LABEL} {{{KEY_PROPERTY}: $checkpoint}}) WHERE checkpoint.offset >= $start"
)
FENCE = f"{_FOUND} WITH checkpoint"
"""Before a statement: it changes nothing in a graph that lacks what was applied before."""
ADVANCE = (
    f"{_FOUND} SET checkpoint.offset ="
    " CASE WHEN checkpoint.offset < $end THEN $end ELSE checkpoint.offset END WITH checkpoint"
)
"""As `FENCE`, and in the same transaction the checkpoint moves. A transaction that updates nothing
has not found it."""
SET = (
    f"UNWIND $rows AS row MERGE (checkpoint:{LABEL} {{{KEY_PROPERTY}: row.key}})"
    " SET checkpoint.offset = CASE WHEN coalesce(checkpoint.offset, -1) < row.offset"
    " THEN row.offset ELSE checkpoint.offset END"
)
READ = (
    f"UNWIND $rows AS key MATCH (checkpoint:{LABEL} {{{KEY_PROPERTY}: key}})"
    " RETURN key, checkpoint.offset"
)

"""Checkpoints: the offset up to which the graph holds a partition's events. Cypher text only."""

from connector.neo4j.statement import ROWS

LABEL = "_ImednetCheckpoint"
KEY_PROPERTY = "key"

ADVANCE = (
    f"MATCH (checkpoint:{LABEL} {{{KEY_PROPERTY}: $checkpoint}}) WHERE checkpoint.offset >= $start"
    " SET checkpoint.offset ="
    " CASE WHEN checkpoint.offset < $end THEN $end ELSE checkpoint.offset END WITH checkpoint"
)
"""Prefix that makes a statement a no-op in a graph that lacks events applied earlier, and moves the
checkpoint to ``end`` in the same transaction. If the transaction updates nothing, the checkpoint
was not found. (A transaction that is not to move it has ``end = start``: one statement, one plan.)
"""
SET = (
    f"UNWIND {ROWS} AS row MERGE (checkpoint:{LABEL} {{{KEY_PROPERTY}: row.key}})"
    " SET checkpoint.offset = CASE WHEN coalesce(checkpoint.offset, -1) < row.offset"
    " THEN row.offset ELSE checkpoint.offset END"
)
READ = (
    f"UNWIND {ROWS} AS key MATCH (checkpoint:{LABEL} {{{KEY_PROPERTY}: key}})"
    " RETURN key, checkpoint.offset"
)

"""Checkpoints: the offset up to which the graph holds a partition's events. Cypher text only."""

LABEL = "_ImednetCheckpoint"
KEY_PROPERTY = "key"

_MATCH_CHECKPOINT = (
    f"MATCH (checkpoint:{LABEL} {{{KEY_PROPERTY}: $checkpoint}}) WHERE checkpoint.offset >= $start"
)
FENCE = f"{_MATCH_CHECKPOINT} WITH checkpoint"
"""Prefix that makes a statement a no-op in a graph that lacks events applied earlier."""
ADVANCE = (
    f"{_MATCH_CHECKPOINT} SET checkpoint.offset ="
    " CASE WHEN checkpoint.offset < $end THEN $end ELSE checkpoint.offset END WITH checkpoint"
)
"""Like `FENCE`, and moves the checkpoint in the same transaction. If the transaction updates
nothing, the checkpoint was not found."""
SET = (
    f"UNWIND $rows AS row MERGE (checkpoint:{LABEL} {{{KEY_PROPERTY}: row.key}})"
    " SET checkpoint.offset = CASE WHEN coalesce(checkpoint.offset, -1) < row.offset"
    " THEN row.offset ELSE checkpoint.offset END"
)
READ = (
    f"UNWIND $rows AS key MATCH (checkpoint:{LABEL} {{{KEY_PROPERTY}: key}})"
    " RETURN key, checkpoint.offset"
)

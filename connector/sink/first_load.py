"""Detects a first load, during which batches are written without a probe. Pure."""

from connector.interfaces import WriteResult


class FirstLoad:
    """Whether to assume that the next batch is all new, because the last one was.

    A wrong assumption loses nothing: nodes that exist are merged, and the next batch is probed.
    Shared by all writers; the latest finding counts.
    """

    def __init__(self, *, is_assumed: bool = False) -> None:
        self.is_assumed = is_assumed

    def note_probe(self, *, all_absent: bool) -> None:
        """Record whether a batch was full, and the graph had none of its entities."""
        self.is_assumed = all_absent

    def note_write(self, result: WriteResult) -> None:
        """Record a write: the assumption ends if a node that was to be created existed."""
        if not result.were_absent:
            self.is_assumed = False

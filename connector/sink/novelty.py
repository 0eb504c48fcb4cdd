"""Whether everything is taken for new, unasked. Pure."""

from connector.interfaces import WriteResult


class Novelty:
    """While full batches are all new, as in a first load, the graph is not asked about the next.

    Where that is wrong, nothing is lost: what is there is merged, and the next batch is probed.
    Writers share it; the last one to learn something is right.
    """

    def __init__(self, *, is_assumed: bool = False) -> None:
        self.is_assumed = is_assumed

    def probed(self, *, all_absent: bool) -> None:
        """The graph was asked about a batch."""
        self.is_assumed = all_absent

    def wrote(self, result: WriteResult) -> None:
        """A batch was written."""
        if not result.were_absent:
            self.is_assumed = False

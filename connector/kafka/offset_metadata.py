"""The metadata that the sinks commit with an offset: what shows later whether it still applies."""

import re
from typing import NamedTuple

from connector.interfaces import Position

_FORMAT = re.compile(r"(?P<topic_id>[^@ ]*)(@(?P<at>\d+):(?P<epoch>\d+)(:(?P<cut>\d+))?)?")


class OffsetMetadata(NamedTuple):
    """As text ``topic_id@offset:epoch:truncation_epoch note``; older versions wrote less."""

    topic_id: str = ""
    """The topic that the offset belongs to; empty if unknown."""
    intact: Position | None = None
    """The position after the last message that was applied, with that message's epoch."""
    truncation_epoch: int | None = None
    """The leader epoch in which the group found its latest truncation of the log.

    The graph's checkpoints from before do not apply to this log."""
    note: str = ""
    """Text that each commit keeps: the plan of a replay."""

    @classmethod
    def parsed(cls, text: str) -> "OffsetMetadata":
        """Parse what ``str`` returned; what is not understood counts as unknown."""
        known, _, note = text.partition(" ")
        found = _FORMAT.fullmatch(known)
        if found is None:
            return cls(known.partition("@")[0], note=note)
        intact, cut = None, found["cut"]
        if found["at"]:
            intact = Position(int(found["at"]), int(found["epoch"]))
        return cls(found["topic_id"], intact, None if cut is None else int(cut), note)

    def __str__(self) -> str:
        known = self.topic_id
        if self.intact is not None and (epoch := self.intact.leader_epoch) is not None:
            known += f"@{self.intact.offset}:{epoch}"
            known += "" if self.truncation_epoch is None else f":{self.truncation_epoch}"
        return f"{known} {self.note}".rstrip()

    def is_of(self, topic_id: str) -> bool:
        """Whether the offset belongs to this topic; topics with an unknown id count as the same."""
        return not (self.topic_id and topic_id) or self.topic_id == topic_id

    def of_topic(self, topic_id: str) -> "OffsetMetadata":
        """Return what applies to an offset of this topic: of another topic, only the note."""
        if not self.is_of(topic_id):
            return OffsetMetadata(topic_id, note=self.note)
        return self._replace(topic_id=topic_id or self.topic_id)

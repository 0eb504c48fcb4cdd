"""What the demo takes from the shell that it is started in: nothing of ours, unless asked to. Pure.

A shell may be prepared for production, so exported settings would lead the demo's programs there.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from connector.config import KafkaSettings, Neo4jSettings, Section, environment_name, sections
from connector.errors import FatalError

_ENDPOINTS: dict[type[Section], str] = {KafkaSettings: "bootstrap_servers", Neo4jSettings: "uri"}


@dataclass(frozen=True, slots=True)
class Names:
    """What the demo calls its own things."""

    study: str = "DEMO"
    group: str = "imednet-demo"
    topics: str = "imednet"

    @classmethod
    def beginning_with(cls, prefix: str) -> "Names":
        """Names that nothing else has, for servers that others use, too."""
        return cls(prefix, prefix, prefix)

    @property
    def environment(self) -> dict[str, str]:
        """As settings."""
        return {
            "SOURCE_STUDIES": self.study,
            "SINK_GROUP_ID": self.group,
            "KAFKA_EVENTS_TOPIC": f"{self.topics}.events",
            "KAFKA_CURSORS_TOPIC": f"{self.topics}.cursors",
            "KAFKA_DEAD_LETTER_TOPIC": f"{self.topics}.events.dlq",
        }


def without_settings(environment: Mapping[str, str]) -> dict[str, str]:
    """All but what this program would read as a setting, in whatever case it is written."""
    names = tuple(section.name.upper() for section in sections())
    return {
        name: value
        for name, value in environment.items()
        if name.upper() not in names
        and not name.upper().startswith(tuple(f"{section}_" for section in names))
    }


def endpoints(environment: Mapping[str, str]) -> dict[str, str]:
    """The settings of each server whose address is exported: how to reach it, and as whom.

    Raises:
        FatalError: no address is.
    """
    found = {
        name: environment[name]
        for section, endpoint in _ENDPOINTS.items()
        if environment_name(section, endpoint) in environment
        for field in section.model_fields
        if (name := environment_name(section, field)) in environment
    }
    if not found:
        addresses = " nor ".join(environment_name(*each) for each in _ENDPOINTS.items())
        raise FatalError(f"--use-environment: neither {addresses} is exported")
    return found

"""The demo's environment: the shell's, without this program's settings unless requested. Pure.

A shell may export settings for production, which would point the demo's programs there.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from connector.config import KafkaSettings, Neo4jSettings, Section, environment_name, sections
from connector.errors import FatalError

_ENDPOINTS: dict[type[Section], str] = {KafkaSettings: "bootstrap_servers", Neo4jSettings: "uri"}


@dataclass(frozen=True, slots=True)
class Names:
    """The demo's names for its study, consumer group and topics."""

    study: str = "DEMO"
    group: str = "imednet-demo"
    topics: str = "imednet"

    @classmethod
    def beginning_with(cls, prefix: str) -> "Names":
        """Return names that start with a unique ``prefix``, for servers that others use as well."""
        return cls(prefix, prefix, prefix)

    @property
    def environment(self) -> dict[str, str]:
        """The names as environment variables."""
        return {
            "SOURCE_STUDIES": self.study,
            "SINK_GROUP_ID": self.group,
            "KAFKA_EVENTS_TOPIC": f"{self.topics}.events",
            "KAFKA_CURSORS_TOPIC": f"{self.topics}.cursors",
            "KAFKA_DEAD_LETTER_TOPIC": f"{self.topics}.events.dlq",
        }


def without_settings(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment without any variable that this program reads as a setting.

    Names are compared without regard to case.
    """
    names = tuple(section.name.upper() for section in sections())
    return {
        name: value
        for name, value in environment.items()
        if name.upper() not in names
        and not name.upper().startswith(tuple(f"{section}_" for section in names))
    }


def endpoints(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the connection settings of each server whose address is exported.

    Raises:
        FatalError: no address is exported.
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
        raise FatalError(f"--use-environment: neither {addresses} is exported. Export one of them")
    return found

"""Which dead letters concern the graph that these settings name."""

from connector.config import Settings
from connector.model.groups import live_group_of
from connector.model.letters import Letter, Stage


def is_own_letter(settings: Settings, letter: Letter) -> bool:
    """Whether the source, the sinks of these settings or their replays wrote the letter."""
    return letter.stage is Stage.SOURCE or is_of_own_sinks(settings, letter)


def is_of_own_sinks(settings: Settings, letter: Letter) -> bool:
    """Whether the sinks of these settings, or their replays, wrote the letter."""
    topic = letter.origin.topic if letter.origin else ""
    is_group = live_group_of(letter.connector) == settings.sink.group_id
    return topic == settings.kafka.events_topic and is_group

import pytest

from connector.config import Settings
from connector.errors import FatalError
from connector.lab.surroundings import Names, endpoints, without_settings

EXPORTED = {
    "PATH": "/bin",
    "LOGNAME": "me",
    "KAFKA_BOOTSTRAP_SERVERS": "production:9092",
    "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
    "KAFKA_EVENTS_TOPIC": "production",
    "kafka_events_topic": "production",
    "KAFKA": '{"events_topic": "production"}',
    "NEO4J_PASSWORD": "production",
    "SOURCE_STUDIES": "PRODUCTION",
    "SOURCE_NOT_KNOWN_YET": "1",
    "SINK_GROUP_ID": "production",
    "IMEDNET_API_KEY": "production",
    "Log_Level": "nonsense",
}


def test_nothing_that_is_a_setting_is_taken_from_the_shell(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting is taken from the shell."""
    kept = without_settings(EXPORTED)
    assert kept == {"PATH": "/bin", "LOGNAME": "me"}
    for name in EXPORTED.keys() - kept.keys():
        monkeypatch.delenv(name, raising=False)
    assert Settings.load().kafka.events_topic == "imednet.events"


def test_an_exported_server_is_used_with_its_credentials_and_only_that_one() -> None:
    """An exported server is used with its credentials, and no other setting is."""
    given = endpoints(EXPORTED)
    assert given["KAFKA_BOOTSTRAP_SERVERS"] == "production:9092"
    assert given["KAFKA_SECURITY_PROTOCOL"] == "SASL_SSL"
    assert not any(name.startswith(("NEO4J_", "SOURCE_", "SINK_", "IMEDNET_")) for name in given)


def test_names_on_servers_of_others_are_the_demos_own() -> None:
    """On servers of others the demo uses its own topics, group and study."""
    environment = endpoints(EXPORTED) | Names.beginning_with("demo-1").environment
    ours = [name for name in environment if name.endswith(("_TOPIC", "_ID", "_STUDIES"))]
    assert len(ours) == 5
    assert all(environment[name].startswith("demo-1") for name in ours)


def test_asking_for_exported_servers_without_any_is_an_error() -> None:
    """Asking for exported servers when there are none is an error."""
    with pytest.raises(FatalError, match="neither KAFKA_BOOTSTRAP_SERVERS nor NEO4J_URI"):
        endpoints({"PATH": "/bin"})

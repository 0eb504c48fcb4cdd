import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from connector.config import NEO4J_SCHEMES, Settings, environment_name, sections
from connector.errors import FatalError


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for section in sections():
        for field in section.model_fields:
            monkeypatch.delenv(environment_name(section, field), raising=False)


def test_the_environment_overrides_the_file_and_the_file_the_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The environment overrides the file, and the file overrides the default."""
    file = tmp_path / "c.toml"
    file.write_text('[kafka]\nbootstrap_servers = "file:1"\nevents_topic = "from.file"\n')
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "env:1")
    kafka = Settings.load(file).kafka
    assert (kafka.bootstrap_servers, kafka.events_topic) == ("env:1", "from.file")
    assert kafka.cursors_topic == "imednet.cursors"


def test_studies_are_comma_separated(monkeypatch: pytest.MonkeyPatch) -> None:
    """Study keys are separated by commas."""
    monkeypatch.setenv("SOURCE_STUDIES", "A, B,")
    assert Settings.load().source.studies == ("A", "B")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SINK_BATCH_EVENTS_MAX", "canary-secret"),
        ("SINK_BATCH_EVENTS_MAX", "0"),
        ("NEO4J_URI", "bolt://canary:secret@host"),
        ("NEO4J_URI", "http://canary:7687"),
        ("NEO4J_URI", "bolt://canary:port"),
        ("NEO4J_URI", "bolt://[::canary"),
        ("NEO4J_URI", "canary:7687"),
        ("KAFKA_BOOTSTRAP_SERVERS", "canary:secret@host:9092"),
        ("IMEDNET_BASE_URL", "canary-secret"),
        ("LOG_LEVEL", "canary-secret"),
        ("SOURCE_POLL_INTERVAL_SECONDS", "-1"),
        ("IMEDNET", "{canary-secret"),
    ],
)
def test_a_wrong_setting_is_named_without_its_value(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An invalid setting is named without its value."""
    monkeypatch.setenv(name, value)
    with pytest.raises(FatalError) as error:
        Settings.load()
    assert "canary" not in str(error.value)
    assert error.value.__cause__ is None
    if name != "IMEDNET":
        assert name in str(error.value)


@pytest.mark.parametrize("text", ["[kafka]\nbootstrap = 1", "[kafak]\n", "x = 1", "[kafka"])
def test_a_typo_in_the_file_is_an_error(text: str, tmp_path: Path) -> None:
    """An unknown name or a syntax error in the file is an error."""
    file = tmp_path / "c.toml"
    file.write_text(text)
    with pytest.raises(FatalError, match=r"c\.toml"):
        Settings.load(file)


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    """A settings file that does not exist is an error."""
    with pytest.raises(FatalError, match="Cannot read"):
        Settings.load(tmp_path / "no.toml")


def test_secrets_are_masked_wherever_settings_are_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Secrets are masked wherever settings are printed."""
    for name in (
        "IMEDNET_API_KEY",
        "IMEDNET_SECURITY_KEY",
        "NEO4J_PASSWORD",
        "KAFKA_SASL_PASSWORD",
    ):
        monkeypatch.setenv(name, "canary-secret")
    settings = Settings.load()
    assert "canary" not in repr(settings) + str(settings) + settings.model_dump_json()


def test_every_numeric_setting_names_its_unit() -> None:
    """The name of every numeric setting ends with its unit or with what it counts."""
    pyproject = tomllib.loads(Path("pyproject.toml").read_text())
    assert pyproject["project"]["name"] == "imednet-connector"
    units = (
        "_seconds",
        "_seconds_max",
        "_max",
        "_size",
        "_partitions",
        "_factor",
        "_ratio",
        "_port",
    )
    for section in sections():
        for name, field in section.model_fields.items():
            if type(field.default) in (int, float):
                assert f"_{name}".endswith(units), f"{section.name}.{name}"


@pytest.mark.parametrize("uri", ["http://host:7474", "https://host", "bolt:host", "host:7687", ""])
def test_an_address_with_another_scheme_is_refused_with_the_valid_schemes(
    uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An address that is not Neo4j's is refused with the list of valid schemes."""
    monkeypatch.setenv("NEO4J_URI", uri)
    with pytest.raises(FatalError, match=r"NEO4J_URI: .*bolt, bolt\+s, bolt\+ssc, neo4j, neo4j\+s"):
        Settings.load()


@pytest.mark.parametrize("scheme", NEO4J_SCHEMES)
def test_every_scheme_of_neo4j_is_a_valid_address(
    scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every Neo4j scheme is accepted."""
    monkeypatch.setenv("NEO4J_URI", f"{scheme}://host:7687")
    assert Settings.load().neo4j.uri == f"{scheme}://host:7687"


def test_a_file_is_read_as_utf_8_whatever_the_locale(tmp_path: Path) -> None:
    """The settings file is read as UTF-8, whatever the locale."""
    file = tmp_path / "c.toml"
    file.write_text('[source]\nstudies = ["É"]\n', encoding="utf-8")
    code = (
        "import sys; from pathlib import Path; from connector.config import Settings;"
        " print(ascii(Settings.load(Path(sys.argv[1])).source.studies))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(file)], capture_output=True, text=True, check=False,
        env={"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    )  # fmt: skip
    assert done.stdout.strip() == r"('\xc9',)", done.stderr

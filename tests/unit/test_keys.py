from pathlib import Path

import pytest
from pydantic import SecretStr

from connector.config import ImednetSettings
from connector.errors import FatalError, RetryableError
from connector.imednet.keys import Keys

NO_KEYS = [
    "canary\nkey",
    "canary key",
    "canary-kéy",
    "canary\x00",
    "canary\u2013key",
    "\ufeffcanary",
]


def keys(api_key: str) -> Keys:
    return Keys(ImednetSettings(api_key=SecretStr(api_key), security_key=SecretStr("s")))


def in_file(file: Path) -> Keys:
    return Keys(ImednetSettings(api_key_file=file, security_key=SecretStr("s")))


@pytest.mark.parametrize("text", ["a-key", " a-key\n", "\ta-key\r\n"])
def test_white_space_around_a_key_is_no_part_of_it(text: str, tmp_path: Path) -> None:
    """White space around a key is not part of it."""
    (tmp_path / "key").write_bytes(text.encode())
    for each in (keys(text), in_file(tmp_path / "key")):
        assert each.headers()["x-api-key"] == "a-key"


@pytest.mark.parametrize("text", NO_KEYS)
def test_what_cannot_be_a_key_is_refused_without_being_shown(text: str, tmp_path: Path) -> None:
    """A text that cannot be a key is refused without being printed."""
    (tmp_path / "key").write_text(text, encoding="utf-8")
    with pytest.raises(FatalError, match=r"IMEDNET_API_KEY .* not allowed") as caught:
        keys(text)
    with pytest.raises(FatalError, match=r"Key file .* not allowed") as caught_in_file:
        in_file(tmp_path / "key")
    assert "canary" not in str(caught.value) + str(caught_in_file.value)


@pytest.mark.parametrize("text", ["", " \n"])
def test_an_empty_key_is_refused(text: str, tmp_path: Path) -> None:
    """An empty key is refused."""
    (tmp_path / "key").write_text(text)
    with pytest.raises(FatalError):
        keys(text)
    with pytest.raises(FatalError, match="empty"):
        in_file(tmp_path / "key")


def test_a_rotated_file_that_cannot_be_a_key_is_waited_for(tmp_path: Path) -> None:
    """A rotated key file without a valid key is waited for."""
    file = tmp_path / "key"
    file.write_text("a-key")
    made = in_file(file)
    file.write_text("half a key")
    with pytest.raises(RetryableError, match="not allowed"):
        made.headers()
    file.write_text("another-key")
    assert made.headers()["x-api-key"] == "another-key"

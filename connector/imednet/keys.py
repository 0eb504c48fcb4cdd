"""The API's two keys: from the environment, or from files that may be written anew at any time."""

from pathlib import Path
from typing import NamedTuple

from pydantic import SecretStr

from connector.config import ImednetSettings
from connector.errors import FatalError, RetryableError


class _Source(NamedTuple):
    """Where a key comes from: its setting's name, and value or file."""

    name: str
    value: SecretStr | None
    file: Path | None


class Keys:
    """Read again for each request where they are files: a rotated key needs no restart."""

    def __init__(self, settings: ImednetSettings) -> None:
        """Check that both are there and could be keys.

        Raises:
            FatalError: one is not set or no key, or its file cannot be read.
        """
        api = _Source("IMEDNET_API_KEY", settings.api_key, settings.api_key_file)
        security = _Source(
            "IMEDNET_SECURITY_KEY", settings.security_key, settings.security_key_file
        )
        self._sources = {"x-api-key": api, "x-imn-security-key": security}
        self.are_files = any(each.file is not None for each in self._sources.values())
        if not all(each.value or each.file for each in self._sources.values()):
            raise FatalError(
                "IMEDNET_API_KEY and IMEDNET_SECURITY_KEY (or ..._KEY_FILE) must both be set"
            )
        try:
            self.headers()
        except RetryableError as error:
            raise FatalError(str(error)) from None

    def headers(self) -> dict[str, str]:
        """The headers that carry them.

        Raises:
            RetryableError: a file cannot be read now, or holds no key.
        """
        return {header: _read(source) for header, source in self._sources.items()}


def _read(source: _Source) -> str:
    if source.file is None:
        return _checked(source.value.get_secret_value() if source.value else "", source.name)
    try:
        text = source.file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        said = type(error).__name__
        raise RetryableError(f"cannot read the key in {source.file}: {said}") from None
    return _checked(text, f"the key file {source.file}")


def _checked(text: str, source: str) -> str:
    """The key without white space around it. What no header can carry is not sent, nor shown."""
    key = text.strip()
    if not key:
        raise RetryableError(f"{source} is empty")
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise RetryableError(
            f"{source} holds characters that a key cannot have (it is printable ASCII without"
            " spaces, in one line): copy the key again"
        )
    return key

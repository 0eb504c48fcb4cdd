"""The API's two keys, from the environment or from files that may be rewritten at any time."""

from pathlib import Path
from typing import NamedTuple

from pydantic import SecretStr

from connector.config import ImednetSettings
from connector.errors import FatalError, RetryableError


class _Source(NamedTuple):
    """The source of a key: its setting's name, and its value or file."""

    name: str
    value: SecretStr | None
    file: Path | None


class Keys:
    """The API's two keys. Key files are read for each request: a rotated key needs no restart."""

    def __init__(self, settings: ImednetSettings) -> None:
        """Check that both keys are set and well-formed.

        Raises:
            FatalError: a key is missing or malformed, or its file cannot be read.
        """
        api = _Source("IMEDNET_API_KEY", settings.api_key, settings.api_key_file)
        security = _Source(
            "IMEDNET_SECURITY_KEY", settings.security_key, settings.security_key_file
        )
        self._sources = {"x-api-key": api, "x-imn-security-key": security}
        self.are_files = any(each.file is not None for each in self._sources.values())
        if not all(each.value or each.file for each in self._sources.values()):
            raise FatalError(
                "IMEDNET_API_KEY and IMEDNET_SECURITY_KEY (or their ..._KEY_FILE settings) must"
                " both be set"
            )
        try:
            self.headers()
        except RetryableError as error:
            raise FatalError(str(error)) from None

    def headers(self) -> dict[str, str]:
        """Return the request headers that carry the keys.

        Raises:
            RetryableError: a key file cannot be read now, or holds no valid key.
        """
        return {header: _read(source) for header, source in self._sources.items()}


def _read(source: _Source) -> str:
    if source.file is None:
        return _checked(source.value.get_secret_value() if source.value else "", source.name)
    try:
        text = source.file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = type(error).__name__
        raise RetryableError(f"Cannot read key file {source.file}: {reason}") from None
    return _checked(text, f"Key file {source.file}")


def _checked(text: str, source: str) -> str:
    """Return the key without surrounding white space; never send or show an invalid key."""
    key = text.strip()
    if not key:
        raise RetryableError(f"{source} is empty")
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise RetryableError(
            f"{source} contains characters that are not allowed in a key (a key is one line of"
            " printable ASCII without spaces). Copy the key again"
        )
    return key

"""The API's two keys: from the environment, or from files that may be written anew at any time."""

from pathlib import Path

from pydantic import SecretStr

from connector.config import ImednetSettings
from connector.errors import FatalError, RetryableError


class Keys:
    """Read again for each request where they are files: a rotated key needs no restart."""

    def __init__(self, settings: ImednetSettings) -> None:
        """Check that both are there.

        Raises:
            FatalError: one is not set, or its file cannot be read.
        """
        self._sources = {
            "x-api-key": (settings.api_key, settings.api_key_file),
            "x-imn-security-key": (settings.security_key, settings.security_key_file),
        }
        self.are_files = any(file is not None for _, file in self._sources.values())
        if not all(value or file for value, file in self._sources.values()):
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
            RetryableError: a file cannot be read now, or is empty.
        """
        return {name: _read(*source) for name, source in self._sources.items()}


def _read(value: SecretStr | None, file: Path | None) -> str:
    if file is None:
        return value.get_secret_value() if value else ""
    try:
        text = file.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise RetryableError(f"cannot read the key in {file}: {type(error).__name__}") from None
    if not text:
        raise RetryableError(f"the key file {file} is empty")
    return text

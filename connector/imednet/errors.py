"""The SDK's base error, so that errors of ours can be caught as SDK errors."""

from imednet.errors import ImednetError

__all__ = ["ImednetError"]

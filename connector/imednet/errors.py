"""The SDK's base error, for those of ours that its users may catch by it."""

from imednet.errors import ImednetError

__all__ = ["ImednetError"]

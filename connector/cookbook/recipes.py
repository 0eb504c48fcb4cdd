"""Questions and integrity rules about a study, as Cypher files: one sentence, then one query.

A file's name is the name of its query, its first line the sentence. ``$study`` is the study's key.
A rule's query returns what breaks the rule: no rows mean that it holds. ``$subject``, in the
queries that have it, is the key of one subject, or null for all.
"""

from functools import cache
from importlib.resources import files
from typing import NamedTuple

_FOLDERS = ("questions", "rules")


class Recipe(NamedTuple):
    """A question or a rule."""

    name: str
    sentence: str
    cypher: str
    is_rule: bool

    @property
    def takes_subject(self) -> bool:
        """Whether it can be asked about one subject."""
        return "$subject" in self.cypher


@cache
def recipes() -> dict[str, Recipe]:
    """Return all questions, then all rules, by name."""
    found = {}
    for folder in _FOLDERS:
        for file in sorted(
            files(__package__).joinpath(folder).iterdir(), key=lambda each: each.name
        ):
            name = file.name.removesuffix(".cypher")
            first, _, cypher = file.read_text(encoding="utf-8").partition("\n")
            found[name] = Recipe(name, first.removeprefix("// "), cypher, folder == "rules")
    return found

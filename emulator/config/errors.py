"""What can be wrong with a configuration, said so that it can be put right."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong: where, what was expected, what was found."""

    source: str
    """A file, a flag (``--port``) or an environment variable (``FAAS_PORT``)."""
    key: str
    """Dotted: ``functions.hello.memory``, ``routes[2].path``; empty for the source as a whole."""
    expected: str
    found: str
    line: int | None = None
    hint: str = ""

    def __str__(self) -> str:
        where = self.source if self.line is None else f"{self.source}:{self.line}"
        what = f"{where}: {self.key}: " if self.key else f"{where}: "
        hint = f" ({self.hint})" if self.hint else ""
        return f"{what}expected {self.expected}, found {self.found}{hint}"


class ConfigError(Exception):
    """The configuration is refused. Carries every problem, not only the first."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))

"""Reading one table of a configuration file, gathering everything that is wrong."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeVar, overload

from .errors import Problem
from .kinds import Kind, Mismatch, describe, suggest
from .lines import Path

T = TypeVar("T")
D = TypeVar("D")


def dotted(path: Path) -> str:
    out = ""
    for part in path:
        out += f"[{part}]" if isinstance(part, int) else f".{part}" if out else part
    return out


@dataclass(slots=True)
class Report:
    """The problems found so far in one file."""

    source: str
    lines: Mapping[Path, int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def add(self, path: Path, expected: str, found: str, *, hint: str = "") -> None:
        known = path
        while known and known not in self.lines:
            known = known[:-1]
        self.problems.append(
            Problem(self.source, dotted(path), expected, found, self.lines.get(known), hint)
        )


class Table:
    """One table. What has not been taken when ``close`` is called is an unknown key."""

    def __init__(self, value: object, path: Path, report: Report) -> None:
        self.path = path
        self.report = report
        self._taken: dict[str, None] = {}
        self._values: Mapping[str, object] = {}
        if isinstance(value, Mapping):
            self._values = value
        else:
            report.add(path, "a table", describe(value))

    def __contains__(self, key: str) -> bool:
        return key in self._values

    def raw(self, key: str) -> object:
        """The value as it is, None when absent."""
        self._taken[key] = None
        return self._values.get(key)

    @overload
    def take(self, key: str, kind: Kind[T], default: D) -> T | D: ...
    @overload
    def take(self, key: str, kind: Kind[T]) -> T | None: ...
    def take(self, key: str, kind: Kind[T], default: object = None) -> object:
        """The value if it is there and right; ``default`` otherwise. What is wrong is reported."""
        value = self.raw(key)
        if key not in self._values:
            return default
        try:
            return kind.read(value)
        except Mismatch as mismatch:
            self.report.add((*self.path, key), kind.expected, describe(value), hint=mismatch.hint)
            return default

    def close(self) -> None:
        known = list(self._taken)
        for key in self._values:
            if key not in self._taken:
                hint = suggest(key, known) or f"known here: {', '.join(known)}"
                self.report.add((*self.path, key), "a known key", f'the unknown key "{key}"', hint=hint)

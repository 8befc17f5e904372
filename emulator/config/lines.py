"""On which line of a TOML file a key stands.

``tomllib`` keeps no positions, so this walks over the text a second time. It
may assume valid TOML (``tomllib`` has read it before) and needs to know only
headers, keys, and where a value that spans lines ends.
"""

from __future__ import annotations

import re
from collections import Counter

Path = tuple[str | int, ...]

_KEY = re.compile(r"""\s*(?:"((?:[^"\\]|\\.)*)"|'([^']*)'|([A-Za-z0-9_-]+))\s*""")
_SKIP = re.compile(
    r'"""(?:[^\\]|\\.)*?"""|' r"'''.*?'''|" r'"(?:[^"\\\n]|\\.)*"|' r"'[^'\n]*'|#[^\n]*", re.DOTALL
)


def _dotted(text: str, at: int, end: str) -> tuple[list[str], int] | None:
    """The dotted key at ``at``, if ``end`` follows it; and the place behind ``end``."""
    parts: list[str] = []
    while match := _KEY.match(text, at):
        parts.append(next(group for group in match.groups() if group is not None))
        at = match.end()
        if text.startswith(end, at):
            return parts, at + len(end)
        if not text.startswith(".", at):
            return None
        at += 1
    return None


def _end_of_value(text: str, at: int) -> int:
    """Behind the value that begins at ``at``: the first newline outside strings and brackets."""
    depth = 0
    while at < len(text):
        if skip := _SKIP.match(text, at):
            at = skip.end()
            continue
        character = text[at]
        depth += (character in "[{") - (character in "]}")
        if character == "\n" and depth <= 0:
            break
        at += 1
    return at


def key_lines(text: str) -> dict[Path, int]:
    """Every table and key with its line, 1 for the first: ``("routes", 0, "path") -> 7``."""
    lines: dict[Path, int] = {}
    arrays: Counter[Path] = Counter()
    table: Path = ()
    at = 0
    while at < len(text):
        blank = re.compile(r"\s*(?:#[^\n]*)?").match(text, at)
        if blank and blank.end() > at:
            at = blank.end()
            continue
        line = text.count("\n", 0, at) + 1
        if text.startswith("[[", at) and (header := _dotted(text, at + 2, "]]")):
            name = (*_within_arrays(tuple(header[0][:-1]), arrays), header[0][-1])
            table, at = (*name, arrays[name]), header[1]
            arrays[name] += 1
            lines.setdefault(name, line)
            lines[table] = line
        elif text.startswith("[", at) and (header := _dotted(text, at + 1, "]")):
            table, at = _within_arrays(tuple(header[0]), arrays), header[1]
            lines[table] = line
        elif assignment := _dotted(text, at, "="):
            path = table
            for part in assignment[0]:
                path = (*path, part)
                lines.setdefault(path, line)
            at = _end_of_value(text, assignment[1])
        else:
            at = _end_of_value(text, at) + 1
    return lines


def _within_arrays(names: tuple[str, ...], arrays: Counter[Path]) -> Path:
    """``[routes.x]`` after ``[[routes]]`` belongs to the last of them."""
    path: Path = ()
    for name in names:
        path = (*path, name)
        if path in arrays:
            path = (*path, arrays[path] - 1)
    return path

"""How things look on a terminal: tables, sizes, ages, colours."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Sequence
from typing import Any, TextIO

_COLOURS = {"red": "31", "green": "32", "yellow": "33", "blue": "34", "dim": "2", "bold": "1"}


def colour(text: str, name: str, stream: TextIO | None = None) -> str:
    """Coloured if ``stream`` (stdout) is a terminal that can, and ``NO_COLOR`` is not set."""
    stream = stream or sys.stdout
    if not stream.isatty() or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return text
    return f"\x1b[{_COLOURS[name]}m{text}\x1b[0m"


def print_json(value: Any) -> None:
    print(json.dumps(value, indent=2, ensure_ascii=False))


def print_table(heads: Sequence[str], rows: Iterable[Sequence[str]], *, right: Sequence[str] = ()) -> None:
    """Columns as wide as they need to be; those named in ``right`` are aligned there."""
    table = [list(row) for row in rows]
    widths = [max(len(cell) for cell in column) for column in zip(heads, *table, strict=True)]
    for index, row in enumerate([list(heads), *table]):
        cells = [
            cell.rjust(width) if head in right else cell.ljust(width)
            for head, cell, width in zip(heads, row, widths, strict=True)
        ]
        line = "  ".join(cells).rstrip()
        print(colour(line, "dim") if index == 0 else line)


def megabytes(value: float | None) -> str:
    return "-" if value is None else f"{value / 2**20:.1f} MB"


def span(seconds: float | None) -> str:
    """``0.4s``, ``12s``, ``3m20s``, ``2h05m``."""
    if seconds is None:
        return "-"
    if seconds < 10:
        return f"{seconds:.1f}s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02}m"


def count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"

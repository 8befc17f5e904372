"""The kinds of value a setting may have, and the words for what was expected.

A ``Kind`` judges one value as TOML delivers it, or as text from the
environment. It knows nothing of files, lines or other settings.
"""

from __future__ import annotations

import datetime
import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


class Mismatch(Exception):
    """The value is not of this kind. ``hint`` helps to put it right."""

    def __init__(self, hint: str = "") -> None:
        self.hint = hint
        super().__init__(hint)


@dataclass(frozen=True, slots=True)
class Kind(Generic[T]):
    """``expected`` finishes the sentence "expected …"; ``read`` raises Mismatch."""

    expected: str
    read: Callable[[object], T]
    from_text: Callable[[str], object] = str
    """Text of an environment variable or flag to what TOML would have delivered."""


def describe(value: object) -> str:
    """A value as its writer would recognise it, short enough for one line."""
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            return json.dumps(value if len(value) <= 60 else value[:57] + "...", ensure_ascii=False)
        case int() | float():
            return str(value)
        case list():
            return "an empty list" if not value else f"a list ({describe(value[0])}, …)"
        case Mapping():
            return "a table"
        case datetime.date() | datetime.time():
            return f"the date or time {value}"
        case _:
            return repr(value)


def _number_of(text: str) -> object:
    for convert in (int, float):
        try:
            return convert(text)
        except ValueError:
            continue
    return text


def whole(low: int, high: int | None = None, *, unit: str = "") -> Kind[int]:
    """A whole number from ``low`` to ``high``; ``3.0`` counts as one, ``true`` does not."""
    def read(value: object) -> int:
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool):
            raise Mismatch("without the quotes" if isinstance(value, str) and value.isdecimal() else "")
        if value < low or (high is not None and value > high):
            raise Mismatch
        return value

    span = f"from {low} to {high}" if high is not None else f"of at least {low}"
    return Kind(f"a whole number {span}{f' ({unit})' if unit else ''}", read, _number_of)


def number(low: float, *, unit: str) -> Kind[float]:
    """A number of at least ``low``; ``inf`` is one."""
    def read(value: object) -> float:
        if not isinstance(value, int | float) or isinstance(value, bool) or math.isnan(value) or value < low:
            raise Mismatch
        return float(value)

    return Kind(f"a number of at least {low:g} ({unit})", read, _number_of)


def text(expected: str = "a string", pattern: str = r"(?s).*") -> Kind[str]:
    """A string that matches ``pattern`` as a whole."""
    def read(value: object) -> str:
        if not isinstance(value, str) or not re.fullmatch(pattern, value):
            raise Mismatch
        return value

    return Kind(expected, read)


def one_of(*values: str) -> Kind[str]:
    def read(value: object) -> str:
        if not isinstance(value, str) or value not in values:
            near = suggest(value, values) if isinstance(value, str) else ""
            raise Mismatch(near)
        return value

    return Kind(" or ".join(json.dumps(value) for value in values), read)


def flag() -> Kind[bool]:
    def read(value: object) -> bool:
        if not isinstance(value, bool):
            raise Mismatch("without the quotes" if value in ("true", "false") else "")
        return value

    words: dict[str, object] = {
        "1": True, "true": True, "yes": True, "on": True,
        "0": False, "false": False, "no": False, "off": False, "": False,
    }
    return Kind("true or false", read, lambda text: words.get(text.strip().lower(), text))


def globs() -> Kind[tuple[str, ...]]:
    def read(value: object) -> tuple[str, ...]:
        if not isinstance(value, list) or not all(isinstance(item, str) and item for item in value):
            raise Mismatch('write it as ["..."]' if isinstance(value, str) else "")
        return tuple(value)

    return Kind("a list of glob patterns", read)


def suggest(word: str, known: tuple[str, ...] | list[str]) -> str:
    """``did you mean "memory"?``, or nothing when nothing is near."""
    import difflib

    near = difflib.get_close_matches(word.lower().replace("-", "_"), known, n=1, cutoff=0.6)
    return f"did you mean {json.dumps(near[0])}?" if near else ""

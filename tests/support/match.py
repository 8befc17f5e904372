"""Compares an answer with an ``expected.json``.

Everything must be equal, but for objects with exactly one of these keys:

- ``{"$match": "regex"}``: a string in which the expression is found
- ``{"$type": "string"}``: any value of that JSON type (``string``, ``number``,
  ``integer``, ``boolean``, ``array``, ``object``, ``null``)
"""

from __future__ import annotations

import re

_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "number": (int, float),
    "integer": (int,),
    "boolean": (bool,),
    "array": (list,),
    "object": (dict,),
    "null": (type(None),),
}


def differences(expected: object, actual: object, path: str = "$") -> list[str]:
    """One line per difference, none when it matches."""
    if isinstance(expected, dict) and len(expected) == 1:
        if (pattern := expected.get("$match")) is not None:
            found = isinstance(actual, str) and re.search(pattern, actual)
            return [] if found else [f"{path}: {actual!r} does not match {pattern!r}"]
        if (name := expected.get("$type")) is not None:
            fits = isinstance(actual, _TYPES[name]) and (name == "boolean" or not isinstance(actual, bool))
            return [] if fits else [f"{path}: {actual!r} is not of type {name}"]
    if isinstance(expected, dict) and isinstance(actual, dict):
        lines = [f"{path}.{key}: missing" for key in expected.keys() - actual.keys()]
        lines += [f"{path}.{key}: not expected" for key in actual.keys() - expected.keys()]
        for key in expected.keys() & actual.keys():
            lines += differences(expected[key], actual[key], f"{path}.{key}")
        return sorted(lines)
    if isinstance(expected, list) and isinstance(actual, list) and len(expected) == len(actual):
        return [
            line
            for index, (one, other) in enumerate(zip(expected, actual, strict=True))
            for line in differences(one, other, f"{path}[{index}]")
        ]
    same = type(expected) is type(actual) and expected == actual
    return [] if same else [f"{path}: expected {expected!r}, got {actual!r}"]

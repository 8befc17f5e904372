"""The matcher finds what differs, and only that."""

from __future__ import annotations

import pytest

from tests.support.match import differences


@pytest.mark.parametrize(
    ("expected", "actual"),
    [
        ({"a": [1, "x", None]}, {"a": [1, "x", None]}),
        ({"a": {"$match": "^go[0-9]"}}, {"a": "go1.26"}),
        ({"$type": "number"}, 1.5),
        ({"$type": "boolean"}, True),
        ({"$type": "null"}, None),
    ],
)
def test_matches(expected: object, actual: object) -> None:
    assert differences(expected, actual) == []


@pytest.mark.parametrize(
    ("expected", "actual", "lines"),
    [
        ({"a": 1}, {"b": 1}, ["$.a: missing", "$.b: not expected"]),
        ({"a": {"$match": "^go"}}, {"a": "rust"}, ["$.a: 'rust' does not match '^go'"]),
        ({"$match": "1"}, 1, ["$: 1 does not match '1'"]),
        ({"$type": "integer"}, True, ["$: True is not of type integer"]),
        ([1, 2], [1], ["$: expected [1, 2], got [1]"]),
        ([1, {"a": 2}], [1, {"a": 3}], ["$[1].a: expected 2, got 3"]),
        (1, True, ["$: expected 1, got True"]),
    ],
)
def test_differs(expected: object, actual: object, lines: list[str]) -> None:
    assert differences(expected, actual) == lines

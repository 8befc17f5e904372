"""Function names as AWS accepts them: plain, partial ARN, full ARN, each with an optional qualifier."""

from __future__ import annotations

import re
from dataclasses import dataclass

_NAME = r"(?P<name>[a-zA-Z0-9-_]+)"
_QUALIFIER = r"(?::(?P<qualifier>\$LATEST|[a-zA-Z0-9-_]+))?"
_FORMS = re.compile(
    rf"(?:arn:(?P<partition>aws[a-zA-Z-]*):lambda:(?P<region>[a-z]{{2}}(?:-[a-z]+)+-\d):)?"
    rf"(?:(?P<account>\d{{12}}):)?(?:function:)?{_NAME}{_QUALIFIER}"
)
_PATTERN = (
    r"(arn:(aws[a-zA-Z-]*)?:lambda:)?((eusc-)?[a-z]{2}(-gov)?-[a-z]+-\d{1}:)?(\d{12}:)?(function:)?"
    r"([a-zA-Z0-9-_\.]+)(:(\$LATEST|[a-zA-Z0-9-_]+))?"
)
"""As the service words it in its validation message."""
_INVOKE_LIMIT = 170


@dataclass(frozen=True, slots=True)
class Target:
    """A function as a caller named it. None: not said."""

    name: str
    qualifier: str | None = None
    account: str | None = None
    region: str | None = None


class BadName(ValueError):
    """Not a function's name in any form. The message is AWS' constraint violation."""


def parse(text: str) -> Target:
    """Raises BadName."""
    if len(text) > _INVOKE_LIMIT:
        raise BadName(
            f"Value '{text}' at 'functionName' failed to satisfy constraint: "
            f"Member must have length less than or equal to {_INVOKE_LIMIT}"
        )
    match = _FORMS.fullmatch(text)
    if match is None or len(match["name"]) > 64:
        raise BadName(
            f"Value '{text}' at 'functionName' failed to satisfy constraint: "
            f"Member must satisfy regular expression pattern: {_PATTERN}"
        )
    return Target(match["name"], match["qualifier"], match["account"], match["region"])


def function_arn(name: str, *, region: str, account: str, qualifier: str | None = None) -> str:
    arn = f"arn:aws:lambda:{region}:{account}:function:{name}"
    return f"{arn}:{qualifier}" if qualifier else arn

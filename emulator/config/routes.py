"""HTTP routes: which request goes to which function, and what a route may look like."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

from .kinds import one_of, suggest, text
from .tables import Report, Table

METHODS = ("ANY", "GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS")

_STATIC = r"[A-Za-z0-9._~!$&'()*+,;=:@%-]+"
_PARAMETER = r"\{[A-Za-z_][A-Za-z0-9_.-]*\}"
_GREEDY = r"\{[A-Za-z_][A-Za-z0-9_.-]*\+\}"
PATH = rf"\$default|(?=/)(/({_STATIC}|{_PARAMETER}))*(/({_GREEDY})?)?"
"""Every path a route may have. The JSON Schema carries the same expression."""

_METHOD = one_of(*METHODS)
_PATH = text(
    'a path such as "/", "/pets/{id}", "/files/{proxy+}" (greedy only at the end) or "$default"', PATH
)


@dataclass(frozen=True, slots=True)
class Route:
    """``$default`` (method ``ANY``) takes what no other route takes."""

    method: str
    """``ANY`` or an upper-case HTTP method."""
    path: str
    """``/thumbnails/{size}``, ``/files/{proxy+}`` or ``$default``."""
    function: str

    @property
    def key(self) -> str:
        """As the platform writes it: ``GET /thumbnails/{size}``."""
        return self.path if self.path == "$default" else f"{self.method} {self.path}"

    @property
    def shape(self) -> str:
        """Equal for routes that would take the same requests: names of parameters don't count."""
        return re.sub(r"\{[^}+]*(\+?)\}", r"{\1}", self.key)


def read_routes(value: object, functions: Collection[str], report: Report) -> tuple[Route, ...]:
    """The ``[[routes]]`` of a file. ``functions`` are the names that exist."""
    if not isinstance(value, list):
        report.add(("routes",), "a list of tables, each under [[routes]]", "something else")
        return ()
    routes: list[Route] = []
    seen: dict[str, int] = {}
    for index, item in enumerate(value):
        route = _read_route(Table(item, ("routes", index), report), functions)
        if route is None:
            continue
        if route.shape in seen:
            report.add(
                ("routes", index, "path"), "a route that is not there yet",
                f'"{route.key}", which takes the same requests as routes[{seen[route.shape]}]',
            )
            continue
        seen[route.shape] = index
        routes.append(route)
    return tuple(routes)


def _read_route(table: Table, functions: Collection[str]) -> Route | None:
    report, at = table.report, table.path
    before = len(report.problems)
    for key in ("path", "function"):
        if key not in table:
            report.add((*at, key), f"the {key} of the route", "nothing")
    path = table.take("path", _PATH)
    method = table.take("method", _METHOD, "ANY")
    function = table.take("function", text("the name of a function"))
    table.close()
    if path is not None:
        names = re.findall(r"\{([^}+]*)", path)
        if twice := next((name for name in names if names.count(name) > 1), None):
            report.add((*at, "path"), "parameters with different names", f'"{{{twice}}}" twice in "{path}"')
        if path == "$default" and method != "ANY":
            report.add((*at, "method"), 'no method beside the path "$default"', f'"{method}"')
    if function is not None and function not in functions:
        known = ", ".join(functions) or "none"
        report.add((*at, "function"), "a function of this file", f'"{function}"',
                   hint=suggest(function, list(functions)) or f"there are: {known}")
    if len(report.problems) > before or path is None or function is None:
        return None
    return Route(method, path, function)


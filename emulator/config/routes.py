"""HTTP routes: which request goes to which function, and what a route may look like."""

from __future__ import annotations

import re
from collections.abc import Collection

from emulator.core.model import Route

from .kinds import suggest, text
from .tables import Report, Table

METHODS = ("ANY", "GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS")

_STATIC = r"[A-Za-z0-9._~!$&'()*+,;=:@%-]+"
_PARAMETER = r"\{[A-Za-z_][A-Za-z0-9_.-]*\}"
_GREEDY = r"\{[A-Za-z_][A-Za-z0-9_.-]*\+\}"
PATH = rf"(?=/)(/({_STATIC}|{_PARAMETER}))*(/({_GREEDY})?)?"
ROUTE = rf"\$default|({'|'.join(METHODS)}) {PATH}"
"""Every route key, as the platform writes it. The JSON Schema carries the same expression."""

_ROUTE = text(
    'a route such as "GET /", "ANY /pets/{id}", "POST /files/{proxy+}" (greedy only at the end) or "$default"', ROUTE
)


def _shape(route: Route) -> str:
    """Equal for routes that would take the same requests: names of parameters don't count."""
    return re.sub(r"\{[^}+]*(\+?)\}", r"{\1}", route.key)


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
        if _shape(route) in seen:
            report.add(
                ("routes", index, "route"), "a route that is not there yet",
                f'"{route.key}", which takes the same requests as routes[{seen[_shape(route)]}]',
            )
            continue
        seen[_shape(route)] = index
        routes.append(route)
    return tuple(routes)


def _read_route(table: Table, functions: Collection[str]) -> Route | None:
    report, at = table.report, table.path
    before = len(report.problems)
    for key in ("route", "function"):
        if key not in table:
            report.add((*at, key), f"the {key} of the table", "nothing")
    written = table.take("route", _ROUTE)
    function = table.take("function", text("the name of a function"))
    table.close()
    method, _, path = "ANY $default".partition(" ") if written == "$default" else (written or "").partition(" ")
    names = re.findall(r"\{([^}+]*)", path)
    if twice := next((name for name in names if names.count(name) > 1), None):
        report.add((*at, "route"), "parameters with different names", f'"{{{twice}}}" twice in "{written}"')
    if function is not None and function not in functions:
        known = ", ".join(functions) or "none"
        report.add((*at, "function"), "a function of this file", f'"{function}"',
                   hint=suggest(function, list(functions)) or f"there are: {known}")
    if len(report.problems) > before or written is None or function is None:
        return None
    return Route(method, path, function)


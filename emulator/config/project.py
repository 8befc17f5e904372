"""The reader of ``faas.toml``: a folder with functions in it becomes a ``Project``."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from emulator.core.model import Route

from .errors import ConfigError, Problem
from .functions import FunctionConfig, read_defaults, read_function
from .kinds import describe
from .lines import key_lines
from .routes import read_routes
from .settings import KINDS, Settings, make_settings
from .tables import Report, Table

FILE = "faas.toml"

UNRESERVED_MINIMUM = 100
"""Concurrency of the account that reserving may not touch.
https://docs.aws.amazon.com/lambda/latest/dg/configuration-concurrency.html"""


@dataclass(frozen=True, slots=True)
class Project:
    """A folder of functions, judged and found right."""

    root: Path
    """Absolute. Relative paths of the file are meant from here."""
    file: Path | None = None
    """None: no ``faas.toml``, an empty cloud."""
    functions: tuple[FunctionConfig, ...] = ()
    routes: tuple[Route, ...] = ()
    settings: Mapping[str, object] = field(default_factory=dict)
    """What ``[emulator]`` says, for ``make_settings``."""
    warnings: tuple[str, ...] = ()


def load(
    path: Path, *, flags: Mapping[str, object] | None = None, environ: Mapping[str, str] | None = None
) -> tuple[Settings, Project]:
    """Settings and project together: what ``faas up PATH`` needs. Raises ConfigError."""
    problems: list[Problem] = []
    settings, project = Settings(), Project(path.absolute())
    try:
        settings = make_settings(flags=flags, environ=environ)
    except ConfigError as error:
        problems += error.problems
    given = (flags or {}).get("account_concurrency") or (environ or {}).get("FAAS_ACCOUNT_CONCURRENCY")
    try:
        project = load_project(path, account_concurrency=settings.account_concurrency if given else None)
    except ConfigError as error:
        problems += error.problems
    if problems:
        raise ConfigError(problems)
    return make_settings(flags=flags, environ=environ, file=project.settings, root=project.root), project


def load_project(path: Path, *, account_concurrency: int | None = None) -> Project:
    """Read a folder with or without ``faas.toml``, or such a file under any name.

    ``account_concurrency`` is stronger than the file's. Raises ConfigError.
    """
    path = path.absolute()
    file = path / FILE if path.is_dir() else path
    if path.is_dir() and not file.is_file():
        return Project(path, warnings=(f"no {FILE} in {path}: starting without functions",))
    if path.suffix != ".toml" and not path.is_dir():
        what = "a file of another kind" if path.exists() else "nothing there"
        raise ConfigError([Problem(str(path), "", f"a folder or a {FILE}", what)])
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError([Problem(str(path), "", f"a readable {FILE}", str(error))]) from error
    report = Report(_name(file))
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError([_syntax_problem(report.source, error)]) from error
    report.lines = key_lines(text)
    project = _read(values, file, report, account_concurrency)
    if report.problems:
        raise ConfigError(sorted(report.problems, key=lambda problem: problem.line or 0))
    return project


def _name(file: Path) -> str:
    """Short when it is below the working folder, so that messages can be read and clicked."""
    try:
        return str(file.relative_to(Path.cwd()))
    except ValueError:
        return str(file)


def _syntax_problem(source: str, error: tomllib.TOMLDecodeError) -> Problem:
    message, _, place = str(error).partition(" (at ")
    digits = place.partition("line ")[2].partition(",")[0]
    line = int(digits) if digits.isdecimal() else None
    return Problem(source, "", "valid TOML", f"a mistake: {message}", line)


def _read(values: Mapping[str, object], file: Path, report: Report, account: int | None) -> Project:
    top = Table(values, (), report)
    emulator = Table(top.raw("emulator") or {}, ("emulator",), report)
    taken: dict[str, Any] = {key: emulator.take(key, kind) for key, kind in KINDS.items()}
    settings = {key: value for key, value in taken.items() if value is not None}
    emulator.close()
    if "home" in settings:
        settings["home"] = file.parent / Path(str(settings["home"])).expanduser()
    raw_defaults, raw_routes = top.raw("defaults"), top.raw("routes")
    defaults = read_defaults({} if raw_defaults is None else raw_defaults, file.parent, report)
    named = top.raw("functions")
    if named is not None and not isinstance(named, Mapping):
        report.add(("functions",), "tables, each under [functions.NAME]", describe(named))
    named = named if isinstance(named, Mapping) else {}
    functions = [
        function for name, value in named.items()
        if (function := read_function(name, value, defaults, file.parent, report))
    ]
    limit = account or settings.get("account_concurrency") or Settings().account_concurrency
    _check_reserved(functions, limit, report)
    routes = read_routes([] if raw_routes is None else raw_routes, tuple(named), report)
    top.close()
    return Project(file.parent, file, tuple(functions), routes, settings)


def _check_reserved(functions: list[FunctionConfig], limit: int, report: Report) -> None:
    """What may be reserved leaves 100 for all others (all of it where the account has less)."""
    kept = min(UNRESERVED_MINIMUM, limit)
    left = limit - kept
    for function in functions:
        if (wanted := function.reserved_concurrency) is None:
            continue
        if wanted > left:
            report.add(
                ("functions", function.name, "reserved_concurrency"),
                f"at most {left}, so that {kept} of the account's {limit} stay unreserved",
                str(wanted), hint="account_concurrency in [emulator] raises the limit",
            )
        left -= min(wanted, left)

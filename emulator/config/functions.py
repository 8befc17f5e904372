"""One function of ``faas.toml``: what may be said about it, and whether it makes sense."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from emulator.core.model import Network
from emulator.registry.sources import Source

from .handlers import handler_problem
from .kinds import Kind, Mismatch, describe, globs, number, one_of, suggest, text, whole
from .tables import Report, Table

RUNTIMES = (
    *(f"python3.{minor}" for minor in range(8, 16)),
    *(f"nodejs{major}.x" for major in range(16, 27, 2)),
    "provided.al2", "provided.al2023",
)
NAME = r"[A-Za-z0-9_-]{1,64}"
VARIABLE = r"[A-Za-z][A-Za-z0-9_]+"
RESERVED_VARIABLES = frozenset({
    "AWS_ACCESS_KEY", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN", "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_DEFAULT_REGION", "AWS_EXECUTION_ENV", "AWS_REGION",
    "AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "AWS_LAMBDA_FUNCTION_NAME", "AWS_LAMBDA_FUNCTION_VERSION",
    "AWS_LAMBDA_INITIALIZATION_TYPE", "AWS_LAMBDA_LOG_GROUP_NAME", "AWS_LAMBDA_LOG_STREAM_NAME",
    "AWS_LAMBDA_MAX_CONCURRENCY", "AWS_LAMBDA_METADATA_API", "AWS_LAMBDA_METADATA_TOKEN",
    "AWS_LAMBDA_RUNTIME_API", "LAMBDA_RUNTIME_DIR", "LAMBDA_TASK_ROOT",
    "_HANDLER", "_X_AMZN_TRACE_ID", "_AWS_XRAY_DAEMON_ADDRESS", "_AWS_XRAY_DAEMON_PORT",
})
"""What the platform sets itself and lets nobody override.
https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html"""
ENVIRONMENT_LIMIT = 4096
"""Bytes of all variables as JSON.
https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html"""


@dataclass(frozen=True, slots=True)
class FunctionConfig:
    """A function as configured, not yet packaged. Units as in ``core.model.Version``."""

    name: str
    runtime: str
    handler: str
    """Empty only for ``provided.*``."""
    code: Path
    """Absolute: a folder or a zip file."""
    memory: int = 128
    timeout: int = 3
    environment: Mapping[str, str] = field(default_factory=dict)
    ephemeral_storage: int = 512
    reserved_concurrency: int | None = None
    keep_alive: float = 300.0
    network: Network = "default"
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    requirements: Path | None = None
    """Absolute. Named in the file, or ``requirements.txt`` in the code folder."""
    prewarm: int = 0
    """Instances to start before anyone asks."""
    description: str = ""

    @property
    def source(self) -> Source:
        """The code as the store and the watcher want to know it."""
        also = (self.requirements,) if self.requirements else ()
        return Source(self.code, self.include, self.exclude, also)


def _runtime() -> Kind[str]:
    def read(value: object) -> str:
        if not isinstance(value, str):
            raise Mismatch
        if value == "python3":
            return f"python3.{sys.version_info.minor}"
        if value in RUNTIMES:
            return value
        if re.match(r"(java|dotnet|dotnetcore|ruby|go|php)[0-9.]", value):
            raise Mismatch("the platform knows it, this emulator does not run it: "
                           "put an executable named bootstrap beside it and use provided.al2023")
        raise Mismatch(suggest(value, list(RUNTIMES)))

    known = (
        "python3 (the one that runs here), python3.8 to python3.15, nodejs16.x to nodejs26.x, provided.al2, "
        "provided.al2023"
    )
    return Kind(f"a runtime ({known})", read)


KINDS: Mapping[str, Kind[Any]] = {
    "runtime": _runtime(),
    "handler": text("a handler of at most 128 characters without spaces", r"\S{1,128}"),
    "code": text("the path of a folder or a zip file", r".+"),
    "memory": whole(128, 10240, unit="MB"),
    "timeout": whole(1, 900, unit="seconds"),
    "ephemeral_storage": whole(512, 10240, unit="MB of /tmp"),
    "reserved_concurrency": whole(0),
    "keep_alive": number(0, unit="seconds"),
    "network": one_of("default", "none"),
    "include": globs(),
    "exclude": globs(),
    "prewarm": whole(0),
    "description": text("a text of at most 256 characters", r"(?s).{0,256}"),
}
"""What each key may be. ``environment`` and ``requirements`` are judged apart."""

_VALUES = ("memory", "timeout", "ephemeral_storage", "reserved_concurrency", "keep_alive", "network",
           "include", "exclude", "prewarm", "description")


def read_defaults(value: object, root: Path, report: Report) -> dict[str, Any]:
    """The ``[defaults]``: any key of a function but ``code``, for functions that don't say."""
    table = Table(value, ("defaults",), report)
    found: dict[str, Any] = {}
    for key in ("runtime", "handler", *_VALUES):
        if (taken := table.take(key, KINDS[key])) is not None:
            found[key] = taken
    found["environment"] = _read_environment(table, {}, report)
    if (requirements := _read_requirements(table, root, report)) is not None:
        found["requirements"] = requirements
    table.close()
    return found


def read_function(
    name: str, value: object, defaults: Mapping[str, Any], root: Path, report: Report
) -> FunctionConfig | None:
    """One ``[functions.NAME]``; None if something is wrong with it, which is then reported."""
    before = len(report.problems)
    table = Table(value, ("functions", name), report)
    if not re.fullmatch(NAME, name):
        report.add(table.path, "a name of 1 to 64 letters, digits, - and _", f'"{name}"')
    values: dict[str, Any] = {
        key: table.take(key, KINDS[key], defaults.get(key)) for key in ("runtime", "handler", *_VALUES)
    }
    written: str | None = table.take("code", KINDS["code"])
    environment = _read_environment(table, defaults.get("environment", {}), report)
    requirements = _read_requirements(table, root, report)
    if requirements is None:
        requirements = defaults.get("requirements")
    for key in ("runtime", "code", "handler"):
        bare = str(values["runtime"]).startswith("provided.") and key == "handler"
        if key not in table and key not in defaults and not bare:
            report.add((*table.path, key), KINDS[key].expected, "nothing")
    table.close()
    code = root / written if written else None
    if code is not None and not (code.is_dir() or (code.is_file() and code.suffix in (".zip", ".jar"))):
        report.add((*table.path, "code"), "a folder or a zip file",
                   f'"{written}", which is {"neither" if code.exists() else "not there"}', hint=str(code))
        code = None
    runtime, handler = values.pop("runtime"), values.pop("handler") or ""
    if code and runtime and (handler or runtime.startswith("provided.")):
        source = Source(code, values["include"] or (), values["exclude"] or ())
        if problem := handler_problem(runtime, handler, source):
            report.add((*table.path, problem[0]), problem[1], problem[2])
    if len(report.problems) > before or code is None or runtime is None:
        return None
    if requirements is None and runtime.startswith("python") and (code / "requirements.txt").is_file():
        requirements = code / "requirements.txt"
    return FunctionConfig(
        name=name, runtime=runtime, handler=handler, code=code, environment=environment,
        requirements=requirements if isinstance(requirements, Path) else None,
        **{key: value for key, value in values.items() if value is not None},
    )


def _read_environment(table: Table, inherited: Mapping[str, str], report: Report) -> dict[str, str]:
    """``[….environment]`` over what ``[defaults.environment]`` says."""
    path = (*table.path, "environment")
    value = table.raw("environment")
    if value is None:
        return dict(inherited)
    if not isinstance(value, Mapping):
        report.add(path, "a table of strings", describe(value))
        return dict(inherited)
    found = dict(inherited)
    for name, content in value.items():
        if not re.fullmatch(VARIABLE, name):
            expected = "a name of at least two letters, digits and _ that begins with a letter"
            report.add((*path, name), expected, f'"{name}"')
        elif name in RESERVED_VARIABLES:
            report.add((*path, name), "a name that the platform does not set itself", f'"{name}"')
        elif not isinstance(content, str):
            report.add((*path, name), "a string", describe(content), hint="put it in quotes")
        else:
            found[name] = content
    size = len(json.dumps(found, separators=(",", ":"), ensure_ascii=False).encode())
    if size > ENVIRONMENT_LIMIT:
        report.add(path, f"at most {ENVIRONMENT_LIMIT} bytes for all variables together", f"{size} bytes")
    return found


def _read_requirements(table: Table, root: Path, report: Report) -> Path | bool | None:
    """A path, False to install nothing, None if nothing is said."""
    value = table.raw("requirements")
    if value is None or value is False:
        return value
    path = (*table.path, "requirements")
    if not isinstance(value, str) or not value:
        report.add(path, "the path of a requirements file, or false to install nothing", describe(value))
        return None
    if not (root / value).is_file():
        report.add(path, "a requirements file", f'"{value}", which is not there', hint=str(root / value))
        return None
    return root / value

"""The emulator's own settings: one frozen value from flags, environment, file and defaults."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

from .errors import ConfigError, Problem
from .kinds import Kind, Mismatch, describe, flag, one_of, text, whole

PROFILES = ("aws",)
"""Provider presets. "aws" is what runs when none is named."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything about the emulator that is not about one function."""

    host: str = "127.0.0.1"
    port: int = 3000
    """The HTTP gateway; 0 picks a free port."""
    api_port: int = 4566
    """The cloud's own API; 0 picks a free port."""
    sandbox: Literal["auto", "docker", "process"] = "auto"
    home: Path = Path(".faas")
    """State and code store. Absolute once it has been through ``make_settings``."""
    profile: str | None = None
    strict: bool = False
    """What a sandbox can't enforce here is refused, not warned about."""
    log_format: Literal["text", "json"] = "text"
    account: str = "000000000000"
    region: str = "us-east-1"
    account_concurrency: int = 1000
    memory_capacity: int | None = None
    """MB that all instances together may be configured with. None: no bound."""
    parallel_starts: int = 32
    """Instances that may be starting at the same time."""
    cpu_limit: bool = False
    """Give an instance only the CPU share that its memory buys (1,769 MB = 1 vCPU)."""
    watch: bool = True
    """Take over changed code while running."""


KINDS: Mapping[str, Kind[Any]] = {
    "host": text("a host name or address", r"[A-Za-z0-9.:_-]+"),
    "port": whole(0, 65535),
    "api_port": whole(0, 65535),
    "sandbox": one_of("auto", "docker", "process"),
    "home": text("a path", r".+"),
    "profile": one_of(*PROFILES),
    "strict": flag(),
    "log_format": one_of("text", "json"),
    "account": text("an account number of 12 digits, in quotes", r"[0-9]{12}"),
    "region": text('a region such as "us-east-1"', r"[a-z]{2}(-[a-z]+)+-[0-9]+"),
    "account_concurrency": whole(1),
    "memory_capacity": whole(128, unit="MB"),
    "parallel_starts": whole(1),
    "cpu_limit": flag(),
    "watch": flag(),
}
"""What each setting may be, whatever it comes from."""


def make_settings(
    *,
    flags: Mapping[str, object] | None = None,
    environ: Mapping[str, str] | None = None,
    file: Mapping[str, object] | None = None,
    root: Path | None = None,
) -> Settings:
    """Flags over environment (``FAAS_PORT``) over file over defaults.

    ``flags`` with the value None were not given. ``file`` is ``Project.settings``,
    already judged. A relative ``home`` of flag or environment is meant from the
    working folder, one of the file (and the default) from ``root``. Raises
    ConfigError with every problem.
    """
    flags, environ = flags or {}, environ or {}
    root = root or Path.cwd()
    values: dict[str, Any] = {"home": root / ".faas", **(file or {})}
    problems: list[Problem] = []
    for name in (field.name for field in fields(Settings)):
        given, source = flags.get(name), "--" + name.replace("_", "-")
        if given is None:
            source = "FAAS_" + name.upper()
            given = environ.get(source) or None  # set to nothing is not set, as shells do it
        if given is None:
            continue
        kind = KINDS[name]
        try:
            values[name] = kind.read(kind.from_text(given) if isinstance(given, str) else given)
        except Mismatch as mismatch:
            problems.append(Problem(source, "", kind.expected, describe(given), hint=mismatch.hint))
    if problems:
        raise ConfigError(problems)
    values["home"] = Path(values["home"]).expanduser().absolute()
    return Settings(**values)

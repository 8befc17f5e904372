"""Writes small projects (code and ``faas.toml``) for tests to run."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import dedent
from typing import Any


@dataclass
class Project:
    """A folder with functions. ``write()`` before starting a cloud on it; returns the folder."""

    root: Path
    functions: dict[str, dict[str, Any]] = field(default_factory=dict)
    routes: list[tuple[str, str]] = field(default_factory=list)

    def function(self, name: str, code: str | None = None, *, folder: str | None = None, **settings: Any) -> Project:
        """``code`` is the text of ``app.py``; without it ``folder`` names another function's."""
        folder = folder or name
        if code is not None:
            self.edit(folder, code)
        base = {"code": folder, "runtime": "python3.11", "handler": "app.handler"}
        self.functions[name] = base | settings
        return self

    def route(self, key: str, function: str) -> Project:
        self.routes.append((key, function))
        return self

    def edit(self, folder: str, code: str) -> Path:
        """Replace the code, as an editor would."""
        file = self.root / folder / "app.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(dedent(code))
        return file

    def write(self) -> Path:
        lines = []
        for name, settings in self.functions.items():
            lines.append(f"[functions.{name}]")
            lines += [f"{key} = {_toml(value)}" for key, value in settings.items()]
        for key, function in self.routes:
            lines += ["[[routes]]", f"route = {_toml(key)}", f"function = {_toml(function)}"]
        (self.root / "faas.toml").write_text("\n".join(lines) + "\n")
        return self.root


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_toml(item)}" for key, item in value.items()) + " }"
    return json.dumps(value)

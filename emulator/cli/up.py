"""``faas up``: the cloud in the foreground."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from . import FAILED

if TYPE_CHECKING:
    from emulator.config import Project, Settings


def up(arguments: argparse.Namespace) -> int:
    settings, project = configured(arguments)
    from emulator.app import serve

    try:
        return serve(settings, project)
    except expected_failures() as error:
        print(f"faas: {error}", file=sys.stderr)
        return FAILED


def configured(arguments: argparse.Namespace) -> tuple[Settings, Project]:
    """Settings and project of the arguments; warnings go to stderr. Raises ConfigError."""
    from emulator.config import load

    settings, project = load(Path(arguments.path), flags=vars(arguments), environ=os.environ)
    for warning in project.warnings:
        print(f"faas: {warning}", file=sys.stderr)
    return settings, project


def expected_failures() -> tuple[type[Exception], ...]:
    """What a person can put right; everything else is a bug and deserves its traceback."""
    from emulator.registry.sources import PackageError
    from emulator.sandbox.protocol import BackendUnavailable, LaunchFailed

    return BackendUnavailable, LaunchFailed, PackageError, OSError

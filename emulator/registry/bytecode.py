"""Compiling Python ahead of time, because ``/var/task`` can't be written by an instance.

Without it every cold start compiles every module of the function again. The
bytecode is marked "unchecked": the store never changes, so nothing needs to be
compared at import.
"""

from __future__ import annotations

import os
import py_compile
import sys
import threading
import warnings
from importlib.util import cache_from_source
from pathlib import Path

_one_at_a_time = threading.Lock()


def compile_tree(root: Path, runtime: str) -> None:
    """Compile every module of ``root`` for ``runtime``, if this interpreter can.

    What has bytecode already is left alone; what doesn't compile is left to the
    runtime, whose error message the author should see.
    """
    if runtime != f"python{sys.version_info.major}.{sys.version_info.minor}":
        return
    # catch_warnings() changes the whole process: never two at a time.
    with _one_at_a_time, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for folder, _, names in os.walk(root):
            for name in names:
                if name.endswith(".py"):
                    _compile(Path(folder) / name, "/var/task" / (Path(folder) / name).relative_to(root))


def _compile(path: Path, seen_as: Path) -> None:
    compiled = Path(cache_from_source(str(path)))
    if compiled.exists() or path.is_symlink():
        return
    try:
        py_compile.compile(
            str(path), str(compiled), str(seen_as), doraise=True, quiet=2,
            invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
        )
        compiled.chmod(0o644)
    except (py_compile.PyCompileError, OSError, ValueError, RecursionError):
        compiled.unlink(missing_ok=True)

"""The ``faas`` command: parse, call, print; no logic of the emulator.

Its own start must cost nothing noticeable, so each command imports what it
needs when it runs. Exit statuses: 0 done; 1 it went wrong; 2 bad usage or
configuration; 3 no emulator answers.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

FAILED, USAGE, NO_EMULATOR = 1, 2, 3


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    from .parser import build_parser, split_command

    words, command = split_command(list(sys.argv[1:] if argv is None else argv))
    arguments = build_parser().parse_args(words)
    arguments.command = command
    from emulator.config.errors import ConfigError

    from .failures import Refused, Unreachable

    try:
        status: int = arguments.run(arguments)
        sys.stdout.flush()
    except ConfigError as error:
        for problem in error.problems:
            print(f"faas: {problem}", file=sys.stderr)
        return USAGE
    except Unreachable as error:
        print(f"faas: {error}", file=sys.stderr)
        return NO_EMULATOR
    except Refused as error:
        print(f"faas: {error}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Whoever read our output has enough of it. Not to be told again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    return status


__all__ = ["FAILED", "NO_EMULATOR", "USAGE", "main"]

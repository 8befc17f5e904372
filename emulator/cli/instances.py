"""``faas ps``, ``evict``, ``prewarm`` and ``reset``: the instances of a running emulator."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from . import FAILED, USAGE
from .client import Client, function_path
from .output import colour, count, megabytes, print_json, print_table, span

_RIGHT = ["ID", "AGE", "IDLE FOR", "MEMORY", "PEAK", "INVOCATIONS", "START"]
_HEADS = ["ID", "FUNCTION", "REVISION", "STATE", "SANDBOX", *_RIGHT[1:]]


def ps(arguments: argparse.Namespace) -> int:
    answer = Client.of(arguments).json("GET", "/_faas/instances")
    if arguments.name:
        chosen = [instance for instance in answer["instances"] if instance["function"] == arguments.name]
        answer = {**answer, "instances": chosen}
    if arguments.json:
        print_json(answer)
    elif not answer["instances"]:
        of = f" of {arguments.name}" if arguments.name else ""
        print(f"no instances{of}: the next call is a cold start")
    else:
        print_table(_HEADS, [_row(instance) for instance in answer["instances"]], right=_RIGHT)
    return 0


def _row(instance: dict[str, Any]) -> list[str]:
    phases = [seconds for seconds in (instance.get("phases") or {}).values() if seconds is not None]
    return [
        str(instance["id"]), instance["function"], instance["revision"], instance["state"],
        instance["sandbox"], span(instance["age"]), span(instance["idle_for"]),
        megabytes(instance["memory"]), megabytes(instance["memory_peak"]), str(instance["invocations"]),
        f"{sum(phases) * 1000:.0f} ms" if phases else "-",
    ]


def evict(arguments: argparse.Namespace) -> int:
    answer = Client.of(arguments).json("POST", function_path(arguments.name, "evict"))
    if arguments.json:
        print_json(answer)
    else:
        print(f"evicted {count(answer['evicted'], 'instance')} of {arguments.name}")
    return 0


def prewarm(arguments: argparse.Namespace) -> int:
    if arguments.count < 1:
        print(f"faas: -n: expected a whole number of at least 1, found {arguments.count}", file=sys.stderr)
        return USAGE
    path = function_path(arguments.name, f"prewarm?count={arguments.count}")
    answer = Client.of(arguments).json("POST", path)
    short = answer["ready"] < answer["started"]
    if arguments.json:
        print_json(answer)
    else:
        print(f"started {count(answer['started'], 'instance')} of {arguments.name}, {answer['ready']} ready")
        if short:
            hint = f"not all became ready: `faas logs {arguments.name}` says why"
            print(colour(hint, "yellow", sys.stderr), file=sys.stderr)
    return FAILED if short else 0


def reset(arguments: argparse.Namespace) -> int:
    answer = Client.of(arguments).json("POST", "/_faas/reset")
    if arguments.json:
        print_json(answer)
    else:
        print(f"evicted {count(answer['evicted'], 'instance')}; counters and logs are empty")
    return 0

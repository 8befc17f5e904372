"""``faas logs``: what a function's instances wrote."""

from __future__ import annotations

import argparse
import json
import sys
import time
from typing import Any
from urllib.parse import quote

from .client import Client
from .failures import Unreachable
from .output import colour, print_json

_WAIT = 20
"""Seconds the emulator may keep us waiting for the next line."""


def logs(arguments: argparse.Namespace) -> int:
    client = Client.of(arguments)
    path = f"/_faas/logs/{quote(arguments.name, safe='')}"
    answer = client.json("GET", f"{path}?since=0")
    if not arguments.follow:
        if arguments.json:
            print_json(answer)
        else:
            _show(answer["lines"], as_json=False)
        return 0
    while True:
        _show(answer["lines"], as_json=arguments.json)
        sys.stdout.flush()
        try:
            answer = client.json("GET", f"{path}?since={answer['next']}&wait={_WAIT}")
        except Unreachable:
            print("faas: the emulator has stopped", file=sys.stderr)
            return 0
        except KeyboardInterrupt:
            return 0


def _show(lines: list[dict[str, Any]], *, as_json: bool) -> None:
    for line in lines:
        if as_json:
            print(json.dumps(line, ensure_ascii=False))
            continue
        moment, millis = time.localtime(line["time"]), int(line["time"] * 1000) % 1000
        source = colour(f"{time.strftime('%H:%M:%S', moment)}.{millis:03} [{line['instance']}]", "dim")
        print(source, line["text"].rstrip())

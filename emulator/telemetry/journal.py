"""Every fact the pool was told and every order it gave, append-only.

Replaying the facts through a fresh pool must give the same orders: so each
session is a regression test, a trace for the simulator and a bug report.
Format: JSON lines ``{"now": s, "fact": name, "args": [...], "orders": [[name, ...], ...]}``;
the first line of a file says the format's version and the wall clock at ``now``.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from emulator.core.orders import Assign, Order, Reject, Start, Stop
from emulator.core.pool import Limits, Plan, Pool

FORMAT = 1
FILE_LIMIT = 64 * 2**20
"""Bytes per file; at the limit the file becomes ``….1`` and a new one begins."""



class Journal:
    """On disk when a path is given, else in memory. Each entry becomes text at once:
    keeping thousands of objects for later would cost more, in cache misses, than
    writing them down now."""

    def __init__(self, path: Path | None = None) -> None:
        self._pending: list[str] = []
        self._path = path
        self._file: IO[str] | None = None
        self._size = 0
        self.failure: str | None = None
        """Why writing stopped (a full disk), if it did. The emulator goes on."""

    def record(
        self, now: float, fact: str, args: tuple[Any, ...], options: dict[str, Any], orders: list[Order]
    ) -> None:
        self._pending.append(encode(now, fact, args, options, orders))

    def flush(self) -> None:
        """Write what is pending. Never raises."""
        if self._path is None or not self._pending:
            return
        text = "".join(self._pending)
        self._pending.clear()
        if self.failure:
            return
        try:
            self._write(text, self._path)
        except OSError as error:
            self.failure = f"the journal {self._path} can't be written any more: {error.strerror}"

    def _write(self, text: str, path: Path) -> None:
        if self._file is None:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("w", encoding="utf-8")
            head = {"journal": FORMAT, "wall": time.time(), "now": time.monotonic()}
            self._file.write(json.dumps(head) + "\n")
        self._file.write(text)
        self._file.flush()
        self._size += len(text)
        if self._size > FILE_LIMIT:
            self._file.close()
            path.replace(path.with_suffix(path.suffix + ".1"))
            self._file, self._size = None, 0

    def text(self) -> str:
        """This session's entries, as far as the current file has them (all, below ``FILE_LIMIT``)."""
        self.flush()
        if self._path is None:
            return "".join(self._pending)
        return self._path.read_text(encoding="utf-8") if self._file is not None else ""

    def close(self) -> None:
        self.flush()
        if self._file is not None:
            try:
                self._file.close()
            except OSError:
                pass  # a full disk: ``failure`` has said so
            self._file = None


def encode(now: float, fact: str, args: tuple[Any, ...], options: dict[str, Any], orders: list[Order]) -> str:
    """One line of JSON with its newline."""
    if not options and len(orders) < 2 and fact in _PLAIN:
        return _encode_plain(now, fact, args, orders)
    line: dict[str, Any] = {
        "now": now, "fact": fact, "args": [asdict(a) if isinstance(a, (Limits, Plan)) else a for a in args],
        "orders": [order_row(order) for order in orders],
    }
    if options:
        line["options"] = options
    return json.dumps(line, separators=(",", ":")) + "\n"


_PLAIN = frozenset({"arrived", "ready", "finished", "tick"})
"""Facts of every invocation: their arguments are numbers and ids without special characters."""


def _encode_plain(now: float, fact: str, args: tuple[Any, ...], orders: list[Order]) -> str:
    """What ``json.dumps`` would give, at a fifth of the time: two of these are written for each invocation."""
    written = ",".join([f'"{a}"' if isinstance(a, str) else str(a) for a in args])
    row = ""
    if orders:
        order = orders[0]
        row = f'["assign",{order.invocation},{order.instance}]' if type(order) is Assign else _row(order)
    return f'{{"now":{now!r},"fact":"{fact}","args":[{written}],"orders":[{row}]}}\n'


def _row(order: Order) -> str:
    return json.dumps(order_row(order), separators=(",", ":"))


def order_row(order: Order) -> list[Any]:
    match order:
        case Start(instance, version):
            return ["start", instance, version]
        case Assign(invocation, instance):
            return ["assign", invocation, instance]
        case Reject(invocation, reason):
            return ["reject", invocation, reason.value]
        case Stop(instance, stop_reason):
            return ["stop", instance, stop_reason.value]


def decode(lines: Iterable[str]) -> Iterator[tuple[float, str, list[Any], dict[str, Any], list[list[Any]]]]:
    """Entries of a journal's file. Raises ValueError naming the line."""
    for number, text in enumerate(lines, 1):
        try:
            line = json.loads(text)
            if "journal" in line:
                continue
            yield line["now"], line["fact"], line["args"], line.get("options", {}), line["orders"]
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"line {number} is not a journal entry: {error!r}") from error


_VALUES = {"configured": Limits, "declared": Plan}


def replay(lines: Iterable[str], pool: Pool | None = None) -> list[str]:
    """Tell a fresh pool the same facts; returns the differences, one sentence each (none: equal)."""
    pool = pool or Pool()
    differences = []
    for now, fact, args, options, expected in decode(lines):
        if fact in _VALUES:
            args = [_VALUES[fact](**args[0])]
        orders = [order_row(order) for order in getattr(pool, fact)(*args, now=now, **options)]
        if orders != expected:
            differences.append(f"at {now}: {fact}{tuple(args)} gave {orders}, recorded were {expected}")
    return differences

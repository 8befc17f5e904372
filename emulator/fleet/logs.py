"""What functions write, line by line, tagged with instance and request.

One ring per function for readers (``faas logs``), and one writer that prints
to our own stdout in batches, so that a line costs little on an answer's path.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Literal, NamedTuple

LINES_KEPT = 10_000
"""Per function."""
LINE_LIMIT = 256 * 1024
"""Characters; CloudWatch's own limit for one event is 256 KB (1 MB since 2025)."""
_FLUSH_AFTER = 0.02
"""Seconds a line may wait to be printed together with others."""

LogFormat = Literal["text", "json"]


class LogLine(NamedTuple):
    seq: int
    time: float
    """Epoch seconds."""
    function: str
    instance: str
    request_id: str | None
    text: str


class Logs:
    """All functions' lines. Used from the event loop only."""

    def __init__(self, write: Callable[[str], object], *, format: LogFormat = "text") -> None:
        self._write = write
        self._format = format
        self._rings: dict[str, deque[LogLine]] = {}
        self._seq = 0
        self._pending: list[LogLine] = []
        self._flush_timer: asyncio.TimerHandle | None = None
        self._arrival: asyncio.Event | None = None

    def add(self, function: str, instance: str, request_id: str | None, text: str) -> None:
        self._seq += 1
        line = LogLine(self._seq, time.time(), function, instance, request_id, text[:LINE_LIMIT])
        ring = self._rings.get(function)
        if ring is None:
            ring = self._rings[function] = deque(maxlen=LINES_KEPT)
        ring.append(line)
        self._pending.append(line)
        if self._flush_timer is None:
            self._flush_timer = asyncio.get_running_loop().call_later(_FLUSH_AFTER, self.flush)

    def flush(self) -> None:
        """Print what is pending."""
        if self._flush_timer is not None:
            self._flush_timer.cancel()
            self._flush_timer = None
        pending, self._pending = self._pending, []
        if pending:
            self._write("".join(map(self._json if self._format == "json" else self._text, pending)))
            if self._arrival is not None:
                self._arrival.set()
                self._arrival = None

    def since(self, function: str, seq: int) -> list[LogLine]:
        """Lines of the function after ``seq``, oldest first, as far as they are kept."""
        return [line for line in self._rings.get(function, ()) if line.seq > seq]

    @property
    def last_seq(self) -> int:
        return self._seq

    async def wait(self, timeout: float) -> None:
        """Until something was printed, at most ``timeout`` seconds."""
        if self._arrival is None:
            self._arrival = asyncio.Event()
        try:
            async with asyncio.timeout(timeout):
                await self._arrival.wait()
        except TimeoutError:
            pass

    def clear(self) -> None:
        self._rings.clear()

    @staticmethod
    def _text(line: LogLine) -> str:
        return f"{line.instance} | {_printable(line.text)}\n"

    @staticmethod
    def _json(line: LogLine) -> str:
        stamp = datetime.fromtimestamp(line.time, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        return json.dumps({
            "time": stamp, "function": line.function, "instance": line.instance, "requestId": line.request_id,
            "message": line.text,
        }) + "\n"


_CONTROLS = {c: f"\\x{c:02x}" for c in (*range(0x20), *range(0x7F, 0xA0)) if chr(c) not in "\t"}


def _printable(text: str) -> str:
    """A function must not be able to drive the terminal of whoever watches."""
    if text.isprintable():
        return text
    # awslambdaric joins the lines of one record with a carriage return.
    return text.replace("\r", "\n  ").translate({c: r for c, r in _CONTROLS.items() if c != 0x0A})


class LineSplitter:
    """Bytes of a pipe to lines of text, across reads."""

    __slots__ = ("_rest",)

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[str]:
        data = self._rest + data
        lines = data.split(b"\n")
        self._rest = lines.pop()
        if len(self._rest) > LINE_LIMIT:
            lines.append(self._rest)
            self._rest = b""
        return [line.decode("utf-8", "replace") for line in lines]

    def rest(self) -> list[str]:
        """What was written without a final newline."""
        rest, self._rest = self._rest, b""
        return [rest.decode("utf-8", "replace")] if rest else []

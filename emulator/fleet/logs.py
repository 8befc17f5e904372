"""What functions write, line by line, tagged with instance and request.

One ring per function for readers (``faas logs``), and one writer that prints
to our own stdout in batches. An invocation that wrote nothing is kept as one
entry (a ``Span``) and becomes its START, END and REPORT lines when it is printed
or read: lines must cost little on an answer's path.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections import deque
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Literal, NamedTuple, TypeAlias

from emulator.core import billing

ENTRIES_KEPT = 2_000
"""Per function."""
LINE_LIMIT = 256 * 1024
"""Characters; CloudWatch's own limit for one event was 256 KB until 2025."""
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


Span: TypeAlias = tuple[int, float, str, str, str, str, float, int, int, int | None, float | None]
"""seq of its first line, begin, function, instance, request id, version, duration,
billed ms, memory size, memory used, init duration. A plain tuple: the garbage
collector stops looking at it."""
Entry: TypeAlias = LogLine | Span


class Logs:
    """All functions' lines. Used from the event loop only."""

    def __init__(self, write: Callable[[str], object], *, format: LogFormat = "text") -> None:
        self._write = write
        self._render = _json if format == "json" else _text
        self._render_span = _span_text if format == "text" else _span_json
        self._rings: dict[str, deque[Entry]] = {}
        self._seq = 0
        self._pending: list[str] = []
        """Text to print. Rendered at once: a batch of it would stall somebody's answer."""
        self._flush_timer: asyncio.TimerHandle | None = None
        self._arrival: asyncio.Event | None = None
        self.begun: list[Callable[[], None]] = []
        """Called before the next print: invocations whose START is still to be logged."""

    def add(self, function: str, instance: str, request_id: str | None, text: str, *, at: float = 0.0) -> None:
        """``at``: epoch seconds; now, if not given."""
        self._seq += 1
        line = LogLine(self._seq, at or time.time(), function, instance, request_id, text[:LINE_LIMIT])
        self._keep(function, line, self._render(line))

    def add_span(
        self, begun: float, function: str, instance: str, request_id: str, version: str, duration: float, billed: int,
        memory: int, memory_used: int | None, init: float | None,
    ) -> None:
        """The three lines of a successful invocation that wrote nothing."""
        seq = self._seq + 1
        self._seq += 3
        span = (seq, begun, function, instance, request_id, version, duration, billed, memory, memory_used, init)
        self._keep(function, span, self._render_span(span))

    def _keep(self, function: str, entry: Entry, text: str) -> None:
        ring = self._rings.get(function)
        if ring is None:
            ring = self._rings[function] = deque(maxlen=ENTRIES_KEPT)
        ring.append(entry)
        self._pending.append(text)
        if self._flush_timer is None:
            self.schedule_flush()

    def schedule_flush(self) -> None:
        if self._flush_timer is None:
            self._flush_timer = asyncio.get_running_loop().call_later(_FLUSH_AFTER, self.flush)

    def flush(self) -> None:
        """Print what is pending."""
        begun, self.begun = self.begun, []
        if self._flush_timer is not None:
            self._flush_timer.cancel()
        self._flush_timer = None
        for log_start in begun:
            log_start()
        if self._pending:
            text = "".join(self._pending)
            self._pending.clear()
            self._write(text)
            if self._arrival is not None:
                self._arrival.set()
                self._arrival = None

    def since(self, function: str, seq: int) -> list[LogLine]:
        """Lines of the function after ``seq``, oldest first, as far as they are kept."""
        entries = self._rings.get(function, ())
        return [line for entry in entries if entry[0] + 2 > seq for line in _lines(entry) if line.seq > seq]

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


def _lines(entry: Entry) -> Iterator[LogLine]:
    if isinstance(entry, LogLine):
        yield entry
        return
    seq, begun, function, instance, request_id, version, duration, billed, memory, used, init = entry
    end = begun + duration
    yield LogLine(seq, begun, function, instance, request_id, billing.start_line(request_id, version))
    yield LogLine(seq + 1, end, function, instance, request_id, billing.end_line(request_id))
    report = billing.report_line(
        request_id, duration=duration, billed=billed, memory=memory, memory_used=used, init=init)
    yield LogLine(seq + 2, end, function, instance, request_id, report)


def _text(line: LogLine) -> str:
    return f"{line.instance} | {_printable(line.text)}\n"


def _span_text(span: Span) -> str:
    _, _, _, instance, request_id, version, duration, billed, memory, used, init = span
    report = billing.report_line(
        request_id, duration=duration, billed=billed, memory=memory, memory_used=used, init=init)
    return (
        f"{instance} | START RequestId: {request_id} Version: {version}\n{instance} | END RequestId: {request_id}\n"
        f"{instance} | {report}\n"
    )


def _span_json(span: Span) -> str:
    return "".join(map(_json, _lines(span)))


def _json(line: LogLine) -> str:
    stamp = datetime.fromtimestamp(line.time, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return json.dumps({
        "time": stamp, "function": line.function, "instance": line.instance, "requestId": line.request_id,
        "message": line.text,
    }) + "\n"


_CONTROLS = {c: f"\\x{c:02x}" for c in (*range(0x20), *range(0x7F, 0xA0)) if chr(c) not in "\t\n"}
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f]")


def _printable(text: str) -> str:
    """A function must not be able to drive the terminal of whoever watches."""
    if _CONTROL.search(text) is None:
        return text
    # awslambdaric joins the lines of one record with a carriage return.
    return text.replace("\r", "\n  ").translate(_CONTROLS)


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

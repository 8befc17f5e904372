"""A live instance: one sandbox, one Runtime API session, one invocation at a time.

It knows the platform's three phases (init, invoke, shutdown), their limits and
what each failure looks like to the caller. It decides nothing about who runs
where: it is told to start, to take an invocation and to stop, and reports
``ready``, ``finished``, ``stalled`` and ``died`` to the fleet.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import termios
import time
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING
from uuid import uuid4

from emulator.core import billing
from emulator.core.ids import InstanceId
from emulator.core.model import Version
from emulator.core.outcome import PHASES, START_PHASES, Outcome
from emulator.core.session import Call, IllegalCall, Phase, after
from emulator.sandbox.protocol import Exit, LaunchFailed, LaunchSpec, Sandbox

from .invocation import Invocation
from .logs import LineSplitter
from .runtime_api import MAX_RESPONSE, InvalidRequestId, RuntimeApi

if TYPE_CHECKING:
    from .fleet import Fleet

INIT_LIMIT = 10.0
"""Seconds of the init phase on demand (AWS Lambda Developer Guide)."""
NEXT_GRACE = 0.05
"""Seconds that an instance which has answered may take to ask for its next
event while an invocation is already assigned to it."""
_HOT = 0.002
"""Seconds: an instance that answered less than this ago is not asked whether it is still there."""
_PEAK_EVERY = 0.01
"""Seconds between looks at the peak memory while invocations are shorter than ``_HOT``."""
_TAIL = 4096
_unread = bytearray(4)
"""Where the kernel writes how much there is to read; asking is cheaper than a failing read."""
_MARKER = "\x1efaas:user-init "


@dataclass(slots=True)
class Stamps:
    """``time.monotonic()`` of the steps of a start; 0.0: not reached."""

    ordered: float = 0.0
    began: float = 0.0
    sandbox: float = 0.0
    process: float = 0.0
    user_init: float = 0.0
    ready: float = 0.0


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an instance never became ready, as the caller will see it."""

    error_type: str
    message: str = ""
    body: bytes = b""
    fault: bool = False
    """The platform failed, not the function."""


class LiveInstance:
    """See the module's text. Invariant: ``invocation`` is set from assignment to answer."""

    def __init__(self, fleet: Fleet, id: InstanceId, version: Version) -> None:
        self.id = id
        self.version = version
        self.name = f"{version.function}/{id}"
        self.phase = Phase.INIT
        self.stamps = Stamps(ordered=fleet.clock())
        self.created_wall = time.time()
        self.log_stream = time.strftime("%Y/%m/%d/", time.gmtime()) + f"[{version.qualifier}]{uuid4().hex}"
        self.invocation: Invocation | None = None
        self.invocations = 0
        self.idle_since: float | None = None
        self.failure: Failure | None = None
        self.sandbox: Sandbox | None = None
        self.peak: int | None = None
        self._peak_due = 0.0
        self.counts = fleet.metrics.of(version.function)
        self._fleet = fleet
        self._loop = asyncio.get_running_loop()
        self._connection: RuntimeApi | None = None
        self._delivered = False
        self._start_unlogged = False
        self._deadline = 0.0
        self._taken_at = 0.0
        self._deadline_timer: asyncio.TimerHandle | None = None
        self._grace_timer: asyncio.TimerHandle | None = None
        self._init_timer: asyncio.TimerHandle | None = None
        self._server: asyncio.Server | None = None
        self._output: int | None = None
        self._lines = LineSplitter()
        self.stalled = False
        """Counted as free, but did not ask for its next event within the grace."""
        self._gone = False
        self._sandbox_name = ""

    def __repr__(self) -> str:
        return f"<LiveInstance {self.name} {self.phase.value}>"

    @property
    def init_duration(self) -> float | None:
        """Seconds from the runtime's process to its first ``next``; None before."""
        stamps = self.stamps
        return stamps.ready - (stamps.process or stamps.sandbox or stamps.began) if stamps.ready else None

    def is_gone(self) -> bool:
        return self._gone

    # -- init phase ------------------------------------------------------------

    async def start(self) -> None:
        """Make the sandbox. Whatever goes wrong is reported as the instance's death."""
        fleet = self._fleet
        try:
            async with fleet.launch_permit():
                if self._gone:
                    return
                self.stamps.began = fleet.clock()
                listener = await fleet.backend.listen(self.version)
                if self.is_gone():
                    listener.socket.close()
                    return
                self._server = await self._loop.create_server(lambda: RuntimeApi(self), sock=listener.socket)
                self._sandbox_name = (
                    f"faas-{self.version.function[:24].lower().replace('_', '-')}-{self.id}-{uuid4().hex[:8]}"
                )
                spec = LaunchSpec(
                    name=self._sandbox_name,
                    version=self.version,
                    environ=fleet.environ(self.version, listener.address, self.log_stream),
                )
                sandbox = await fleet.backend.launch(spec)
        except LaunchFailed as failed:
            message = str(failed)
            kind = "Runtime.InvalidEntrypoint" if "Runtime.InvalidEntrypoint" in message else ""
            self._fail(Failure(kind or "Sandbox.Failure", message, fault=not kind))
            return
        except Exception as error:
            fleet.log.exception("instance %s could not be started", self.name)
            self._fail(Failure("Sandbox.Failure", f"The sandbox could not be started: {error}", fault=True))
            return
        self.sandbox = sandbox
        if self.is_gone():  # stopped while it was being made
            self.dispose()
            return
        # A quick runtime asks for its first event before the engine's answer is here.
        latest = self.stamps.ready or sandbox.started_at
        if self.stamps.ready:
            fleet.spawn(sandbox.settle())
        self.stamps.sandbox = min(sandbox.created_at, latest)
        self.stamps.process = min(sandbox.started_at, latest)
        self._output = sandbox.output
        self._loop.add_reader(self._output, self._read_output)
        fleet.spawn(self._watch(sandbox))
        self._init_timer = self._loop.call_at(self._loop.time() + INIT_LIMIT, self._init_timed_out)

    def admits(self, peer: str) -> bool:
        """May a connection from this address speak for the instance?"""
        if self.sandbox is None:  # it has been started, and the backend's answer is not here yet
            return self._fleet.backend.owns(self._sandbox_name, peer)
        expected = self.sandbox.peer
        return expected is None or expected == peer

    def _init_timed_out(self) -> None:
        if self.phase is Phase.INIT and not self._gone:
            self.phase = Phase.FAILED
            line = billing.init_report_line(INIT_LIMIT, phase="init", status="timeout")
            self._log(line)
            self._fail(Failure("Sandbox.Timedout", f"Task timed out after {INIT_LIMIT:.2f} seconds"))

    def init_failed(self, body: bytes, error_type: str | None) -> None:
        """The runtime posted an init error. Raises IllegalCall."""
        self.phase = after(self.phase, Call.INIT_ERROR)
        self._drain_output()
        name = error_type or "Runtime.Unknown"
        began = self.stamps.process or self.stamps.began
        duration = self._fleet.clock() - began
        self._log(billing.init_report_line(duration, phase="init", status="error", error_type=name))
        self._fail(Failure(name, body=body))

    def _became_ready(self) -> None:
        if self._init_timer is not None:
            self._init_timer.cancel()
            self._init_timer = None
        self._drain_output()
        stamps = self.stamps
        stamps.ready = self._fleet.clock()
        if not stamps.process <= stamps.user_init <= stamps.ready:
            stamps.user_init = 0.0
        if self.sandbox is not None:
            self._fleet.spawn(self.sandbox.settle())
        self._fleet.ready(self)

    # -- invoke phase ------------------------------------------------------------

    def take(self, invocation: Invocation) -> None:
        """An invocation is assigned to this instance."""
        self.invocation = invocation
        self._delivered = False
        connection = self._connection
        if self.phase is Phase.WAITING and connection is not None:
            rested = self.idle_since is None or self._fleet.clock() - self.idle_since > _HOT
            if not rested or connection.is_alive():
                self.idle_since = None
                self._deliver(invocation)
                return
        self.idle_since = None
        # It answered a moment ago and is about to ask again, or it has just died.
        self._taken_at = self._fleet.clock()
        if self._grace_timer is None:
            self._grace_timer = self._loop.call_later(NEXT_GRACE, self._grace_due)

    def _grace_due(self) -> None:
        """One timer serves many invocations: it is moved on when it comes too early."""
        self._grace_timer = None
        if self._gone or self.invocation is None or self._delivered:
            return
        left = self._taken_at + NEXT_GRACE - self._fleet.clock()
        if left > 0:
            self._grace_timer = self._loop.call_later(left, self._grace_due)
            return
        self.invocation = None
        self._fleet.stalled(self)

    def asked_next(self, connection: RuntimeApi) -> None:
        """``GET .../next``. Raises IllegalCall."""
        before = self.phase
        if before is Phase.RUNNING:
            raise IllegalCall(before, Call.NEXT)
        self.phase = after(before, Call.NEXT)
        self._connection = connection
        if before is Phase.INIT:
            self._became_ready()
        elif self.invocation is not None and not self._delivered:
            self._deliver(self.invocation)
        elif before is Phase.ANSWERED:
            self._fleet.free_again(self)

    def _deliver(self, invocation: Invocation) -> None:
        connection = self._connection
        assert connection is not None
        fleet = self._fleet
        self.phase = Phase.RUNNING
        self._delivered = True
        self.invocations += 1
        now = invocation.delivered_at = fleet.clock()
        wall = invocation.started_wall = time.time()
        timeout = self.version.timeout
        self._deadline = now + timeout
        if self._deadline_timer is None:
            self._deadline_timer = self._loop.call_later(timeout, self._deadline_due)
        if invocation.tail:
            self._log_start(invocation)
        else:
            self._start_unlogged = True
            fleet.logs.begun.append(self._log_late_start)
            fleet.logs.schedule_flush()
        connection.deliver(invocation, int((wall + timeout) * 1000))

    def _log_late_start(self) -> None:
        """It has been running for a while, or has written something: its START is due."""
        if self._start_unlogged and self.invocation is not None:
            self._log_start(self.invocation)

    def _log_start(self, invocation: Invocation) -> None:
        self._start_unlogged = False
        text = billing.start_line(invocation.request_id, self.version.qualifier)
        if invocation.tail:
            invocation.log_lines.append(text)
        self._fleet.logs.add(self.version.function, self.name, invocation.request_id, text, at=invocation.started_wall)

    def _deadline_due(self) -> None:
        """One timer serves many invocations: it is moved on when it comes too early."""
        self._deadline_timer = None
        if self._gone or self.phase is not Phase.RUNNING:
            return
        left = self._deadline - self._fleet.clock()
        if left > 0:
            self._deadline_timer = self._loop.call_later(left, self._deadline_due)
            return
        invocation = self.invocation
        assert invocation is not None
        timeout = self.version.timeout
        self._drain_output()
        text = f"Task timed out after {timeout:.2f} seconds"
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime()) + f".{int(time.time() * 1000) % 1000:03d}Z"
        self._log(f"{stamp} {invocation.request_id} {text}")
        self._die_with("Sandbox.Timedout", text, timed_out=True)

    def check_answer(self, request_id: str, call: Call) -> None:
        """Raises InvalidRequestId or IllegalCall."""
        if self.phase is Phase.RUNNING and self.invocation is not None:
            if request_id != self.invocation.request_id:
                raise InvalidRequestId
            return
        after(self.phase, call)

    def answered(self, call: Call, body: bytes, error_type: str | None, content_type: str) -> None:
        """The runtime posted its answer; ``check_answer`` has passed."""
        error = None if call is Call.RESPONSE else "Unhandled"
        self._complete(body, error, content_type=content_type, report_error=error_type)

    def answered_too_large(self) -> None:
        text = f"Response payload size exceeded maximum allowed payload size ({MAX_RESPONSE} bytes)."
        body = json.dumps({"errorType": "Function.ResponseSizeTooLarge", "errorMessage": text}).encode()
        self._complete(body, "Unhandled", report_error="Function.ResponseSizeTooLarge")

    def _complete(
        self,
        body: bytes,
        error: str | None,
        *,
        content_type: str = "application/json",
        report_error: str | None = None,
        timed_out: bool = False,
        alive: bool = True,
    ) -> None:
        """The invocation is over: tell the caller, then the log, metrics and pool."""
        fleet = self._fleet
        invocation = self.invocation
        assert invocation is not None
        self._drain_output()
        invocation.answered_at = fleet.clock()
        self.invocation = None
        if alive:
            self.phase = Phase.ANSWERED
        outcome = Outcome(
            body, error, None, self.name, "cold" if invocation.cold else "warm", invocation.prewarmed,
            self.phases_of(invocation), executed_version=self.version.qualifier, revision=self.version.revision,
            content_type=content_type, timed_out=timed_out,
        )
        if invocation.tail:
            self._report(invocation, report_error, timed_out)
            outcome.log_tail = "\n".join([*invocation.log_lines, ""]).encode()[-_TAIL:]
        invocation.done(outcome)
        if not invocation.tail:
            self._report(invocation, report_error, timed_out)
        fleet.completed(self, invocation, outcome, report_error if error else None, timed_out)
        if alive:
            self.idle_since = invocation.answered_at
            fleet.finished(self)

    def phases_of(self, invocation: Invocation) -> dict[str, float]:
        """Seconds by phase; they add up to the time from arrival to answer."""
        arrived, answered = invocation.arrived_at, invocation.answered_at
        if not invocation.cold:
            delivered = invocation.delivered_at or answered
            return {"queue": delivered - arrived, "invoke": answered - delivered}
        s = self.stamps
        steps = [arrived, s.began, s.sandbox, s.process, s.user_init or s.process, s.ready, answered]
        for i in range(1, len(steps)):  # a step that was not reached took no time, nor one before it was asked for
            steps[i] = min(max(steps[i], steps[i - 1]), answered)
        return {name: b - a for name, (a, b) in zip(PHASES, pairwise(steps), strict=True)}

    def start_phases(self) -> dict[str, float]:
        """Seconds by phase of this instance's own start, as far as it has come."""
        s = self.stamps
        steps = [s.ordered, s.began, s.sandbox, s.process, s.user_init or s.process, s.ready]
        return {name: b - a for name, (a, b) in zip(START_PHASES, pairwise(steps), strict=True) if b >= a > 0}

    def _report(self, invocation: Invocation, error_type: str | None, timed_out: bool) -> None:
        init = self.init_duration if self.invocations == 1 else None
        duration = invocation.answered_at - invocation.delivered_at
        if timed_out:
            duration = self.version.timeout
        billed = billing.billed_ms(duration, init)
        if self.sandbox is not None and (duration > _HOT or invocation.answered_at > self._peak_due):
            self._peak_due = invocation.answered_at + _PEAK_EVERY
            self.peak = self.sandbox.memory_peak() or self.peak
        request_id = invocation.request_id
        self.counts.billed += billing.gigabyte_seconds(billed, self.version.memory)
        if self._start_unlogged and error_type is None:
            self._start_unlogged = False
            self._fleet.logs.add_span(
                invocation.started_wall, self.version.function, self.name, request_id, self.version.qualifier,
                duration, billed, self.version.memory, self.peak, init,
            )
            return
        self._log(f"END RequestId: {request_id}", invocation)
        self._log(
            billing.report_line(
                request_id, duration=duration, billed=billed, memory=self.version.memory, memory_used=self.peak,
                init=init, error_type=error_type, timed_out=timed_out,
            ),
            invocation,
        )

    # -- the end -------------------------------------------------------------------

    def disconnected(self, connection: RuntimeApi) -> None:
        if connection is self._connection:
            self._connection = None

    async def _watch(self, sandbox: Sandbox) -> None:
        exit = await sandbox.wait()
        if not self._gone:
            self._exited(exit)

    def _exited(self, exit: Exit) -> None:
        """The runtime's process has ended by itself."""
        self._drain_output(final=True)
        error, message = _describe(exit)
        if exit.out_of_memory:
            self.peak = self.version.memory * 2**20
        if self.phase is Phase.RUNNING:
            self._die_with(error, message)
        elif self.phase is Phase.INIT:
            duration = self._fleet.clock() - (self.stamps.process or self.stamps.began)
            self._log(billing.init_report_line(duration, phase="init", status="error", error_type=error))
            self._fail(Failure(error, message))
        else:
            self._gone = True
            self.invocation = None
            self._fleet.died(self, delivered=False)
            self.dispose()

    def _die_with(self, error_type: str, message: str, *, timed_out: bool = False) -> None:
        """The running invocation ends the instance with it."""
        invocation = self.invocation
        assert invocation is not None
        self._gone = True
        if error_type == "Runtime.OutOfMemory":
            self.counts.out_of_memory += 1
        if not timed_out:
            self._log(f"RequestId: {invocation.request_id} Error: {message}", invocation)
            self._log(error_type, invocation)
        text = f"RequestId: {invocation.request_id} Error: {message}"
        body = json.dumps({"errorType": error_type, "errorMessage": text}, separators=(",", ":")).encode()
        self._complete(body, "Unhandled", report_error=error_type, timed_out=timed_out, alive=False)
        self._fleet.died(self, delivered=True)
        self.dispose()

    def _fail(self, failure: Failure) -> None:
        """Init failed: whoever waits for this instance is told, and it is gone."""
        if self._gone:
            self.dispose()  # what came to be after it was stopped
            return
        self._gone = True
        self.phase = Phase.FAILED
        self.failure = failure
        self._fleet.died(self, delivered=False)
        self.dispose()

    def fail_invocation(self, invocation: Invocation) -> None:
        """Tell the invocation that waited for this instance why it never became ready."""
        failure = self.failure or Failure("Sandbox.Failure", "The instance was stopped while it started.", fault=True)
        invocation.cold = True
        now = invocation.answered_at = self._fleet.clock()
        invocation.delivered_at = invocation.delivered_at or now
        self.stamps.ready = self.stamps.ready or now
        body = failure.body
        if not body:
            text = f"RequestId: {invocation.request_id} Error: {failure.message}"
            body = json.dumps({"errorType": failure.error_type, "errorMessage": text}, separators=(",", ":")).encode()
        self._fleet.start_failed(self, invocation, failure, body, self.phases_of(invocation))

    def stop(self) -> None:
        """The pool has let go of this instance."""
        if not self._gone:
            self._gone = True
            self.dispose()

    def dispose(self) -> None:
        """Give back everything, in the background. Idempotent."""
        for timer in (self._deadline_timer, self._grace_timer, self._init_timer):
            if timer is not None:
                timer.cancel()
        if self._output is not None:
            self._drain_output(final=True)
            self._loop.remove_reader(self._output)
            self._output = None
        if self._server is not None:
            self._server.close()
            self._server = None
        connection, self._connection = self._connection, None
        if connection is not None and connection.transport is not None:
            connection.transport.abort()
        if self.sandbox is not None:
            self._fleet.spawn(self.sandbox.kill())

    # -- output ------------------------------------------------------------------

    def _read_output(self) -> None:
        """The loop says there is output. One read a turn: a flood must not starve others."""
        if self._output is None:
            return
        try:
            data = os.read(self._output, 65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._loop.remove_reader(self._output)
            return
        self._take_lines(self._lines.feed(data))

    def _drain_output(self, *, final: bool = False) -> None:
        """Read what was written so far; what a runtime wrote before its answer is there by now."""
        if self._output is None:
            return
        fcntl.ioctl(self._output, termios.FIONREAD, _unread)
        if not final and not any(_unread):
            return
        for _ in range(64):  # 4 MB at a time at most, see _read_output
            try:
                data = os.read(self._output, 65536)
            except OSError:
                break
            if not data:
                break
            self._take_lines(self._lines.feed(data))
            if len(data) < 65536:
                break
        if final:
            self._take_lines(self._lines.rest())

    def _take_lines(self, lines: list[str]) -> None:
        for line in lines:
            if line.startswith(_MARKER):
                self._user_init_began(line[len(_MARKER):])
            else:
                self._log(line)

    def _user_init_began(self, stamp: str) -> None:
        now = self._fleet.clock()
        try:
            at = int(stamp) / 1e9
        except ValueError:
            at = now
        # A sandbox with a clock of its own (another kernel) stamps what we can't compare.
        stamps = self.stamps
        stamps.user_init = at if stamps.began <= at <= now else now
        # A busy engine says late that the container has started: its process was there by now.
        stamps.process = min(stamps.process, stamps.user_init)
        stamps.sandbox = min(stamps.sandbox, stamps.process)

    def _log(self, text: str, invocation: Invocation | None = None) -> None:
        invocation = invocation or self.invocation
        if invocation is None or (not self._delivered and invocation is self.invocation):
            self._fleet.logs.add(self.version.function, self.name, None, text)
            return
        if self._start_unlogged:
            self._log_start(invocation)
        if invocation.tail:
            invocation.log_lines.append(text)
        self._fleet.logs.add(self.version.function, self.name, invocation.request_id, text)


def _describe(exit: Exit) -> tuple[str, str]:
    """Error type and message of a runtime that ended, as the platform words them."""
    if exit.out_of_memory:
        return "Runtime.OutOfMemory", "Runtime exited with error: signal: killed"
    if exit.signal is not None:
        return "Runtime.ExitError", f"Runtime exited with error: signal: {_SIGNALS.get(exit.signal, exit.signal)}"
    if exit.status:
        return "Runtime.ExitError", f"Runtime exited with error: exit status {exit.status}"
    return "Runtime.ExitError", "Runtime exited without providing a reason"


_SIGNALS = {1: "hangup", 2: "interrupt", 3: "quit", 4: "illegal instruction", 6: "aborted", 7: "bus error",
            8: "floating point exception", 9: "killed", 11: "segmentation fault", 13: "broken pipe",
            14: "alarm clock", 15: "terminated"}

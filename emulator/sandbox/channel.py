"""The emulator's end of the conversation with its launcher process."""

from __future__ import annotations

import array
import asyncio
import itertools
import marshal
import os
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

Message = dict[str, Any]
_RIGHTS_SPACE = socket.CMSG_SPACE(64 * 4)
_CLOSE_ON_EXEC = getattr(socket, "MSG_CMSG_CLOEXEC", 0)
_LAUNCHER = Path(__file__).with_name("launcher.py")


class Channel:
    """One launcher process and the socket to it. Not reusable after it ended."""

    def __init__(
        self,
        rung: str,
        runs: Path,
        cpu_limit: bool,
        heard: Callable[[Message, int | None], None],
        lost: Callable[[], None],
    ) -> None:
        """Starts the process. ``heard`` gets each message, with the descriptor that
        came with it as its own to close, ``lost`` the end; both on the event loop."""
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        self._socket = ours
        self._heard = heard
        self._lost = lost
        self._incoming = b""
        self._received: deque[int] = deque()
        self._outgoing: deque[tuple[bytes, tuple[int, ...]]] = deque()
        self._loop = asyncio.get_running_loop()
        self._closed = False
        with theirs:
            command = [sys.executable, "-I", "-S", str(_LAUNCHER)]
            self.process = subprocess.Popen(
                [*command, str(theirs.fileno()), rung, str(runs), "1" if cpu_limit else "0"],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                env={"LC_ALL": "C.UTF-8"},
                start_new_session=True,  # Ctrl-C is for the emulator, which then ends it in order
                cwd="/",
            )
        self._loop.add_reader(ours.fileno(), self._readable)

    def send(self, message: Message, *descriptors: int) -> None:
        """Queue one message; ``descriptors`` are handed over and closed here."""
        if self._closed:
            for descriptor in descriptors:
                os.close(descriptor)
            return
        raw = marshal.dumps(message)
        self._outgoing.append((len(raw).to_bytes(4, "little") + raw, descriptors))
        if len(self._outgoing) == 1:
            self._flush()

    def _flush(self) -> None:
        while self._outgoing:
            data, descriptors = self._outgoing[0]
            rights = []
            if descriptors:
                rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))]
            try:
                sent = self._socket.sendmsg([data], rights)
            except BlockingIOError:
                self._loop.add_writer(self._socket.fileno(), self._flush)
                return
            except OSError:
                break  # the reader sees the end and tells
            for descriptor in descriptors:
                os.close(descriptor)
            if sent < len(data):
                self._outgoing[0] = (data[sent:], ())
            else:
                self._outgoing.popleft()
        self._loop.remove_writer(self._socket.fileno())

    def _readable(self) -> None:
        try:
            data, ancillary, _, _ = self._socket.recvmsg(1 << 16, _RIGHTS_SPACE, _CLOSE_ON_EXEC)
        except BlockingIOError:
            return
        except OSError:
            data, ancillary = b"", []
        for level, kind, raw in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                self._received.extend(array.array("i", raw[: len(raw) - len(raw) % 4]))
        self._incoming += data
        while len(self._incoming) >= 4:
            end = 4 + int.from_bytes(self._incoming[:4], "little")
            if len(self._incoming) < end:
                break
            message = marshal.loads(self._incoming[4:end])
            self._incoming = self._incoming[end:]
            self._heard(message, self._received.popleft() if message.get("descriptor") else None)
        if not data and not self._closed:
            self._disconnect()
            self._lost()

    def _disconnect(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._loop.remove_reader(self._socket.fileno())
        self._loop.remove_writer(self._socket.fileno())
        self._socket.close()
        for descriptor in itertools.chain(self._received, *(each for _, each in self._outgoing)):
            os.close(descriptor)
        self._received.clear()
        self._outgoing.clear()

    async def aclose(self) -> None:
        """Hang up; the launcher then kills what lives. Bounded to 8 s, then SIGKILL."""
        self._disconnect()

        def end() -> None:
            try:
                self.process.wait(8)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

        await asyncio.to_thread(end)

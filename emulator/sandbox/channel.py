"""The emulator's end of the conversation with its launcher process."""

from __future__ import annotations

import array
import asyncio
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
_LAUNCHER = Path(__file__).with_name("launcher.py")


class Channel:
    """One launcher process and the socket to it. Not reusable after it ended."""

    def __init__(
        self,
        rung: str,
        runs: Path,
        cpu_limit: bool,
        heard: Callable[[Message], None],
        lost: Callable[[], None],
    ) -> None:
        """Starts the process. ``heard`` gets each message, ``lost`` the end, both on the event loop."""
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        self._socket = ours
        self._heard = heard
        self._lost = lost
        self._incoming = b""
        self._outgoing: deque[tuple[bytes, int | None]] = deque()
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

    def send(self, message: Message, descriptor: int | None = None) -> None:
        """Queue one message; ``descriptor`` is handed over and closed here."""
        if self._closed:
            if descriptor is not None:
                os.close(descriptor)
            return
        raw = marshal.dumps(message)
        self._outgoing.append((len(raw).to_bytes(4, "little") + raw, descriptor))
        if len(self._outgoing) == 1:
            self._flush()

    def _flush(self) -> None:
        while self._outgoing:
            data, descriptor = self._outgoing[0]
            rights = []
            if descriptor is not None:
                rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [descriptor]))]
            try:
                sent = self._socket.sendmsg([data], rights)
            except BlockingIOError:
                self._loop.add_writer(self._socket.fileno(), self._flush)
                return
            except OSError:
                break  # the reader sees the end and tells
            if descriptor is not None:
                os.close(descriptor)
            if sent < len(data):
                self._outgoing[0] = (data[sent:], None)
            else:
                self._outgoing.popleft()
        self._loop.remove_writer(self._socket.fileno())

    def _readable(self) -> None:
        try:
            data = self._socket.recv(1 << 16)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        self._incoming += data
        while len(self._incoming) >= 4:
            end = 4 + int.from_bytes(self._incoming[:4], "little")
            if len(self._incoming) < end:
                break
            message = marshal.loads(self._incoming[4:end])
            self._incoming = self._incoming[end:]
            self._heard(message)
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
        for _, descriptor in self._outgoing:
            if descriptor is not None:
                os.close(descriptor)
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

"""The launcher's end of the conversation with the emulator; ``channel`` is the other.

Messages are marshalled dicts behind a four-byte length (both ends are the same
interpreter). Descriptors come and go beside them, in the order of the messages.
"""

from __future__ import annotations

import _socket
import marshal
import os
import sys


class Control:
    """One connected socket. As small as the launcher."""

    def __init__(self, connection: _socket.socket) -> None:
        self.connection = connection
        self.buffer = b""
        self.received: list[int] = []

    def fileno(self) -> int:
        return self.connection.fileno()

    def take(self) -> int:
        """The descriptor that came with the message being read; the next one if it brought several."""
        return self.received.pop(0)

    def receive(self) -> list[dict] | None:  # type: ignore[type-arg]
        """The messages that are whole by now; None: the other end is gone."""
        try:
            data, ancillary, _, _ = self.connection.recvmsg(1 << 16, _socket.CMSG_SPACE(64 * 4))
        except OSError:
            return None
        for level, kind, raw in ancillary:
            if level == _socket.SOL_SOCKET and kind == _socket.SCM_RIGHTS:
                for at in range(0, len(raw) - len(raw) % 4, 4):
                    descriptor = int.from_bytes(raw[at : at + 4], sys.byteorder)
                    os.set_inheritable(descriptor, False)
                    self.received.append(descriptor)
        if not data:
            return None
        self.buffer += data
        messages = []
        while len(self.buffer) >= 4:
            end = 4 + int.from_bytes(self.buffer[:4], "little")
            if len(self.buffer) < end:
                break
            messages.append(marshal.loads(self.buffer[4:end]))
            self.buffer = self.buffer[end:]
        return messages

    def send(self, message: dict, descriptor: int = -1) -> None:  # type: ignore[type-arg]
        """Hand over one message; ``descriptor`` goes with it, and stays open here."""
        raw = marshal.dumps(message)
        data = len(raw).to_bytes(4, "little") + raw
        try:
            if descriptor >= 0:
                rights = (_socket.SOL_SOCKET, _socket.SCM_RIGHTS, descriptor.to_bytes(4, sys.byteorder))
                data = data[self.connection.sendmsg([data], [rights]) :]
            self.connection.sendall(data)
        except OSError:
            return  # the loop sees the end of the socket next

    def close(self) -> None:
        self.connection.close()

"""A load generator that is not the bottleneck: raw sockets and epoll in a process of its own.

Closed loop: every connection sends its next request when the answer is in.
Open loop: requests are due at times drawn beforehand (Poisson or evenly
spaced) and latency counts from the due time, whether or not a connection was
free, so that a stall is charged to everyone who would have felt it.

Each connection's body carries its own number and the answer must be status 200
with exactly that body; anything else is counted as an error. Times are
milliseconds on stdout (JSON), ``time.perf_counter`` inside.
"""

from __future__ import annotations

import argparse
import json
import random
import select
import socket
import sys
import time
from collections import deque
from urllib.parse import urlsplit

ROOM = 1 << 18


class Connection:
    """One keep-alive connection with at most one request under way."""

    wanted = b""
    """In lower case; must be in the head of every answer, when not empty."""

    __slots__ = ("begun", "expected", "got", "pending", "request", "size", "socket")

    def __init__(self, address: tuple[str, int], request: bytes, expected: bytes) -> None:
        self.socket = socket.create_connection(address, timeout=30)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        self.request = request
        self.expected = expected
        self.begun = 0.0
        self.got: list[bytes] = []
        self.size = 0
        """Bytes the whole answer has, 0 while its head is incomplete."""
        self.pending = memoryview(b"")

    def send(self, begun: float) -> bool:
        """Send the request; False when the socket took only a part (``pending`` is the rest)."""
        self.begun = begun
        return self._push(memoryview(self.request))

    def push(self) -> bool:
        return self._push(self.pending)

    def _push(self, view: memoryview) -> bool:
        try:
            sent = self.socket.send(view)
        except BlockingIOError:
            sent = 0
        self.pending = view[sent:]
        return not self.pending

    def receive(self) -> bool | None:
        """Read; True or False when an answer is whole (right, wrong), None when more is to come."""
        try:
            data = self.socket.recv(ROOM)
        except BlockingIOError:
            return None
        if not data:
            raise ConnectionError("the server closed the connection")
        if self.got:
            self.got.append(data)
            if self.size and sum(map(len, self.got)) < self.size:
                return None
            data = b"".join(self.got)
        if not self.size:
            end = data.find(b"\r\n\r\n")
            if end < 0:
                self.got = [data]
                return None
            self.size = end + 4 + content_length(data[:end])
        if len(data) < self.size:
            self.got = [data]
            return None
        right = (
            len(data) == self.size
            and data.startswith(b"HTTP/1.1 200")
            and data[-len(self.expected) - 4 :] == b"\r\n\r\n" + self.expected
            and (not self.wanted or self.wanted in data[: -len(self.expected)].lower())
        )
        self.got = []
        self.size = 0
        return right


def content_length(head: bytes) -> int:
    low = head.lower()
    at = low.find(b"\r\ncontent-length:")
    if at < 0:
        raise ConnectionError("an answer without Content-Length")
    end = low.find(b"\r\n", at + 2)
    return int(low[at + 17 : end if end >= 0 else len(low)])


def requests(url: str, count: int, size: int, headers: list[str], body: str) -> list[tuple[bytes, bytes]]:
    """One (request, expected answer) for each connection; ``{n}`` in the URL becomes its number."""
    extra = "".join(f"{header}\r\n" for header in headers)
    made = []
    for number in range(count):
        parts = urlsplit(url.replace("{n}", str(number)))
        payload = body.encode() if body else json.dumps({"n": number, "pad": "x" * max(0, size - 24)}).encode()
        head = (
            f"POST {parts.path or '/'} HTTP/1.1\r\nhost: {parts.netloc}\r\n{extra}"
            f"content-type: application/json\r\ncontent-length: {len(payload)}\r\n\r\n"
        )
        made.append((head.encode() + payload, payload))
    return made


class Run:
    """One measurement: connections, a poller, what was seen."""

    def __init__(self, url: str, made: list[tuple[bytes, bytes]]) -> None:
        parts = urlsplit(url)
        self.address = (parts.hostname or "127.0.0.1", parts.port or 80)
        self.poll = select.epoll()
        self.by_fd: dict[int, Connection] = {}
        self.latencies: list[float] = []
        self.errors = 0
        for request, expected in made:
            self.connect(request, expected)

    def connect(self, request: bytes, expected: bytes) -> Connection:
        connection = Connection(self.address, request, expected)
        self.by_fd[connection.socket.fileno()] = connection
        self.poll.register(connection.socket.fileno(), select.EPOLLIN)
        return connection

    def close(self) -> None:
        for connection in self.by_fd.values():
            connection.socket.close()
        self.poll.close()

    def send(self, connection: Connection, begun: float) -> None:
        if not connection.send(begun):
            self.poll.modify(connection.socket.fileno(), select.EPOLLIN | select.EPOLLOUT)

    def turn(self, timeout: float, done: list[Connection]) -> None:
        """Wait for events once; append to ``done`` each connection that is free again."""
        for fd, event in self.poll.poll(timeout):
            connection = self.by_fd[fd]
            if event & select.EPOLLOUT and connection.push():
                self.poll.modify(fd, select.EPOLLIN)
            if not event & ~select.EPOLLOUT:
                continue
            try:
                right = connection.receive()
            except ConnectionError:  # reconnect, so that one lost answer doesn't end the load
                self.errors += 1
                self.poll.unregister(fd)
                del self.by_fd[fd]
                connection.socket.close()
                done.append(self.connect(connection.request, connection.expected))
                continue
            if right is None:
                continue
            if right:
                self.latencies.append(time.perf_counter() - connection.begun)
            else:
                self.errors += 1
            done.append(connection)

    def closed(self, seconds: float, count: int) -> float:
        """Every connection as fast as answers come, for ``seconds`` or ``count`` answers; returns the time."""
        clock = time.perf_counter
        begun = clock()
        end = begun + seconds if not count else float("inf")
        left = count or sys.maxsize
        busy = 0
        for connection in list(self.by_fd.values()):
            if left:
                left -= 1
                busy += 1
                self.send(connection, clock())
        done: list[Connection] = []
        while busy:
            self.turn(60.0, done)
            now = clock()
            for connection in done:
                if left > 0 and now < end:
                    left -= 1
                    self.send(connection, clock())
                else:
                    busy -= 1
            done.clear()
            if now > end + 60:
                self.errors += busy
                break
        return clock() - begun

    def open(self, seconds: float, rate: float, *, poisson: bool, seed: int) -> float:
        """``rate`` requests a second, whatever the server does; returns the time."""
        clock = time.perf_counter
        draw = random.Random(seed)
        due: deque[float] = deque()
        at = 0.0
        while at < seconds:
            due.append(at)
            at += draw.expovariate(rate) if poisson else 1 / rate
        free = list(self.by_fd.values())
        done: list[Connection] = []
        total = len(free)
        begun = clock()
        while due or len(free) < total:
            now = clock() - begun
            while due and due[0] <= now and free:
                self.send(free.pop(), begun + due.popleft())
            # epoll counts in milliseconds, select in microseconds: sleep in select, collect with epoll.
            wait = due[0] - (clock() - begun) if due and free else 60.0
            if wait > 0 and not select.select([self.poll], [], [], wait)[0]:
                continue
            self.turn(0, done)
            free.extend(done)
            done.clear()
            if now > seconds + 60:
                self.errors += total - len(free) + len(due)
                break
        return clock() - begun


def quantile(values: list[float], q: float) -> float:
    """Linear interpolation between order statistics, as numpy's default; NaN when empty."""
    if not values:
        return float("nan")
    values = sorted(values)
    at = q * (len(values) - 1)
    low = int(at)
    high = min(low + 1, len(values) - 1)
    return values[low] + (values[high] - values[low]) * (at - low)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("url")
    parser.add_argument("--clients", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--count", type=int, default=0, help="stop after this many answers instead")
    parser.add_argument("--rate", type=float, default=0.0, help="open loop, requests a second")
    parser.add_argument("--even", action="store_true", help="open loop: evenly spaced instead of Poisson")
    parser.add_argument("--size", type=int, default=0, help="payload in bytes")
    parser.add_argument("--body", default="", help="this payload for all instead")
    parser.add_argument("--header", action="append", default=[], help="Name: value")
    parser.add_argument("--want", default="", help="Name: value that each answer must have")
    parser.add_argument("--warm", type=int, default=0, help="answers to take before measuring")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    Connection.wanted = options.want.lower().encode()
    run = Run(options.url, requests(options.url, options.clients, options.size, options.header, options.body))
    try:
        if options.warm:
            run.closed(60, options.warm)
            run.latencies.clear()
        cpu = time.process_time()
        if options.rate:
            took = run.open(options.seconds, options.rate, poisson=not options.even, seed=options.seed)
        else:
            took = run.closed(options.seconds, options.count)
        cpu = time.process_time() - cpu
    finally:
        run.close()
    values = [value * 1000 for value in run.latencies]
    json.dump(
        {
            "answers": len(values),
            "errors": run.errors,
            "seconds": took,
            "rate": len(values) / took,
            "p50": quantile(values, 0.5),
            "p99": quantile(values, 0.99),
            "max": max(values, default=float("nan")),
            "generator_cpu": cpu / took,
        },
        sys.stdout,
    )
    print()


if __name__ == "__main__":
    main()

"""The benchmark's own tools tell the truth: correctness here, speed in ``make bench``."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from . import load, proc
from .report import Bar, Report
from .subjects import Bench, Subject, post, program

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs epoll and /proc")


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench("process")
    try:
        yield bench
    finally:
        bench.close()


def test_the_floor_answers_through_the_real_runtime(bench: Bench) -> None:
    floor = bench.floor()
    status, headers, body = post(floor.url(), b'{"a": [1, 2]}')
    assert (status, body, headers["x-faas-start"]) == (200, b'{"a": [1, 2]}', "cold")
    assert post(floor.url(), b"{}")[1]["x-faas-start"] == "warm"
    assert len(proc.runtimes(floor.pid)) == 1
    assert proc.tree_pss(floor.pid) > 5
    assert proc.cpu(floor.pid) > 0


def test_nothing_is_left_of_a_subject(bench: Bench) -> None:
    floor = bench.floor()
    post(floor.url())
    pids = proc.tree(floor.pid)
    bench.stop(floor)
    assert len(pids) == 2
    assert all(proc.stat(pid) is None for pid in pids)


def test_every_load_checks_its_answers(bench: Bench) -> None:
    floor = bench.floor()
    closed = program("load.py", floor.url(), "--clients", 3, "--count", 60)
    opened = program("load.py", floor.url(), "--clients", 3, "--rate", 200, "--seconds", 0.5)
    big = program("load.py", floor.url(), "--count", 2, "--size", 1_000_000)
    assert (closed["answers"], closed["errors"]) == (60, 0)
    assert opened["errors"] == big["errors"] == 0
    assert opened["answers"] > 50
    wrong = program("load.py", floor.url(), "--count", 5, "--want", "X-Faas-Start: cold")
    assert (wrong["answers"], wrong["errors"]) == (0, 5)


def test_a_wrong_answer_is_an_error() -> None:
    class Wrong(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(200)
            self.send_header("content-length", "2")
            self.end_headers()
            self.wfile.write(b"no")

        def log_message(self, format: str, *args: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Wrong) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            seen = program("load.py", f"http://127.0.0.1:{server.server_port}/", "--count", 3)
        finally:
            server.shutdown()
            thread.join()
    assert (seen["answers"], seen["errors"]) == (0, 3)


def test_a_cold_start_can_be_asked_of_the_floor(bench: Bench) -> None:
    floor: Subject = bench.floor()
    seen = program("load.py", floor.url(), "--count", 3, "--header", "X-Faas-Start: cold", "--want",
                   "X-Faas-Start: cold")
    assert (seen["answers"], seen["errors"]) == (3, 0)


def test_quantiles_and_bars() -> None:
    assert load.quantile([1.0, 2.0, 3.0, 4.0], 0.5) == 2.5
    report = Report()
    for floor, ours in ((1.0, 1.2), (2.0, 2.0), (1.0, 3.0)):
        report.add("part", "ms", "floor", floor)
        report.add("part", "ms", "ours", ours)
    assert report.ratio("part", "ms", "ours", "floor") == (1.2, 1.0, 3.0)
    low, high = report.verdicts([Bar("part", "ms", 1.1), Bar("part", "ms", 1.2)])
    assert (low["met"], high["met"]) == (False, True)

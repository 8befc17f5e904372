"""What no client should send, and what no function should say to its Runtime API. The cloud goes on each time."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.cloud import Cloud
from tests.support.project import Project
from tests.support.raw import Wire, connection, exchange
from tests.support.traces import await_true

CODE = """
    import time

    def handler(event, context):
        if isinstance(event, dict) and "sleep" in event:
            time.sleep(event["sleep"])
        return "fine"
"""
RUDE = """
    import http.client
    import json
    import os
    import socket

    API = os.environ["AWS_LAMBDA_RUNTIME_API"]
    INVOCATION = "/2018-06-01/runtime/invocation/"

    def handler(event, context):
        said = []

        def post(id, body, headers=None, kind="response"):
            connection = http.client.HTTPConnection(API, timeout=5)
            try:
                connection.request("POST", f"/2018-06-01/runtime/invocation/{id}/{kind}", body, headers or {})
                answer = connection.getresponse()
                said.append([answer.status, json.loads(answer.read()).get("errorType")])
            except OSError as error:
                said.append([0, type(error).__name__])
            finally:
                connection.close()

        def raw(data):
            host, _, port = API.partition(":")
            with socket.create_connection((host, int(port)), timeout=5) as sock:
                parts = []
                try:
                    sock.sendall(data)
                    sock.shutdown(socket.SHUT_WR)
                    while part := sock.recv(65536):
                        parts.append(part)
                except OSError:  # hung up on, at whatever moment
                    pass
            head = b"".join(parts).split(b" ")
            said.append(int(head[1]) if len(head) > 1 else 0)

        here = context.aws_request_id
        match event["do"]:
            case "wrong id":
                post("00000000-0000-4000-8000-000000000000", b"1")
                post("not-an-id", b"1")
                post("00000000-0000-4000-8000-000000000000", b"{}", kind="error")
            case "twice":
                post(here, b'"first"')
                post(here, b'"second"')
                post(here, b"{}", kind="error")
                print("said", json.dumps(said))
            case "too large":
                post(here, b"x" * 6_291_557)
                print("said", json.dumps(said))
            case "too large, chunked":
                post(here, (b"x" * 2**20 for _ in range(7)))
                print("said", json.dumps(said))
            case "next while running":
                raw(f"GET /2018-06-01/runtime/invocation/next HTTP/1.1\\r\\nHost: {API}\\r\\n\\r\\n".encode())
            case "init error":
                raw(b"POST /2018-06-01/runtime/init/error HTTP/1.1\\r\\nHost: a\\r\\nContent-Length: 2\\r\\n\\r\\n{}")
            case "paths":
                raw(b"GET /2018-06-01/ping HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n")
                raw(b"GET /etc/passwd HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n")
                raw(f"POST {INVOCATION}{here}/other HTTP/1.1\\r\\nContent-Length: 0\\r\\n\\r\\n".encode())
            case "garbage":
                raw(b"\\x00\\xff\\x16\\x03\\x01" * 100 + b"\\r\\n\\r\\n")
                raw(f"POST {INVOCATION}{here}/response HTTP/1.1\\r\\nContent-Length: -5\\r\\n\\r\\n".encode())
                raw(b"GET /" + b"x" * 3_000_000 + b" HTTP/1.1\\r\\n\\r\\n")
                raw(f"POST {INVOCATION}{here}/response HTTP/1.1\\r\\nContent-Length: 10\\r\\n\\r\\nabc".encode())
        return said
"""
PATH = "/2015-03-31/functions/fine/invocations"


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    root = tmp_path_factory.mktemp("bad")
    project = Project(root).function("fine", CODE, timeout=5).function("rude", RUDE, timeout=10)
    project.route("ANY /{proxy+}", "fine")
    with Cloud.start(project.write(), home=root / "home", sandbox="process") as cloud:
        yield cloud
        assert not [line for line in cloud.output if line.startswith(("Traceback", "ERROR"))], cloud.output


@pytest.fixture(autouse=True)
def goes_on(cloud: Cloud) -> Iterator[None]:
    """Whatever a test did, the next caller is served on both ports."""
    yield
    assert cloud.process.poll() is None
    assert cloud.invoke("fine", {}).json() == "fine"
    assert cloud.request("GET", "/next").body == b"fine"
    assert await_true(lambda: states(cloud).count("busy") == 0), states(cloud)


def states(cloud: Cloud) -> list[str]:
    return [instance["state"] for instance in cloud.admin("GET", "/_faas/instances").json()["instances"]]


def both(cloud: Cloud) -> list[tuple[str, str]]:
    return [(cloud.api_url, PATH), (cloud.gateway_url, "/here")]


def test_not_json(cloud: Cloud) -> None:
    for body in (b"{", b"nope", b'{"a":1} x', b"\xff\xfe", b"'single'", b" "):
        answer = exchange(cloud.api_url, b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b"
                          % (PATH.encode(), len(body), body))
        assert (answer.status, answer.header("x-amzn-errortype")) == (400, "InvalidRequestContentException"), body
        assert answer.json()["Type"] == "User"
        assert "Could not parse request body into json" in answer.json()["message"]


def test_json_that_is_ten_thousand_deep(cloud: Cloud) -> None:
    for body in (b"[" * 10_000 + b"]" * 10_000, b'{"a":' * 10_000 + b"1" + b"}" * 10_000):
        answer = exchange(cloud.api_url, b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b"
                          % (PATH.encode(), len(body), body))
        assert answer.status in (200, 400)


def test_too_large_by_its_own_word(cloud: Cloud) -> None:
    """It is refused without being read to its end."""
    for url, path in both(cloud):
        with connection(url) as wire:
            wire.send(b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n" % path.encode())
            sent = 0
            try:
                for _ in range(200):
                    wire.send(b"x" * 65536)
                    sent += 65536
                answer = wire.answer()
                assert answer.status == 413
            except (BrokenPipeError, ConnectionResetError):
                pass  # closed while we were still sending
            assert sent <= 14 * 2**20


def test_too_large_in_chunks(cloud: Cloud) -> None:
    for url, path in both(cloud):
        with connection(url) as wire:
            wire.send(b"POST %b HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" % path.encode())
            try:
                for _ in range(11 * 16 + 2):
                    wire.send(b"10000\r\n" + b"x" * 65536 + b"\r\n")
                answer = wire.answer()
                assert answer.status == 413
            except (BrokenPipeError, ConnectionResetError):
                pass


def test_unknown_functions_and_methods(cloud: Cloud) -> None:
    answer = cloud.invoke("nobody", {})
    assert (answer.status, answer.headers["x-amzn-errortype"]) == (404, "ResourceNotFoundException")
    for method in ("GET", "PUT", "DELETE", "PATCH"):
        answer = cloud.api("PUT" if method == "PUT" else method, PATH)
        assert (answer.status, answer.headers["allow"]) == (405, "POST"), method
    assert cloud.api("POST", "/nothing/here").status == 404
    assert exchange(cloud.gateway_url, b"BREW /pot HTTP/1.1\r\nHost: x\r\n\r\n").status in (200, 400, 405, 501)


@pytest.mark.parametrize("head", [b"X-Bomb: " + b"x" * 1_200_000, b"\r\n".join(b"X-%d: " % n + b"y" * 1000
                                                                             for n in range(1200))])
def test_more_than_a_megabyte_of_headers(cloud: Cloud, head: bytes) -> None:
    for url, path in both(cloud):
        with connection(url) as wire:
            try:
                wire.send(b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n%b\r\n\r\n" % (path.encode(), head))
                answer = wire.answer()
                assert answer.status in (400, 431)
            except (BrokenPipeError, ConnectionResetError):
                pass


def test_a_header_line_without_end(cloud: Cloud) -> None:
    """The server gives up on it; it does not keep all of it."""
    for url, path in both(cloud):
        with connection(url) as wire:
            wire.send(b"GET %b HTTP/1.1\r\nX-Endless: " % path.encode())
            assert sent_until_refused(wire) < 16 * 2**20


def test_a_request_line_without_end(cloud: Cloud) -> None:
    for url, _ in both(cloud):
        with connection(url) as wire:
            wire.send(b"GET /")
            assert sent_until_refused(wire) < 16 * 2**20


def sent_until_refused(wire: Wire) -> int:
    """Bytes that went out (buffers of the kernel included) before the server hung up."""
    sent = 0
    try:
        while sent < 64 * 2**20:
            wire.send(b"x" * 65536)
            sent += 65536
    except (BrokenPipeError, ConnectionResetError):
        pass
    return sent


def test_a_half_closed_connection_gets_its_answer(cloud: Cloud) -> None:
    body = b'{"sleep": 0.5}'
    plain = b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Length: 14\r\n\r\n%b"
    chunked = b"POST %b HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\ne\r\n%b\r\n0\r\n\r\n"
    for request in (plain, chunked):
        for url, path in both(cloud):
            with connection(url) as wire:
                wire.send(request % (path.encode(), body))
                wire.sock.shutdown(socket.SHUT_WR)
                assert wire.answer().body in (b'"fine"', b"fine")
                assert wire.until_closed() == b""


def test_a_client_that_hangs_up_does_not_cost_an_instance(cloud: Cloud) -> None:
    cloud.admin("POST", "/_faas/functions/fine/evict")
    for url, path in both(cloud):
        with connection(url) as wire:
            wire.send(b'POST %b HTTP/1.1\r\nHost: x\r\nContent-Length: 14\r\n\r\n{"sleep": 2.0}' % path.encode())
            assert await_true(lambda: "busy" in states(cloud))
        assert await_true(lambda: states(cloud) == ["idle"]), states(cloud)
    assert cloud.invoke("fine", {}).headers["x-faas-start"] == "warm"


def test_partial_heads_do_not_hold_up_others(cloud: Cloud) -> None:
    wires = []
    try:
        for _ in range(50):
            for url, path in both(cloud):
                sock = socket.create_connection(url.removeprefix("http://").split(":"), timeout=5)
                sock.sendall(b"POST %b HTTP/1.1\r\nHost: x\r\nConte" % path.encode())
                wires.append(sock)
        began = time.monotonic()
        assert cloud.invoke("fine", {}).status == 200
        assert time.monotonic() - began < 3
    finally:
        for sock in wires:
            sock.close()


@pytest.mark.parametrize(
    "data",
    [
        b"\x00\x01\x02\xff" * 64 + b"\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"z" * 500,  # TLS
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET relative HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nno colon here\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost : x\r\n\r\n",
        b"GET / HTTP/1.1\r\n: empty\r\n\r\n",
        b"GET /a\x00b HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nX-Nul: a\x00b\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: abc\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: +1\r\n\r\na",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999999\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nab\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\nabc",
    ],
)
def test_what_is_not_http(cloud: Cloud, data: bytes) -> None:
    """Refused with 400, or the connection ends; never an invocation of what was smuggled behind it."""
    for url in (cloud.api_url, cloud.gateway_url):
        before = count(cloud)
        with connection(url) as wire:
            wire.send(data + b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n")
            wire.sock.shutdown(socket.SHUT_WR)
            said = wire.until_closed()
        assert not said or said.startswith((b"HTTP/1.1 4", b"HTTP/1.1 5")), said
        assert said.count(b"HTTP/1.1 ") <= 1, said
        assert count(cloud) == before, "something was invoked"


def count(cloud: Cloud) -> int:
    return sum(n["invocations"] for n in cloud.admin("GET", "/_faas/instances").json()["instances"])


@pytest.mark.parametrize(
    "name", ["%00", "%zz", "%", "a%2Fb", "..%2F..%2Fetc", "%F0%9F%98%80", "a%0d%0aX-Injected:%20yes", "fine%00", "a b"]
)
def test_names_that_are_none(cloud: Cloud, name: str) -> None:
    request = f"POST /2015-03-31/functions/{name}/invocations HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"
    answer = exchange(cloud.api_url, request.encode())
    assert answer.status in (400, 404)
    assert "x-injected" not in answer.headers
    request = f"GET /2015-03-31/functions/{name} HTTP/1.1\r\nHost: x\r\n\r\n"
    assert exchange(cloud.api_url, request.encode()).status in (400, 404)


def test_many_connections_at_once(cloud: Cloud) -> None:
    socks = [socket.create_connection(cloud.api_url.removeprefix("http://").split(":")) for _ in range(300)]
    try:
        assert cloud.invoke("fine", {}).status == 200
    finally:
        for sock in socks:
            sock.close()


# -- from inside --------------------------------------------------------------------


def rude(cloud: Cloud, do: str) -> Any:
    return cloud.invoke("rude", {"do": do}).json()


def test_runtime_api_wrong_request_id(cloud: Cloud) -> None:
    assert rude(cloud, "wrong id") == [[400, "InvalidRequestID"]] * 3


def test_runtime_api_second_response(cloud: Cloud) -> None:
    assert rude(cloud, "twice") == "first"
    assert said(cloud) == [[202, None], [403, "InvalidStateTransition"], [403, "InvalidStateTransition"]]


@pytest.mark.parametrize("do", ["too large", "too large, chunked"])
def test_runtime_api_response_too_large(cloud: Cloud, do: str) -> None:
    answer = cloud.invoke("rude", {"do": do})
    assert answer.headers["x-amz-function-error"] == "Unhandled"
    assert answer.json() == {
        "errorType": "Function.ResponseSizeTooLarge",
        "errorMessage": "Response payload size exceeded maximum allowed payload size (6291556 bytes).",
    }
    assert said(cloud) == [[413, "RequestEntityTooLarge"]]


def said(cloud: Cloud) -> Any:
    """What the function printed last, after its answer was out."""

    def look() -> Any:
        lines = cloud.admin("GET", f"/_faas/logs/rude?since={said.__dict__.get('seq', 0)}").json()["lines"]
        found = [line for line in lines if line["text"].startswith("said ")]
        if found:
            said.__dict__["seq"] = found[-1]["seq"]
        return found and json.loads(found[-1]["text"][5:])

    return await_true(look)


def test_runtime_api_calls_out_of_turn(cloud: Cloud) -> None:
    assert rude(cloud, "next while running") == [403]
    assert rude(cloud, "init error") == [403]


def test_runtime_api_paths(cloud: Cloud) -> None:
    assert rude(cloud, "paths") == [200, 404, 404]


def test_runtime_api_garbage(cloud: Cloud) -> None:
    answers = rude(cloud, "garbage")
    assert len(answers) == 4
    assert all(status in (0, 400, 413, 431) for status in answers), answers

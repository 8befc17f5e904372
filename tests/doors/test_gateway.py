"""The HTTP gateway: routes to functions, requests to events, what functions return to answers."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.cloud import Cloud
from tests.support.project import Project
from tests.support.raw import RawAnswer, connection, exchange

ECHO = """
    import os

    def handler(event, context):
        return {"me": os.environ["AWS_LAMBDA_FUNCTION_NAME"], "event": event}
"""
ANSWER = """
    import json
    import time

    def handler(event, context):
        wish = json.loads(event["body"]) if event.get("body") else {}
        time.sleep(wish.get("sleep", 0))
        if "raise" in wish:
            raise RuntimeError(wish["raise"])
        return wish.get("return")
"""
JSON = "Content-Type: application/json\r\n"


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    root = tmp_path_factory.mktemp("gateway")
    project = Project(root)
    project.function("fixed", ECHO)
    for name in ("variable", "greedy", "other", "rest", "root"):
        project.function(name, folder="fixed")
    project.function("answer", ANSWER, timeout=1)
    project.function("closed", folder="answer", reserved_concurrency=0)
    # The order in the file is the reverse of the platform's.
    project.route("ANY /items/{proxy+}", "greedy")
    project.route("GET /items/{id}", "variable")
    project.route("GET /items/all", "fixed")
    project.route("POST /items/all", "other")
    project.route("ANY /items/{id}/parts/{part}", "variable")
    project.route("GET /only-get", "fixed")
    project.route("GET /", "root")
    project.route("ANY /answer", "answer")
    project.route("GET /closed", "closed")
    with Cloud.start(project.write(), home=root / "home", sandbox="process") as cloud:
        yield cloud


def get(cloud: Cloud, target: str, headers: str = "", method: str = "GET", body: bytes = b"") -> RawAnswer:
    """As it is on the wire: no client encodes, normalises or adds anything."""
    length = f"Content-Length: {len(body)}\r\n" if body or method in ("POST", "PUT") else ""
    head = f"{method} {target} HTTP/1.1\r\nHost: localhost:3000\r\n{length}{headers}\r\n"
    return exchange(cloud.gateway_url, head.encode("latin-1") + body, head_only=method == "HEAD")


def event(cloud: Cloud, target: str, headers: str = "", method: str = "GET", body: bytes = b"") -> dict[str, Any]:
    answer = get(cloud, target, headers, method, body)
    assert answer.status == 200, answer
    found: dict[str, Any] = answer.json()["event"]
    return found


def returned(cloud: Cloud, value: object, method: str = "POST") -> RawAnswer:
    """The gateway's answer when the function returns this."""
    return get(cloud, "/answer", JSON, method, json.dumps({"return": value}).encode())


@pytest.mark.parametrize(
    ("method", "path", "function", "key", "parameters"),
    [
        ("GET", "/items/all", "fixed", "GET /items/all", None),
        ("POST", "/items/all", "other", "POST /items/all", None),
        ("GET", "/items/7", "variable", "GET /items/{id}", {"id": "7"}),
        ("PUT", "/items/7", "greedy", "ANY /items/{proxy+}", {"proxy": "7"}),
        ("DELETE", "/items/all", "greedy", "ANY /items/{proxy+}", {"proxy": "all"}),
        ("GET", "/items/7/8", "greedy", "ANY /items/{proxy+}", {"proxy": "7/8"}),
        ("GET", "/items/7/parts/8", "variable", "ANY /items/{id}/parts/{part}", {"id": "7", "part": "8"}),
        ("GET", "/items/a%2Fb", "variable", "GET /items/{id}", {"id": "a%2Fb"}),
        ("GET", "/items/a%20b/c%C3%A4", "greedy", "ANY /items/{proxy+}", {"proxy": "a%20b/c%C3%A4"}),
        ("GET", "/", "root", "GET /", None),
    ],
)
def test_the_most_specific_route_is_taken(
    cloud: Cloud, method: str, path: str, function: str, key: str, parameters: object
) -> None:
    answer = get(cloud, path, method=method)
    assert answer.status == 200
    assert answer.json()["me"] == function
    found = answer.json()["event"]
    assert (found["routeKey"], found.get("pathParameters"), found["rawPath"]) == (key, parameters, path)


def test_the_event(cloud: Cloud) -> None:
    found = event(cloud, "/items/7?a=1&b=x%20y&a=2&empty=", "User-Agent: probe/1\r\nX-Two: 1\r\nX-Two: 2\r\n")
    assert found["version"] == "2.0"
    assert found["rawQueryString"] == "a=1&b=x%20y&a=2&empty="
    assert found["queryStringParameters"] == {"a": "1,2", "b": "x y", "empty": ""}
    assert found["headers"]["x-two"] == "1,2"
    assert found["headers"]["host"] == "localhost:3000"
    assert found["headers"]["x-forwarded-for"] == "127.0.0.1"
    assert found["headers"]["x-amzn-trace-id"].startswith("Root=1-")
    assert found["isBase64Encoded"] is False
    assert "body" not in found
    assert "cookies" not in found
    context = found["requestContext"]
    assert context["http"] == {
        "method": "GET", "path": "/items/7", "protocol": "HTTP/1.1", "sourceIp": "127.0.0.1", "userAgent": "probe/1",
    }
    assert (context["stage"], context["routeKey"]) == ("$default", "GET /items/{id}")
    assert context["domainName"] == "localhost"
    assert isinstance(context["timeEpoch"], int)


def test_cookies_in_both_directions(cloud: Cloud) -> None:
    found = event(cloud, "/items/7", "Cookie: a=1; b=2\r\nCookie: c=3\r\n")
    assert found["cookies"] == ["a=1", "b=2", "c=3"]
    assert "cookie" not in found["headers"]
    answer = returned(cloud, {"statusCode": 200, "cookies": ["a=1; Path=/", "b=2"], "body": "x"})
    assert answer.headers["set-cookie"] == ["a=1; Path=/", "b=2"]


def test_bodies_in_both_directions(cloud: Cloud) -> None:
    binary = bytes(range(256))
    found = event(cloud, "/items/all", "Content-Type: image/png\r\n", "POST", binary)
    assert (found["isBase64Encoded"], base64.b64decode(found["body"])) == (True, binary)
    found = event(cloud, "/items/all", "Content-Type: text/plain; charset=utf-8\r\n", "POST", "grün".encode())
    assert (found["isBase64Encoded"], found["body"]) == (False, "grün")
    found = event(cloud, "/items/all", "Content-Type: application/vnd.api+json\r\n", "POST", b"{}")
    assert (found["isBase64Encoded"], found["body"]) == (False, "{}")
    form = "Content-Type: application/x-www-form-urlencoded\r\n"
    assert event(cloud, "/items/all", form, "POST", b"a=1")["isBase64Encoded"] is True
    assert event(cloud, "/items/all", "", "POST", b"a")["isBase64Encoded"] is True
    text = base64.b64encode(binary).decode()
    answer = returned(cloud, {
        "statusCode": 201, "body": text, "isBase64Encoded": True, "headers": {"Content-Type": "image/png"},
    })
    assert (answer.status, answer.body, answer.headers["content-type"]) == (201, binary, ["image/png"])


@pytest.mark.parametrize(
    ("value", "body"),
    [
        ("text", b"text"), (7, b"7"), ({"a": 1}, b'{"a": 1}'), ([1, 2], b"[1, 2]"), (None, b"null"), (True, b"true"),
        ({"body": "no status"}, b'{"body": "no status"}'),
    ],
)
def test_an_answer_without_status_is_inferred(cloud: Cloud, value: object, body: bytes) -> None:
    answer = returned(cloud, value)
    assert (answer.status, answer.body, answer.headers["content-type"]) == (200, body, ["application/json"])


def test_status_and_headers_of_a_function(cloud: Cloud) -> None:
    answer = returned(cloud, {
        "statusCode": "418", "body": "tea", "headers": {"X-One": "1", "X-Number": 5, "X-Flag": True},
    })
    assert (answer.status, answer.body) == (418, b"tea")
    assert (answer.header("x-one"), answer.header("x-number"), answer.header("x-flag")) == ("1", "5", "true")
    assert answer.header("x-faas-start") in ("cold", "warm")
    assert answer.header("server-timing")
    assert answer.header("apigw-requestid")
    empty = returned(cloud, {"statusCode": 204})
    assert (empty.status, empty.body, empty.header("content-length")) == (204, b"", None)


def test_headers_that_belong_to_the_connection_are_not_passed_on(cloud: Cloud) -> None:
    answer = returned(cloud, {
        "statusCode": 200, "body": "four",
        "headers": {"Content-Length": "9999", "Transfer-Encoding": "chunked", "Connection": "close", "X-Kept": "1"},
    })
    assert (answer.body, answer.headers["content-length"], answer.header("x-kept")) == (b"four", ["4"], "1")
    assert "transfer-encoding" not in answer.headers


@pytest.mark.parametrize(
    "value",
    [
        {"statusCode": 200, "headers": {"X-A": "1\r\nX-Injected: yes"}},
        {"statusCode": 200, "headers": {"X-A\r\nX-Injected": "yes"}},
        {"statusCode": 200, "headers": {"X-A": "1\nX-Injected: yes"}},
        {"statusCode": 200, "headers": {"X A": "1"}},
        {"statusCode": 200, "headers": {"": "1"}},
        {"statusCode": 200, "cookies": ["a=1\r\nX-Injected: yes"]},
        {"statusCode": 200, "cookies": "a=1"},
        {"statusCode": 200, "headers": ["X-A: 1"]},
        {"statusCode": 200, "headers": {"X-A": ["1"]}},
        {"statusCode": 200, "body": {"an": "object"}},
        {"statusCode": 200, "body": "not base64!", "isBase64Encoded": True},
        {"statusCode": "two hundred"},
        {"statusCode": 99},
        {"statusCode": 1000},
        {"statusCode": None},
        {"statusCode": [200]},
    ],
)
def test_malformed_answers_of_functions_are_502(cloud: Cloud, value: object) -> None:
    answer = returned(cloud, value)
    assert (answer.status, answer.json()) == (502, {"message": "Internal Server Error"})
    assert "x-injected" not in answer.headers
    assert answer.header("x-faas-instance")


def test_function_errors_and_timeouts(cloud: Cloud) -> None:
    answer = get(cloud, "/answer", JSON, "POST", b'{"raise": "secret"}')
    assert (answer.status, answer.json()) == (502, {"message": "Internal Server Error"})
    answer = get(cloud, "/answer", JSON, "POST", b'{"sleep": 3}')
    assert (answer.status, answer.json()) == (504, {"message": "Endpoint request timed out"})
    assert answer.header("x-faas-instance")


def test_refusals(cloud: Cloud) -> None:
    answer = get(cloud, "/nowhere")
    assert (answer.status, answer.json()) == (404, {"message": "Not Found"})
    assert get(cloud, "/items").status == 404
    assert get(cloud, "/items/").status == 404
    answer = get(cloud, "/only-get", method="POST")
    assert (answer.status, answer.json(), answer.header("allow")) == (405, {"message": "Method Not Allowed"}, "GET")
    answer = get(cloud, "/closed")
    assert (answer.status, answer.json()) == (429, {"message": "Too Many Requests"})
    answer = get(cloud, "/items/7", "X-Faas-Start: lukewarm\r\n")
    assert answer.status == 400
    assert "X-Faas-Start" in answer.json()["message"]


@pytest.mark.parametrize("size", [6_300_000, 11_000_000])
def test_bodies_that_are_too_large(cloud: Cloud, size: int) -> None:
    answer = get(cloud, "/items/all", "Content-Type: text/plain\r\n", "POST", b"x" * size)
    assert (answer.status, answer.json()) == (413, {"message": "Request Entity Too Large"})
    assert get(cloud, "/items/7").status == 200


def test_head_has_the_headers_and_no_body(cloud: Cloud) -> None:
    with connection(cloud.gateway_url) as wire:
        wire.send(b"HEAD /answer HTTP/1.1\r\nHost: x\r\n\r\nGET /items/7 HTTP/1.1\r\nHost: x\r\n\r\n")
        first = wire.answer(head_only=True)
        assert (first.status, first.header("content-length")) == (200, "4")
        assert wire.answer().json()["me"] == "variable"


def test_keep_alive_and_pipelining(cloud: Cloud) -> None:
    with connection(cloud.gateway_url) as wire:
        for n in range(3):
            wire.send(f"GET /items/{n} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            assert wire.answer().json()["event"]["rawPath"] == f"/items/{n}"
        wire.send(b"".join(b"GET /items/%d HTTP/1.1\r\nHost: x\r\n\r\n" % n for n in range(20)))
        paths = [wire.answer().json()["event"]["rawPath"] for _ in range(20)]
        assert paths == [f"/items/{n}" for n in range(20)]


def test_pipelined_bodies_and_unusual_requests_keep_their_order(cloud: Cloud) -> None:
    body = b'{"return": "%d"}'
    plain = b"POST /answer HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 15\r\n\r\n" + body
    chunked = (
        b"POST /answer HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"5\r\n%s\r\na\r\n%s\r\n0\r\n\r\n"
    )
    parts = []
    for n in range(6):
        text = body % n
        parts.append(plain % n if n % 2 == 0 else chunked % (text[:5], text[5:]))
    with connection(cloud.gateway_url) as wire:
        wire.send(b"".join(parts))
        assert [wire.answer().body for _ in range(6)] == [b"%d" % n for n in range(6)]


def test_a_request_in_drips(cloud: Cloud) -> None:
    request = b"POST /answer HTTP/1.1\r\nHost: x\r\n" + JSON.encode() + b'Content-Length: 15\r\n\r\n{"return": "a"}'
    with connection(cloud.gateway_url) as wire:
        for _ in range(2):
            for i in range(len(request)):
                wire.send(request[i : i + 1])
            assert wire.answer().body == b"a"


def test_chunked_requests_and_trailers(cloud: Cloud) -> None:
    head = b"POST /items/all HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n"
    answer = exchange(cloud.gateway_url, head + b"3\r\nabc\r\n2;ext=1\r\nde\r\n0\r\nX-Trailer: 1\r\n\r\n")
    assert answer.json()["event"]["body"] == "abcde"


def test_expect_continue(cloud: Cloud) -> None:
    with connection(cloud.gateway_url) as wire:
        wire.send(
            b"POST /answer HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            b"Content-Length: 15\r\nExpect: 100-continue\r\n\r\n"
        )
        assert wire.answer().status == 100
        wire.send(b'{"return": "a"}')
        assert wire.answer().body == b"a"


def test_connection_close(cloud: Cloud) -> None:
    with connection(cloud.gateway_url) as wire:
        wire.send(b"GET /items/7 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        answer = wire.answer()
        assert answer.json()["me"] == "variable"
        assert answer.header("connection") == "close"
        assert len(answer.headers["date"]) == 1
        assert wire.until_closed() == b""


def test_http_1_0(cloud: Cloud) -> None:
    with connection(cloud.gateway_url) as wire:
        wire.send(b"GET /items/7 HTTP/1.0\r\n\r\n")
        assert wire.answer().json()["me"] == "variable"
        assert wire.until_closed() == b""


@pytest.mark.parametrize(
    ("target", "lines"),
    [
        ("/items/7", b""),
        ("/items/7?", b""),
        ("/items/7??a=b", b""),
        ("/items/7?a=%zz&b=%C3%A4&c=%FF&d", b""),
        ("/items/7?a=1;b=2&a=3&=4&&+=5", b""),
        ("/items//7//", b""),
        ("/items/%2e%2e/%2F", b""),
        ("/items/a:b@c", b""),
        ("/items/7#fragment", b""),
        ("/items/" + "x" * 8000, b""),
        ("/items/7", b"X-Forwarded-For: 203.0.113.9\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Port: 443\r\n"),
        ("/items/7", b"Cookie: a=1;  b=2; ;c\r\n"),
        ("/items/7", b"X-Empty:\r\nX-Spaces:   a  b   \r\nx-lower: 1\r\nX-UPPER: 1\r\n"),
        ("/items/7", b"X-Latin: gr\xfcn\r\nX-Utf8: gr\xc3\xbcn\r\nX-Tab: a\tb\r\n"),
        ("/items/7", b"X-Two: 1\r\nX-Two: 2\r\nX-Two: 3\r\n"),
        ("/items/7", b"X-Amzn-Trace-Id: Root=1-5759e988-bd862e3fe1be46a994272793\r\nUser-Agent: a (b; c)\r\n"),
        ("/items/7", b"Connection: keep-alive\r\nAccept: */*\r\nContent-Length: 0\r\n"),
    ],
)
def test_both_readers_of_requests_make_the_same_event(cloud: Cloud, target: str, lines: bytes) -> None:
    """There is a quick one for what is plain and a thorough one for the rest; nobody may notice which it was."""
    head = b"GET " + target.encode() + b" HTTP/1.1\r\nHost: example.test:8080\r\n" + lines
    quick = exchange(cloud.gateway_url, head + b"\r\n")
    thorough = exchange(cloud.gateway_url, head + b"TE: trailers\r\n\r\n")
    with connection(cloud.gateway_url) as wire:
        wire.send(head[:25])
        wire.send(head[25:] + b"\r\n")
        in_parts = wire.answer()
    assert quick.status == thorough.status == in_parts.status
    shown = [comparable(answer) for answer in (quick, thorough, in_parts)]
    assert shown[0] == shown[1] == shown[2]
    assert quick.headers.keys() == thorough.headers.keys() == in_parts.headers.keys()


def comparable(answer: RawAnswer) -> Any:
    """The event without what differs with each request."""
    if answer.status != 200:
        return answer.json()
    found = answer.json()["event"]
    found["headers"].pop("te", None)
    if found["headers"]["x-amzn-trace-id"] != "Root=1-5759e988-bd862e3fe1be46a994272793":
        del found["headers"]["x-amzn-trace-id"]
    for name in ("requestId", "time", "timeEpoch"):
        del found["requestContext"][name]
    return found

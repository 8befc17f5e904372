"""Each command against a running emulator: what it asks, what it prints, how it ends."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import emulator as package

from .conftest import FUNCTION, INSTANCE, LINES, Emulator, Faas

INVOKE = "/2015-03-31/functions/hello/invocations"


def test_help_and_version(faas: Faas) -> None:
    done = faas("--help")
    assert done.returncode == 0
    commands = ["up", "exec", "new", "list", "invoke", "logs", "ps", "evict", "prewarm", "reset", "doctor"]
    for command in [*commands, "clean"]:
        assert f"\n    {command} " in done.stdout
        told = faas(command, "--help")
        assert told.returncode == 0, told.stderr
        assert told.stdout.startswith(f"usage: faas {command}")
    assert "examples:" in done.stdout
    assert faas("--version").stdout.strip() == f"faas-emulator {package.__version__}"


@pytest.mark.parametrize("words", ["", "nonsense", "invoke", "invoke x --cold --warm", "exec"])
def test_bad_usage_is_2(words: str, faas: Faas) -> None:
    done = faas(*words.split())
    assert done.returncode == 2
    assert done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("words", ["list", "ps", "invoke x", "logs x", "evict x", "prewarm x", "reset"])
def test_no_emulator_is_3_and_one_line_that_helps(words: str, faas: Faas) -> None:
    done = faas(*words.split())
    assert done.returncode == 3
    assert done.stderr.count("\n") == 1
    assert "faas up" in done.stderr
    assert done.stdout == ""


def test_something_else_that_answers_is_named(faas: Faas, emulator: Emulator) -> None:
    emulator.answers["/_faas/functions"] = (200, {}, b"<html>")
    done = faas("list")
    assert (done.returncode, done.stderr.count("\n")) == (3, 1)
    assert "no faas-emulator" in done.stderr


def test_list(faas: Faas, emulator: Emulator) -> None:
    done = faas("list")
    head, first, second = done.stdout.splitlines()
    assert head.split() == [
        "NAME", "RUNTIME", "HANDLER", "MEMORY", "TIMEOUT", "REVISION", "RESERVED", "INSTANCES", "URL",
    ]
    assert first.split() == [
        "hello", "python3.11", "app.handler", "128", "MB", "3s", "abcdef012345", "-", "1",
        *FUNCTION["urls"][0].split(),
    ]
    assert second.strip() == FUNCTION["urls"][1]
    assert json.loads(faas("list", "--json").stdout) == {"functions": [FUNCTION]}
    assert "\x1b" not in done.stdout
    emulator.answers["/_faas/functions"] = {"functions": []}
    assert "faas new" in faas("list").stdout


def test_ps(faas: Faas, emulator: Emulator) -> None:
    head, row = faas("ps").stdout.splitlines()
    for word in ("STATE", "SANDBOX", "AGE", "IDLE FOR", "MEMORY", "PEAK", "INVOCATIONS"):
        assert word in head
    assert row.split() == [
        "7", "hello", "abcdef012345", "idle", "process", "1m15s", "3.0s", "30.0", "MB", "-", "12",
        "106", "ms",
    ]
    assert json.loads(faas("ps", "--json").stdout) == {"instances": [INSTANCE]}
    assert "no instances of other" in faas("ps", "other").stdout


def test_evict_prewarm_reset(faas: Faas, emulator: Emulator) -> None:
    assert faas("evict", "hello").stdout == "evicted 1 instance of hello\n"
    assert faas("prewarm", "hello", "-n", "2").stdout == "started 2 instances of hello, 2 ready\n"
    assert json.loads(faas("reset", "--json").stdout) == {"evicted": 2}
    assert [(method, path) for method, path, _, _ in emulator.asked] == [
        ("POST", "/_faas/functions/hello/evict"), ("POST", "/_faas/functions/hello/prewarm?count=2"),
        ("POST", "/_faas/reset"),
    ]
    done = faas("evict", "nobody")
    assert (done.returncode, done.stderr) == (1, "faas: no such function\n")
    assert faas("prewarm", "hello", "-n", "0").returncode == 2
    emulator.answers["/_faas/functions/hello/prewarm"] = {"started": 2, "ready": 1}
    done = faas("prewarm", "hello", "-n", "2")
    assert done.returncode == 1
    assert "faas logs hello" in done.stderr


def test_invoke(faas: Faas, emulator: Emulator) -> None:
    done = faas("invoke", "hello", "-d", '{"a": 1}')
    assert (done.returncode, done.stdout) == (0, '{"ok": true}')
    assert done.stderr == "cold start, 70.0 ms (init 60.5, invoke 4.2), instance 7\n"
    _, path, headers, body = emulator.asked[-1]
    assert (path, body) == (INVOKE, b'{"a": 1}')
    assert "X-Faas-Start" not in headers
    done = faas("invoke", "hello", "--tail", "--cold", "--qualifier", "1")
    assert done.stderr.splitlines()[:3] == ["START", "hello", "END"]
    _, path, headers, body = emulator.asked[-1]
    assert (path, body) == (f"{INVOKE}?Qualifier=1", b"{}")
    assert (headers["X-Faas-Start"], headers["X-Amz-Log-Type"]) == ("cold", "Tail")


def test_where_the_event_comes_from(faas: Faas, emulator: Emulator, tmp_path: Path) -> None:
    (tmp_path / "event.json").write_text("[1]")
    faas("invoke", "hello", "-d", "@event.json", "--warm")
    assert (emulator.asked[-1][3], emulator.asked[-1][2]["X-Faas-Start"]) == (b"[1]", "warm")
    faas("invoke", "hello", "-d", "-", stdin="[2]")
    assert emulator.asked[-1][3] == b"[2]"
    done = faas("invoke", "hello", "-d", "@nowhere.json")
    assert done.returncode == 2
    assert "nowhere.json" in done.stderr


def test_invoke_for_machines(faas: Faas, emulator: Emulator) -> None:
    answer = json.loads(faas("invoke", "hello", "--json", "--tail").stdout)
    assert answer["payload"] == {"ok": True}
    assert answer["phases_ms"] == {"init": 60.5, "invoke": 4.25, "total": 70.0}
    assert (answer["start"], answer["instance"], answer["status"]) == ("cold", "7", 200)
    assert answer["log"] == "START\nhello\nEND\n"


def test_a_function_that_fails_is_1(faas: Faas, emulator: Emulator) -> None:
    emulator.answers[INVOKE] = (200, {"X-Amz-Function-Error": "Unhandled"}, b'{"errorMessage": "no"}')
    done = faas("invoke", "hello")
    assert (done.returncode, done.stdout) == (1, '{"errorMessage": "no"}')
    assert "function error: Unhandled" in done.stderr
    emulator.answers[INVOKE] = (429, {}, b'{"Reason": "x", "message": "Rate Exceeded."}')
    done = faas("invoke", "hello")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "faas: Rate Exceeded. (HTTP 429)\n"


def test_logs(faas: Faas, emulator: Emulator) -> None:
    assert faas("logs", "hello").stdout.splitlines() == [
        "02:40:00.000 [7] INIT_START", "02:40:00.250 [7] hello there",
    ]
    assert json.loads(faas("logs", "hello", "--json").stdout)["lines"] == LINES
    assert faas("logs", "nobody").returncode == 1


def test_logs_are_followed_until_the_emulator_stops(faas: Faas, emulator: Emulator) -> None:
    more = {"lines": [LINES[1] | {"seq": 3, "text": "more\n"}], "next": 3}
    pages = iter([{"lines": LINES, "next": 2}, more, (200, {}, b"")])
    emulator.answers["/_faas/logs/hello"] = lambda path: _answer(next(pages))
    done = faas("logs", "hello", "-f", "--json")
    assert [json.loads(line)["seq"] for line in done.stdout.splitlines()] == [1, 2, 3]
    assert done.returncode == 0
    assert "stopped" in done.stderr
    assert [path.partition("&")[0] for _, path, _, _ in emulator.asked] == [
        f"/_faas/logs/hello?since={number}" for number in (0, 2, 3)
    ]


def _answer(page: object) -> tuple[int, dict[str, str], bytes]:
    return page if isinstance(page, tuple) else (200, {}, json.dumps(page).encode())


def test_a_reader_that_has_enough_is_no_error(faas: Faas, emulator: Emulator, tmp_path: Path) -> None:
    import subprocess
    import sys

    from .conftest import environ

    done = subprocess.run(
        ["bash", "-c", f"{sys.executable} -m emulator list | true; echo ${{PIPESTATUS[0]}}"],
        env=environ(FAAS_API_URL=emulator.url), capture_output=True, text=True, timeout=30, check=True,
    )
    assert "Traceback" not in done.stderr

"""``faas invoke``: one call of one function, through the platform's own API."""

from __future__ import annotations

import argparse
import base64
import json
import re
import sys
from http.client import HTTPMessage
from pathlib import Path
from urllib.parse import quote

from . import FAILED, USAGE
from .client import Client, message_of
from .failures import Refused
from .output import colour, print_json


def invoke(arguments: argparse.Namespace) -> int:
    try:
        event = _event(arguments.data)
    except OSError as error:
        print(f"faas: -d {arguments.data}: {error.strerror}", file=sys.stderr)
        return USAGE
    headers = {"Content-Type": "application/json", "X-Amz-Log-Type": "Tail" if arguments.tail else "None"}
    if arguments.cold or arguments.warm:
        headers["X-Faas-Start"] = "cold" if arguments.cold else "warm"
    path = f"/2015-03-31/functions/{quote(arguments.name, safe='')}/invocations"
    if arguments.qualifier:
        path += f"?Qualifier={quote(arguments.qualifier, safe='')}"
    status, answered, payload = Client.of(arguments).request("POST", path, body=event, headers=headers)
    if status >= 300:
        raise Refused(_refusal(status, payload))
    failed = answered.get("X-Amz-Function-Error")
    log = base64.b64decode(answered.get("X-Amz-Log-Result", "")).decode("utf-8", "replace")
    if arguments.json:
        print_json(_as_json(status, answered, payload, log if arguments.tail else None))
    else:
        if log and arguments.tail:
            print(colour(log.rstrip("\n"), "dim", sys.stderr), file=sys.stderr)
        _write(payload)
        print(_summary(answered, failed), file=sys.stderr)
    return FAILED if failed else 0


def _event(data: str) -> bytes:
    if data == "-":
        return sys.stdin.buffer.read()
    if data.startswith("@"):
        return Path(data[1:]).read_bytes()
    return data.encode()


def _refusal(status: int, payload: bytes) -> str:
    try:
        return f"{message_of(json.loads(payload), status)} (HTTP {status})"
    except ValueError:
        return f"HTTP {status}: {payload[:200].decode('utf-8', 'replace')}"


def _write(payload: bytes) -> None:
    """As it came, so that it can be piped on; a terminal wants an end of line."""
    sys.stdout.flush()
    sys.stdout.buffer.write(payload)
    if sys.stdout.isatty() and not payload.endswith(b"\n"):
        sys.stdout.buffer.write(b"\n")
    sys.stdout.buffer.flush()


def _phases(answered: HTTPMessage) -> dict[str, float]:
    """Milliseconds by phase, out of ``Server-Timing: init;dur=12.3, invoke;dur=4``."""
    found = re.findall(r"([\w.-]+)\s*;[^,]*?\bdur=([0-9.]+)", answered.get("Server-Timing", ""))
    return {name: float(duration) for name, duration in found}


def _summary(answered: HTTPMessage, failed: str | None) -> str:
    start = answered.get("X-Faas-Start", "")
    phases = _phases(answered)
    total = phases.pop("total", None) or sum(phases.values())
    parts = [colour(f"{start} start", "blue" if start == "cold" else "green", sys.stderr)] if start else []
    if phases:
        parts.append(f"{total:.1f} ms ({', '.join(f'{name} {took:.1f}' for name, took in phases.items())})")
    if instance := answered.get("X-Faas-Instance"):
        parts.append(f"instance {instance}")
    if failed:
        parts.append(colour(f"function error: {failed}", "red", sys.stderr))
    return ", ".join(parts) or "done"


def _as_json(status: int, answered: HTTPMessage, payload: bytes, log: str | None) -> dict[str, object]:
    text = payload.decode("utf-8", "replace")
    try:
        value = json.loads(text)
    except ValueError:
        value = text
    return {
        "status": status, "function_error": answered.get("X-Amz-Function-Error"), "payload": value,
        "start": answered.get("X-Faas-Start"), "instance": answered.get("X-Faas-Instance"),
        "request_id": answered.get("X-Amzn-RequestId"),
        "executed_version": answered.get("X-Amz-Executed-Version"),
        "phases_ms": _phases(answered), "log": log,
    }

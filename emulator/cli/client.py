"""Talking to the running emulator over its API port."""

from __future__ import annotations

import argparse
import http.client
import json
import os
from typing import Any
from urllib.parse import quote, urlsplit

from .failures import Refused, Unreachable

DEFAULT_URL = "http://127.0.0.1:4566"


class Client:
    """One request per connection: a command makes one or two."""

    def __init__(self, url: str) -> None:
        if "//" not in url:
            url = f"http://{url}"
        parts = urlsplit(url)
        try:
            self._port = parts.port or (443 if parts.scheme == "https" else 80)
        except ValueError:
            raise Unreachable(f"{url}: not a URL such as {DEFAULT_URL}") from None
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise Unreachable(f"{url}: not a URL such as {DEFAULT_URL}")
        self.url = url.rstrip("/")
        self._host, self._prefix = parts.hostname, parts.path.rstrip("/")
        self._kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection

    @classmethod
    def of(cls, arguments: argparse.Namespace) -> Client:
        """``--api-url``, ``$FAAS_API_URL``, ``$FAAS_API_PORT``, or where it is by default."""
        port = os.environ.get("FAAS_API_PORT", "")
        fallback = f"http://127.0.0.1:{port}" if port.isdecimal() and port != "0" else DEFAULT_URL
        return cls(arguments.api_url or os.environ.get("FAAS_API_URL") or fallback)

    def request(
        self, method: str, path: str, *, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> tuple[int, http.client.HTTPMessage, bytes]:
        """Status, headers, body. Waits as long as it takes. Raises Unreachable."""
        connection = self._kind(self._host, self._port)
        try:
            connection.request(method, self._prefix + path, body=body, headers=headers or {})
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()
        except ConnectionRefusedError:
            raise Unreachable(
                f"no emulator answers at {self.url}: start one with `faas up`, "
                f"or name another with --api-url or FAAS_API_URL"
            ) from None
        except (OSError, http.client.HTTPException) as error:
            what = str(error) or type(error).__name__
            raise Unreachable(f"the emulator at {self.url} broke off: {what}") from error
        finally:
            connection.close()

    def json(self, method: str, path: str) -> Any:
        """The JSON answered. Raises Refused with the emulator's message for any status but 2xx."""
        status, _, body = self.request(method, path)
        try:
            value = json.loads(body)
        except ValueError:
            raise Unreachable(f"what answers at {self.url} is no faas-emulator (HTTP {status})") from None
        if status >= 300:
            raise Refused(message_of(value, status))
        return value


def message_of(value: Any, status: int) -> str:
    """The sentence in an error body of the platform or the admin API."""
    if isinstance(value, dict):
        for key in ("message", "Message"):
            if isinstance(value.get(key), str):
                return str(value[key])
    return f"HTTP {status}: {json.dumps(value)[:200]}"


def function_path(name: str, action: str) -> str:
    return f"/_faas/functions/{quote(name, safe='')}/{action}"

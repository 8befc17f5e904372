"""Fails in every way a function can fail; ``how`` says which.

``raise``: an exception, answered with its type and stack; the instance lives.
``exit``, ``signal``, ``abort``: the process ends, the caller gets
Runtime.ExitError and the next request a new instance. ``recursion``: a stack
too deep. ``unserializable``: an answer that is not JSON. ``hang``: never
answers, until the timeout. With ``CRASH_DURING_INIT`` in its environment it
fails while it is loaded.
"""

import os
import signal
import sys
import time
from typing import Any

if os.environ.get("CRASH_DURING_INIT"):
    raise RuntimeError("crashed during init, as asked")


class Crash(Exception):
    """What ``raise`` raises: the caller sees this name as errorType."""


def handler(event: dict[str, str], context: Any) -> Any:
    how = event.get("how", "none")
    print(f"crashing by {how}")
    match how:
        case "raise":
            raise Crash("crashed, as asked")
        case "exit":
            sys.exit(int(event.get("status", 3)))
        case "signal":
            os.kill(os.getpid(), signal.SIGKILL)
        case "abort":
            os.abort()
        case "recursion":
            return handler(event, context)
        case "unserializable":
            return object()
        case "hang":
            while True:
                time.sleep(60)
        case _:
            return {"crashed": False}

"""Sleeps ``seconds``, to show concurrency (two calls at once take two
instances) and the timeout (more than the 10 s of faas.toml is cut off)."""

import time
from typing import Any


def handler(event: dict[str, float], context: Any) -> dict[str, Any]:
    seconds = event.get("seconds", 1.0)
    time.sleep(seconds)
    return {"slept": seconds, "remaining_ms": context.get_remaining_time_in_millis()}

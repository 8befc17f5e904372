"""Module globals live as long as their instance: the count goes up on warm
calls, and starts anew, under a new id, on a cold one."""

import uuid
from typing import Any

INSTANCE = str(uuid.uuid4())
count = 0


def handler(event: Any, context: Any) -> dict[str, Any]:
    global count
    count += 1
    return {"instance": INSTANCE, "count": count}

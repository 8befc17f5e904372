"""The smallest useful function: one event in, one answer out.

Through the gateway the event describes the HTTP request, and any dict without
a statusCode becomes a 200 with a JSON body; so one handler serves both doors.
"""

from typing import Any


def handler(event: dict[str, Any], context: Any) -> dict[str, str]:
    parameters = event.get("pathParameters") or {}
    name = event.get("name") or parameters.get("name") or "world"
    print(f"greeting {name}")
    return {"message": f"Hello, {name}!"}

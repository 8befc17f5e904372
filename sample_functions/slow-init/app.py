"""A second of work while the module is loaded: what an init phase costs.

The first REPORT line says ``Init Duration: 1...`` ms; the next call is warm
and says none.
"""

import time
from typing import Any

STARTED = time.monotonic()
time.sleep(1.0)  # stands for a large import, a model, a connection
SECONDS = time.monotonic() - STARTED


def handler(event: Any, context: Any) -> dict[str, float]:
    return {"init_seconds": round(SECONDS, 3)}

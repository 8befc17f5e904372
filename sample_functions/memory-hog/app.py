"""Takes ``mb`` megabytes and writes to every page, so that they are really used.

Asked for more than its memory (256 MB in faas.toml) it is killed, the caller
gets Runtime.OutOfMemory, and the next request finds a new instance.
"""

from typing import Any

PAGE = 4096


def handler(event: dict[str, int], context: Any) -> dict[str, int]:
    megabytes = event.get("mb", 64)
    memory = bytearray(megabytes * 2**20)
    memory[::PAGE] = b"x" * len(range(0, len(memory), PAGE))
    return {"mb": megabytes, "pages": memory.count(b"x"), "limit_mb": int(context.memory_limit_in_mb)}

"""The values that every layer shares: what runs, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Literal

from .ids import VersionId

Network = Literal["default", "none"]


@dataclass(frozen=True, slots=True)
class Version:
    """One immutable state of a function: code and configuration.

    ``revision`` is the first 12 hex digits of a hash over code *and*
    configuration, so that two versions with the same id are the same thing.
    """

    function: str
    """Name, as AWS allows it: ``[A-Za-z0-9-_]{1,64}``."""
    runtime: str
    """AWS identifier: ``python3.11``, ``nodejs20.x``, ``provided.al2023``."""
    handler: str
    """``module.function`` for managed runtimes; passed as ``_HANDLER``."""
    code: PurePath
    """Unpacked folder in the content-addressed store; ``/var/task`` inside."""
    code_sha256: str = ""
    """Base64 of the SHA-256 over the content, as AWS' CodeSha256."""
    code_size: int = 0
    """Bytes."""
    qualifier: str = "$LATEST"
    revision: str = ""
    memory: int = 128
    """MB (2**20 bytes), 128 to 10,240."""
    timeout: float = 3.0
    """Seconds the handler may run, 1 to 900."""
    ephemeral_storage: int = 512
    """MB of ``/tmp``, 512 to 10,240."""
    environment: Mapping[str, str] = field(default_factory=dict)
    reserved_concurrency: int | None = None
    keep_alive: float = 300.0
    """Seconds an idle instance is kept."""
    network: Network = "default"
    layers: tuple[PurePath, ...] = ()
    """Unpacked folders merged into ``/opt`` in this order, later wins."""
    description: str = ""
    last_modified: str = ""
    """ISO 8601 as AWS prints it: ``2025-11-25T02:26:50.000+0000``."""

    @property
    def id(self) -> VersionId:
        return VersionId(f"{self.function}:{self.qualifier}@{self.revision}")


@dataclass(frozen=True, slots=True)
class Route:
    """Which requests of the gateway go to a function. ``$default`` (method ``ANY``)
    takes what no other route takes."""

    method: str
    """``ANY`` or an upper-case HTTP method."""
    path: str
    """``/thumbnails/{size}``, ``/files/{proxy+}`` or ``$default``."""
    function: str

    @property
    def key(self) -> str:
        """As the platform writes it: ``GET /thumbnails/{size}``."""
        return self.path if self.path == "$default" else f"{self.method} {self.path}"

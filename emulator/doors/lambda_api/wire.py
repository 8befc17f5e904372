"""Shapes on the wire: error answers, names and times as the service writes them."""

from __future__ import annotations

import json
from typing import Any

from emulator.core.errors import Fault
from emulator.core.model import Version
from emulator.invoke.invoker import Invoker

JSON = "Content-Type: application/json\r\n"


def fault_response(fault: Fault, request_id: str) -> tuple[int, str, bytes]:
    """Status, header lines, body."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in fault.headers.items())
    body = json.dumps(fault.body, ensure_ascii=False).encode()
    return fault.status, f"{JSON}x-amzn-RequestId: {request_id}\r\n{lines}", body


def configuration(version: Version, invoker: Invoker) -> dict[str, Any]:
    """FunctionConfiguration; members that are not set are absent."""
    shape: dict[str, Any] = {
        "FunctionName": version.function,
        "FunctionArn": invoker.arn(version.function),
        "Runtime": version.runtime,
        "Role": f"arn:aws:iam::{invoker.account}:role/{version.function}",
        "Handler": version.handler,
        "CodeSize": version.code_size,
        "Description": version.description,
        "Timeout": int(version.timeout),
        "MemorySize": version.memory,
        "LastModified": version.last_modified,
        "CodeSha256": version.code_sha256,
        "Version": version.qualifier,
        "TracingConfig": {"Mode": "PassThrough"},
        "RevisionId": _revision_id(version),
        "State": "Active",
        "LastUpdateStatus": "Successful",
        "PackageType": "Zip",
        "Architectures": ["x86_64"],
        "EphemeralStorage": {"Size": version.ephemeral_storage},
        "SnapStart": {"ApplyOn": "None", "OptimizationStatus": "Off"},
        "LoggingConfig": {"LogFormat": "Text", "LogGroup": f"/aws/lambda/{version.function}"},
    }
    if version.environment:
        shape["Environment"] = {"Variables": dict(version.environment)}
    return shape


def _revision_id(version: Version) -> str:
    """A UUID that changes with code and configuration."""
    h = (version.revision * 3)[:32].ljust(32, "0")
    return f"{h[:8]}-{h[8:12]}-4{h[13:16]}-8{h[17:20]}-{h[20:32]}"

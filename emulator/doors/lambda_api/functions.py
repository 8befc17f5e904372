"""ListFunctions, GetFunction, GetFunctionConfiguration and the code download."""

from __future__ import annotations

import base64
import io
import zipfile
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from emulator.core.errors import Fault, InvalidParameter, ValidationFailed
from emulator.core.model import Version
from emulator.invoke.invoker import Invoker, new_request_id
from emulator.registry.arns import BadName, parse

from .wire import configuration, fault_response

PAGE = 50
"""Most functions in one answer of ListFunctions, whatever MaxItems says."""


class FunctionRoutes:
    """The resource ``functions``, without Invoke."""

    def __init__(self, invoker: Invoker) -> None:
        self._invoker = invoker

    def routes(self) -> list[Route]:
        base = "/2015-03-31/functions"
        return [
            Route(base, self._list, methods=["GET"]),
            Route(base + "/", self._list, methods=["GET"]),
            Route(base + "/{name}", self._get, methods=["GET"]),
            Route(base + "/{name}/configuration", self._get_configuration, methods=["GET"]),
            Route("/_aws/lambda/code/{name}/{revision}", self._code, methods=["GET"]),
        ]

    async def _list(self, request: Request) -> Response:
        try:
            start, size = _page(request)
        except Fault as fault:
            return failure(fault)
        versions = sorted(self._invoker.functions.all(), key=lambda v: v.function)
        page = [configuration(v, self._invoker) for v in versions[start : start + size]]
        shape: dict[str, Any] = {"Functions": page}
        if start + size < len(versions):
            shape["NextMarker"] = base64.urlsafe_b64encode(str(start + size).encode()).decode()
        return answer(shape)

    async def _get(self, request: Request) -> Response:
        try:
            version = self._version(request)
        except Fault as fault:
            return failure(fault)
        location = f"{request.url.scheme}://{request.url.netloc}/_aws/lambda/code/{version.function}/{version.revision}"
        shape: dict[str, Any] = {
            "Configuration": configuration(version, self._invoker),
            "Code": {"RepositoryType": "S3", "Location": location},
        }
        if version.reserved_concurrency is not None:
            shape["Concurrency"] = {"ReservedConcurrentExecutions": version.reserved_concurrency}
        return answer(shape)

    async def _get_configuration(self, request: Request) -> Response:
        try:
            return answer(configuration(self._version(request), self._invoker))
        except Fault as fault:
            return failure(fault)

    async def _code(self, request: Request) -> Response:
        """What GetFunction's Location promises: the code as a zip."""
        version = self._invoker.functions.get(request.path_params["name"])
        if version is None or version.revision != request.path_params["revision"]:
            return Response("The code of this revision is not deployed any more.", status_code=404)
        return Response(_zip(Path(version.code)), media_type="application/zip")

    def _version(self, request: Request) -> Version:
        try:
            target = parse(request.path_params["name"])
        except BadName as bad:
            raise ValidationFailed(str(bad)) from bad
        return self._invoker.resolve(target, request.query_params.get("Qualifier"))


def answer(shape: dict[str, Any], status: int = 200) -> Response:
    return JSONResponse(shape, status_code=status, headers={"x-amzn-RequestId": new_request_id()})


def failure(fault: Fault) -> Response:
    status, lines, body = fault_response(fault, new_request_id())
    headers = dict(line.split(": ", 1) for line in lines.split("\r\n") if line)
    return Response(body, status_code=status, headers=headers)


def _page(request: Request) -> tuple[int, int]:
    text = request.query_params.get("MaxItems", str(PAGE))
    if not text.isdigit() or not 1 <= int(text) <= 10000:
        raise ValidationFailed(
            f"Value '{text[:20]}' at 'maxItems' failed to satisfy constraint: "
            "Member must have value greater than or equal to 1"
        )
    marker = request.query_params.get("Marker")
    start = 0
    if marker:
        try:
            start = int(base64.urlsafe_b64decode(marker))
        except ValueError as error:
            raise InvalidParameter("The Marker is not one that ListFunctions has returned.") from error
    return start, min(int(text), PAGE)


def _zip(folder: Path) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file() and path.parent.name != "__pycache__":  # compiled here, not part of the package
                archive.write(path, path.relative_to(folder))
    return buffer.getvalue()

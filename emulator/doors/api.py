"""The API port's app for everything but the hot road: admin, Lambda's other resources, refusals."""

from __future__ import annotations

from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from emulator.http.asgi import DoorApp
from emulator.http.message import HttpRequest
from emulator.invoke.invoker import Invoker, new_request_id

from .admin import AdminRoutes, Panel
from .lambda_api import invoke
from .lambda_api.functions import FunctionRoutes


def api_app(invoker: Invoker, door: invoke.InvokeDoor, panel: Panel) -> Starlette:
    invocations = DoorApp(
        lambda request: door.accepts(request) and door(request), limit=invoke.PAYLOAD_LIMIT,
        too_large=invoke.too_large, declined=_declined,
    )
    routes: list[BaseRoute] = [
        *AdminRoutes(panel).routes(),
        Route("/2015-03-31/functions/{name}/invocations", invocations),
        *FunctionRoutes(invoker).routes(),
    ]
    handlers: dict[Any, Any] = {404: _unknown, 405: _unknown, 500: _failed}
    return Starlette(routes=routes, exception_handlers=handlers)


def _declined(request: HttpRequest) -> tuple[int, str, bytes]:
    headers = "Content-Type: application/json\r\nAllow: POST\r\nx-amzn-ErrorType: MethodNotAllowedException\r\n"
    return 405, headers, b'{"Type":"User","message":"Invoke is POST."}'


async def _unknown(request: Request, error: Exception) -> Response:
    status = getattr(error, "status_code", 404)
    what = "No operation answers" if status == 404 else "This method is not allowed for"
    body = {"Type": "User", "message": f"{what} {request.method} {request.url.path}."}
    code = "UnknownOperationException" if status == 404 else "MethodNotAllowedException"
    allow = getattr(error, "headers", None) or {}
    headers = {"x-amzn-ErrorType": code, "x-amzn-RequestId": new_request_id(), **allow}
    return JSONResponse(body, status_code=status, headers=headers)


async def _failed(request: Request, error: Exception) -> Response:
    body = {"Type": "Service", "Message": "The emulator failed on this request; its log says why."}
    return JSONResponse(body, status_code=500, headers={"x-amzn-ErrorType": "ServiceException"})

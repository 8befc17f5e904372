"""Why a request could not be served: each class owns its AWS code, status and sentence.

A function that fails is a value (``Outcome.error_type``); these are the
platform's own refusals and failures. Sources: botocore's Lambda model and
answers recorded from the service.
"""

from __future__ import annotations

from typing import Any

from .orders import RejectReason


class Fault(Exception):
    """A request the platform refuses or fails. ``body`` is the AWS JSON body."""

    code = "ServiceException"
    status = 500
    message_key = "Message"
    type: str | None = "User"

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message

    @property
    def body(self) -> dict[str, Any]:
        body: dict[str, Any] = {self.message_key: self.message}
        if self.type:
            body["Type"] = self.type
        return body

    @property
    def headers(self) -> dict[str, str]:
        return {"x-amzn-ErrorType": self.code}


class FunctionNotFound(Fault):
    code = "ResourceNotFoundException"
    status = 404

    def __init__(self, arn: str) -> None:
        super().__init__(f"Function not found: {arn}")


class RegionNotReachable(Fault):
    """An ARN of a region that is not the emulator's."""

    code = "ResourceNotFoundException"
    status = 404

    def __init__(self, asked: str, here: str) -> None:
        super().__init__(f"Functions from '{asked}' are not reachable in this region ('{here}')")


class InvalidParameter(Fault):
    code = "InvalidParameterValueException"
    status = 400
    message_key = "message"


class InvalidRequestContent(Fault):
    code = "InvalidRequestContentException"
    status = 400
    message_key = "message"


class ValidationFailed(Fault):
    """One or more members violate the API model's constraints."""

    code = "ValidationException"
    status = 400
    message_key = "message"
    type = None

    def __init__(self, *violations: str) -> None:
        n = len(violations)
        super().__init__(f"{n} validation error{'s' * (n > 1)} detected: {'; '.join(violations)}")


class RequestTooLarge(Fault):
    code = "RequestTooLargeException"
    status = 413
    message_key = "message"

    def __init__(self, size: int, invocation_type: str, limit: int) -> None:
        super().__init__(
            f"{size} byte payload is too large for the {invocation_type} invocation type "
            f"(limit {limit} bytes)"
        )


class Throttled(Fault):
    """429. ``reason`` is the value AWS puts into ``Reason``."""

    code = "TooManyRequestsException"
    status = 429

    AWS_REASONS = {  # noqa: RUF012 - a constant table
        RejectReason.ACCOUNT: "ConcurrentInvocationLimitExceeded",
        RejectReason.RESERVED: "ReservedFunctionConcurrentInvocationLimitExceeded",
        RejectReason.CAPACITY: "ConcurrentInvocationLimitExceeded",
    }

    def __init__(self, reason: RejectReason) -> None:
        super().__init__("Rate Exceeded.")
        self.reason = reason

    @property
    def body(self) -> dict[str, Any]:
        return {"Reason": self.AWS_REASONS[self.reason], "Type": "User", "message": self.message}

    @property
    def headers(self) -> dict[str, str]:
        # Retry-After in seconds; the scaling rate refills every 10 s, a busy instance far sooner.
        return {"x-amzn-ErrorType": self.code, "Retry-After": "1"}


class ServiceFailed(Fault):
    """The platform itself failed: 500, and what a person can do about it."""

    code = "ServiceException"
    status = 500
    type = "Service"


class ShuttingDown(ServiceFailed):
    status = 503

    def __init__(self) -> None:
        super().__init__("The emulator is shutting down.")

"""Lambda's API as boto3 and the AWS CLI see it."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import botocore.session
import pytest
from botocore.exceptions import ClientError
from botocore.model import ListShape, MapShape, Shape, StructureShape

from tests.support.cloud import Answer, Cloud
from tests.support.project import Project

ECHO = """
    import time

    def handler(event, context):
        print("hello from the function")
        if "raise" in event:
            raise ValueError(event["raise"])
        if "size" in event:
            return "x" * event["size"]
        time.sleep(event.get("seconds", 0))
        client = context.client_context
        return {
            "event": event,
            "arn": context.invoked_function_arn,
            "custom": client.custom if client else None,
            "version": context.function_version,
            "left": context.get_remaining_time_in_millis(),
        }
"""
ARN = "arn:aws:lambda:us-east-1:000000000000:function:echo"
UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    root = tmp_path_factory.mktemp("lambda")
    project = Project(root)
    project.function("echo", ECHO, memory=192, environment={"COLOUR": "blue"}, description="repeats")
    project.function("closed", folder="echo", reserved_concurrency=0)
    project.function("a-third", folder="echo")
    options = ("--account-concurrency", "20")
    with Cloud.start(project.write(), *options, home=root / "home", sandbox="process") as cloud:
        yield cloud


def shape_problems(shape: Shape, value: Any, path: str = "$") -> list[str]:
    """Where a parsed answer differs from the service's own model of it."""
    if isinstance(shape, StructureShape):
        unknown = value.keys() - shape.members.keys() - {"ResponseMetadata"}
        missing = [name for name in shape.required_members if name not in value]
        lines = [f"{path}.{name}: not in the model" for name in unknown] + [f"{path}.{n}: missing" for n in missing]
        for name, member in shape.members.items():
            if name in value:
                lines += shape_problems(member, value[name], f"{path}.{name}")
        return lines
    if isinstance(shape, ListShape):
        return [line for i, item in enumerate(value) for line in shape_problems(shape.member, item, f"{path}[{i}]")]
    if isinstance(shape, MapShape):
        return [line for k, item in value.items() for line in shape_problems(shape.value, item, f"{path}.{k}")]
    if shape.type_name == "string":
        if not isinstance(value, str):
            return [f"{path}: {value!r} is no string"]
        pattern = shape.metadata.get("pattern")
        if pattern and not re.fullmatch(pattern, value):
            return [f"{path}: {value!r} does not match {pattern}"]
        if shape.enum and value not in shape.enum:
            return [f"{path}: {value!r} is none of {shape.enum}"]
    if shape.type_name in ("integer", "long"):
        if not isinstance(value, int):
            return [f"{path}: {value!r} is no integer"]
        if not shape.metadata.get("min", value) <= value <= shape.metadata.get("max", value):
            return [f"{path}: {value!r} is out of bounds"]
    return []


def assert_shape(operation: str, answer: dict[str, Any]) -> None:
    model = botocore.session.get_session().get_service_model("lambda").operation_model(operation)
    assert model.output_shape is not None
    assert shape_problems(model.output_shape, answer) == []


def test_an_invocation(cloud: Cloud) -> None:
    answer = cloud.client.invoke(FunctionName="echo", Payload=b'{"a": 1}')
    assert_shape("Invoke", {k: v for k, v in answer.items() if k != "Payload"})
    body = json.loads(answer["Payload"].read())
    assert body["event"] == {"a": 1}
    assert (body["arn"], body["version"], body["custom"]) == (ARN, "$LATEST", None)
    assert 0 < body["left"] <= 3000
    assert (answer["StatusCode"], answer["ExecutedVersion"]) == (200, "$LATEST")
    assert "FunctionError" not in answer
    assert "LogResult" not in answer
    headers = answer["ResponseMetadata"]["HTTPHeaders"]
    assert re.fullmatch(UUID, headers["x-amzn-requestid"])
    assert_tells_its_start(headers)


def assert_tells_its_start(headers: Any) -> None:
    assert re.fullmatch(r"[\w-]+/\d+", headers["x-faas-instance"])
    assert headers["x-faas-start"] in ("cold", "warm")
    assert re.fullmatch(r"[0-9a-f]{12}", headers["x-faas-revision"])
    assert re.fullmatch(r"queue;dur=[\d.]+(, \w+;dur=[\d.]+)*, invoke;dur=[\d.]+", headers["server-timing"])


def test_every_invocation_tells_its_start(cloud: Cloud) -> None:
    for payload in ({}, {"raise": "x"}, {"seconds": 4}):
        assert_tells_its_start(cloud.invoke("echo", payload).headers)


def test_dry_run(cloud: Cloud) -> None:
    before = len(cloud.admin("GET", "/_faas/invocations?limit=1000").json()["invocations"])
    answer = cloud.client.invoke(FunctionName="echo", InvocationType="DryRun")
    assert (answer["StatusCode"], answer["Payload"].read()) == (204, b"")
    assert len(cloud.admin("GET", "/_faas/invocations?limit=1000").json()["invocations"]) == before
    with pytest.raises(ClientError, match="Function not found"):
        cloud.client.invoke(FunctionName="nobody", InvocationType="DryRun")
    with pytest.raises(ClientError, match="Function not found"):
        cloud.client.invoke(FunctionName="echo", InvocationType="DryRun", Qualifier="17")


REPORT = re.compile(
    r"REPORT RequestId: (?P<id>\S+)\tDuration: (?P<duration>\d+\.\d\d) ms\tBilled Duration: (?P<billed>\d+) ms\t"
    r"Memory Size: (?P<size>\d+) MB\tMax Memory Used: (?P<used>\d+) MB\t(?:Init Duration: (?P<init>\d+\.\d\d) ms\t)?"
)


def test_the_tail_of_the_log(cloud: Cloud) -> None:
    cloud.admin("POST", "/_faas/functions/echo/evict")
    for start in ("cold", "warm"):
        answer = cloud.client.invoke(FunctionName="echo", LogType="Tail", Payload=b'{"seconds": 0.05}')
        id = answer["ResponseMetadata"]["RequestId"]
        lines = base64.b64decode(answer["LogResult"]).decode().splitlines()
        kept = lines[lines.index(f"START RequestId: {id} Version: $LATEST") :]
        assert kept[1:3] == ["hello from the function", f"END RequestId: {id}"]
        report = REPORT.fullmatch(kept[3])
        assert report, kept[3]
        assert len(kept) == 4
        assert (report["id"], report["size"]) == (id, "192")
        assert (report["init"] is not None) == (start == "cold")
        assert 50 <= float(report["duration"]) < 2000
        total = float(report["duration"]) + float(report["init"] or 0)
        assert abs(int(report["billed"]) - total) <= 1.02
        assert 1 <= int(report["used"]) <= 192


def test_the_tail_is_at_most_four_kilobytes(cloud: Cloud, tmp_path: Path) -> None:
    answer = cloud.client.invoke(FunctionName="echo", LogType="Tail", Payload=json.dumps({"raise": "y" * 20_000}))
    tail = base64.b64decode(answer["LogResult"])
    assert len(tail) == 4096
    assert b"REPORT RequestId: " in tail


def test_a_function_that_raises(cloud: Cloud) -> None:
    answer = cloud.client.invoke(FunctionName="echo", LogType="Tail", Payload=b'{"raise": "broken"}')
    assert (answer["StatusCode"], answer["FunctionError"]) == (200, "Unhandled")
    body = json.loads(answer["Payload"].read())
    assert list(body) == ["errorMessage", "errorType", "requestId", "stackTrace"]
    assert (body["errorMessage"], body["errorType"]) == ("broken", "ValueError")
    assert body["requestId"] == answer["ResponseMetadata"]["RequestId"]
    assert "[ERROR] ValueError: broken" in base64.b64decode(answer["LogResult"]).decode()


def test_client_context_reaches_the_handler(cloud: Cloud) -> None:
    context = base64.b64encode(json.dumps({"custom": {"k": "värde"}}).encode()).decode()
    answer = cloud.client.invoke(FunctionName="echo", ClientContext=context, Payload=b"{}")
    assert json.loads(answer["Payload"].read())["custom"] == {"k": "värde"}
    with pytest.raises(ClientError) as caught:
        cloud.client.invoke(FunctionName="echo", ClientContext="bm90IGpzb24=")
    assert caught.value.response["Error"]["Code"] == "InvalidRequestContentException"


@pytest.mark.parametrize(
    ("name", "arn"),
    [
        ("echo", ARN),
        ("echo:$LATEST", f"{ARN}:$LATEST"),
        ("function:echo", ARN),
        ("000000000000:function:echo", ARN),
        ("000000000000:function:echo:$LATEST", f"{ARN}:$LATEST"),
        (ARN, ARN),
        (f"{ARN}:$LATEST", f"{ARN}:$LATEST"),
    ],
)
def test_every_form_of_a_name(cloud: Cloud, name: str, arn: str) -> None:
    if name.startswith("function:"):  # the service takes it, boto3 too; no client writes it otherwise
        assert cloud.invoke(name, {}).json()["arn"] == arn
        return
    answer = cloud.client.invoke(FunctionName=name, Payload=b"{}")
    assert json.loads(answer["Payload"].read())["arn"] == arn
    assert cloud.client.get_function(FunctionName=name)["Configuration"]["FunctionName"] == "echo"


def test_qualifiers(cloud: Cloud) -> None:
    answer = cloud.client.invoke(FunctionName="echo", Qualifier="$LATEST", Payload=b"{}")
    assert json.loads(answer["Payload"].read())["arn"] == f"{ARN}:$LATEST"
    for name, qualifier in (("echo", "17"), ("echo", "live"), ("echo:live", "live")):
        with pytest.raises(ClientError) as caught:
            cloud.client.invoke(FunctionName=name, Qualifier=qualifier)
        error = caught.value.response["Error"]
        assert error["Code"] == "ResourceNotFoundException"
        assert error["Message"] == f"Function not found: {ARN}:{qualifier}"
    with pytest.raises(ClientError) as caught:
        cloud.client.invoke(FunctionName="echo:$LATEST", Qualifier="2")
    assert caught.value.response["Error"]["Message"] == (
        "The derived qualifier from the function name does not match the specified qualifier."
    )


def test_an_unknown_function(cloud: Cloud) -> None:
    for operation in (cloud.client.invoke, cloud.client.get_function, cloud.client.get_function_configuration):
        with pytest.raises(cloud.client.exceptions.ResourceNotFoundException) as caught:
            operation(FunctionName="nobody")
        assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 404
        assert caught.value.response["Type"] == "User"
        assert caught.value.response["Error"]["Message"] == f"Function not found: {ARN[:-4]}nobody:$LATEST"


def test_functions_of_another_region_are_not_reachable(cloud: Cloud) -> None:
    with pytest.raises(ClientError) as caught:
        cloud.client.invoke(FunctionName=ARN.replace("us-east-1", "eu-west-1"))
    error = caught.value.response["Error"]
    assert error["Code"] == "ResourceNotFoundException"
    assert error["Message"] == "Functions from 'eu-west-1' are not reachable in this region ('us-east-1')"


def test_payloads_that_are_refused(cloud: Cloud) -> None:
    with pytest.raises(cloud.client.exceptions.InvalidRequestContentException) as caught:
        cloud.client.invoke(FunctionName="echo", Payload=b"{not json")
    response = caught.value.response
    assert response["ResponseMetadata"]["HTTPStatusCode"] == 400
    assert response["Error"]["Message"].startswith(
        "Could not parse request body into json: Could not parse payload into json: "
    )
    size = 6_291_457
    with pytest.raises(cloud.client.exceptions.RequestTooLargeException) as caught:
        cloud.client.invoke(FunctionName="echo", Payload=b'"' + b"x" * (size - 2) + b'"')
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 413
    assert caught.value.response["Error"]["Message"] == (
        f"{size} byte payload is too large for the RequestResponse invocation type (limit 6291456 bytes)"
    )


def test_the_largest_payload_and_none(cloud: Cloud) -> None:
    largest = b'{"a":"' + b"x" * (6_291_456 - 8) + b'"}'
    answer = cloud.client.invoke(FunctionName="echo", Payload=largest[:1_000_000] + b'"}')
    assert "FunctionError" not in answer
    answer = cloud.client.invoke(FunctionName="echo", Payload=b'{"size": 1}' + b" " * (6_291_456 - 11))
    assert answer["Payload"].read() == b'"x"'
    assert json.loads(cloud.client.invoke(FunctionName="echo")["Payload"].read())["event"] == {}


def test_a_response_that_is_too_large(cloud: Cloud) -> None:
    answer = cloud.client.invoke(FunctionName="echo", Payload=b'{"size": 6291557}')
    assert answer["FunctionError"] == "Unhandled"
    assert json.loads(answer["Payload"].read()) == {
        "errorType": "Function.ResponseSizeTooLarge",
        "errorMessage": "Response payload size exceeded maximum allowed payload size (6291556 bytes).",
    }
    assert "FunctionError" not in cloud.client.invoke(FunctionName="echo", Payload=b'{"size": 6291554}')


def test_values_that_break_the_model(cloud: Cloud) -> None:
    for answer, words in (
        (cloud.invoke("bad%20name"), "at 'functionName' failed to satisfy constraint"),
        (cloud.invoke("x" * 200), "Member must have length less than or equal to"),
        (cloud.invoke("echo", X_Amz_Invocation_Type="Later"), "at 'invocationType' failed to satisfy constraint"),
        (cloud.admin("GET", "/2015-03-31/functions/?MaxItems=0"), "at 'maxItems' failed to satisfy constraint"),
    ):
        assert_error(answer, 400, "ValidationException")
        assert answer.json()["message"].startswith("1 validation error detected: Value '")
        assert words in answer.json()["message"]


def assert_error(answer: Answer, status: int, code: str) -> None:
    assert (answer.status, answer.headers["x-amzn-errortype"]) == (status, code)
    assert re.fullmatch(UUID, answer.headers["x-amzn-requestid"])
    assert answer.headers["content-type"] == "application/json"


def test_throttles(cloud: Cloud) -> None:
    answer = cloud.invoke("closed", {})
    assert_error(answer, 429, "TooManyRequestsException")
    assert answer.json() == {
        "Reason": "ReservedFunctionConcurrentInvocationLimitExceeded", "Type": "User", "message": "Rate Exceeded.",
    }
    assert int(answer.headers["retry-after"]) >= 1


def test_the_limit_of_the_account(cloud: Cloud) -> None:
    with ThreadPoolExecutor(22) as threads:
        answers = list(threads.map(lambda _: cloud.invoke("a-third", {"seconds": 1.5}), range(22)))
    refused = [answer for answer in answers if answer.status == 429]
    assert len(refused) == 2
    assert {answer.json()["Reason"] for answer in refused} == {"ConcurrentInvocationLimitExceeded"}
    cloud.admin("POST", "/_faas/reset")


def test_event_invocations_are_refused_in_words(cloud: Cloud) -> None:
    answer = cloud.invoke("echo", {}, X_Amz_Invocation_Type="Event")
    assert_error(answer, 400, "InvalidParameterValueException")
    assert "RequestResponse" in answer.json()["message"]


def test_listing_functions(cloud: Cloud) -> None:
    answer = cloud.client.list_functions()
    assert_shape("ListFunctions", answer)
    assert [each["FunctionName"] for each in answer["Functions"]] == ["a-third", "closed", "echo"]
    pages = list(cloud.client.get_paginator("list_functions").paginate(PaginationConfig={"PageSize": 1}))
    assert [each["FunctionName"] for page in pages for each in page["Functions"]] == ["a-third", "closed", "echo"]
    assert all(len(page["Functions"]) <= 1 for page in pages)


def test_getting_a_function_and_its_code(cloud: Cloud) -> None:
    answer = cloud.client.get_function(FunctionName="echo")
    assert_shape("GetFunction", answer)
    configuration = answer["Configuration"]
    expected = {
        "FunctionName": "echo", "FunctionArn": ARN, "Runtime": "python3.11", "Handler": "app.handler",
        "MemorySize": 192, "Timeout": 3, "State": "Active", "LastUpdateStatus": "Successful", "Version": "$LATEST",
        "PackageType": "Zip", "Description": "repeats", "Environment": {"Variables": {"COLOUR": "blue"}},
        "EphemeralStorage": {"Size": 512},
    }
    assert {key: configuration[key] for key in expected} == expected
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+0000", configuration["LastModified"])
    code = cloud.admin("GET", answer["Code"]["Location"].removeprefix(cloud.api_url))
    assert (code.status, code.headers["content-type"]) == (200, "application/zip")
    with zipfile.ZipFile(io.BytesIO(code.body)) as archive:
        assert archive.namelist() == ["app.py"]
        assert b"hello from the function" in archive.read("app.py")
    same = cloud.client.get_function_configuration(FunctionName="echo")
    assert_shape("GetFunctionConfiguration", same)
    assert {k: v for k, v in same.items() if k != "ResponseMetadata"} == configuration
    assert cloud.client.get_function(FunctionName="closed")["Concurrency"] == {"ReservedConcurrentExecutions": 0}
    cloud.client.get_waiter("function_active_v2").wait(FunctionName="echo")
    cloud.client.get_waiter("function_updated_v2").wait(FunctionName="echo")


def test_operations_that_are_not_there_say_so(cloud: Cloud) -> None:
    with pytest.raises(ClientError) as caught:
        cloud.client.delete_function(FunctionName="echo")
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 405
    with pytest.raises(ClientError) as caught:
        cloud.client.list_layers()
    assert caught.value.response["Error"]["Code"] == "UnknownOperationException"


def test_the_aws_cli(cloud: Cloud, tmp_path: Path) -> None:
    if find_spec("awscli") is None:
        pytest.skip("the AWS CLI is not installed: pip install awscli")
    environ = {
        "PATH": os.environ["PATH"], "HOME": str(tmp_path), "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1", "AWS_ENDPOINT_URL": cloud.api_url,
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    out = tmp_path / "out.json"
    command = [sys.executable, "-m", "awscli", "lambda", "invoke", "--function-name", "echo", "--log-type", "Tail"]
    done = subprocess.run(
        [*command, "--payload", '{"a": 2}', str(out)],
        env=environ, capture_output=True, text=True, timeout=60, check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["StatusCode"] == 200
    assert json.loads(out.read_text())["event"] == {"a": 2}
    wrong = subprocess.run(
        [*command[:6], "nobody", str(out)], env=environ, capture_output=True, text=True, timeout=60, check=False
    )
    assert wrong.returncode != 0
    assert "(ResourceNotFoundException) when calling the Invoke operation: Function not found:" in wrong.stderr

"""The environment variables a runtime must see. Pure.

Source: variables recorded on AWS (python3.14, February 2026) and the Lambda
Developer Guide's table; names beginning with FAAS_ are ours and are removed by
the bootstrap before user code runs.
"""

from __future__ import annotations

from collections.abc import Mapping

from emulator.core.model import Version

_LIBRARIES = "/var/lang/lib:/lib64:/usr/lib64:/var/runtime:/var/runtime/lib:/var/task:/var/task/lib:/opt/lib"


def environ(
    version: Version,
    *,
    runtime_api: str,
    region: str,
    account: str,
    log_stream: str,
    endpoint_url: str | None,
    initialization_type: str = "on-demand",
) -> dict[str, str]:
    """``runtime_api`` is ``host:port``; ``endpoint_url`` is where the function's own
    AWS clients are sent (None: wherever they go by themselves)."""
    managed = not version.runtime.startswith("provided")
    values = {
        "LANG": "en_US.UTF-8",
        "LC_CTYPE": "C.UTF-8",
        "TZ": ":UTC",
        "PATH": "/var/lang/bin:/usr/local/bin:/usr/bin/:/bin:/opt/bin",
        "LD_LIBRARY_PATH": _LIBRARIES,
        "SHLVL": "0",
        "PWD": "/var/task",
        "AWS_XRAY_CONTEXT_MISSING": "LOG_ERROR",
        "AWS_XRAY_DAEMON_ADDRESS": "127.0.0.1:2000",
    }
    if version.runtime.startswith("python"):
        values["PYTHONPATH"] = "/var/runtime"
    elif version.runtime.startswith("nodejs"):
        major = version.runtime.removeprefix("nodejs").partition(".")[0]
        values["NODE_PATH"] = (
            f"/opt/nodejs/node{major}/node_modules:/opt/nodejs/node_modules:"
            "/var/runtime/node_modules:/var/runtime:/var/task"
        )
    values.update(version.environment)
    values.update(_platform(version, region, account))
    if endpoint_url and "AWS_ENDPOINT_URL" not in version.environment:
        values["AWS_ENDPOINT_URL"] = endpoint_url
    values |= {
        "AWS_LAMBDA_RUNTIME_API": runtime_api,
        "AWS_LAMBDA_LOG_GROUP_NAME": f"/aws/lambda/{version.function}",
        "AWS_LAMBDA_LOG_STREAM_NAME": log_stream,
        "AWS_LAMBDA_INITIALIZATION_TYPE": initialization_type,
    }
    if managed:
        values["AWS_EXECUTION_ENV"] = f"AWS_Lambda_{version.runtime}"
        values["FAAS_PHASE_MARKER"] = "1"
    return values


def _platform(version: Version, region: str, account: str) -> Mapping[str, str]:
    return {
        "_HANDLER": version.handler,
        "AWS_LAMBDA_FUNCTION_NAME": version.function,
        "AWS_LAMBDA_FUNCTION_VERSION": version.qualifier,
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(version.memory),
        "AWS_REGION": region,
        "AWS_DEFAULT_REGION": region,
        "LAMBDA_TASK_ROOT": "/var/task",
        "LAMBDA_RUNTIME_DIR": "/var/runtime",
        # Any credentials are accepted; a key per function shows who called.
        "AWS_ACCESS_KEY_ID": f"ASIA{account}{version.revision[:4].upper():0>4}",
        "AWS_SECRET_ACCESS_KEY": f"secret-of-{version.function}",
        "AWS_SESSION_TOKEN": f"session-of-{version.function}",
    }

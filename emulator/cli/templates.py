"""What ``faas new`` writes: a first function for each family of runtimes."""

from __future__ import annotations

PYTHON = '''\
"""Called with the event (what the caller sent) and the context of this invocation."""

import json


def handler(event, context):
    name = event.get("name", "world")
    print("request", context.aws_request_id, "greets", name)
    return {
        "statusCode": 200,
        "headers": {"content-type": "application/json"},
        "body": json.dumps({"message": f"Hello, {name}!"}),
    }
'''

NODEJS = """\
// Called with the event (what the caller sent) and the context of this invocation.
export const handler = async (event, context) => {
  const name = event.name ?? "world";
  console.log("request", context.awsRequestId, "greets", name);
  return {
    statusCode: 200,
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ message: `Hello, ${name}!` }),
  };
};
"""

BOOTSTRAP = r"""#!/bin/bash
# A whole runtime: asks for the next event, handles it, answers, for ever.
# Replace it by any executable of this name that does the same, such as a Go
# program built with aws-lambda-go.
export LC_ALL=C
api=/2018-06-01/runtime/invocation

handle() { # event -> answer
  echo "handling $1" >&2
  printf '{"message": "Hello from bash!", "event": %s}' "$1"
}

request() { # method path body -> $id and $body
  exec 3<>"/dev/tcp/${AWS_LAMBDA_RUNTIME_API%:*}/${AWS_LAMBDA_RUNTIME_API##*:}" || exit 1
  printf '%s %s HTTP/1.1\r\nHost: %s\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s' \
    "$1" "$api/$2" "$AWS_LAMBDA_RUNTIME_API" "${#3}" "$3" >&3
  local line value length=0
  while IFS= read -r line <&3 && line=${line%$'\r'} && [ -n "$line" ]; do
    value=${line#*:}
    case ${line,,} in
      lambda-runtime-aws-request-id:*) id=${value# } ;;
      content-length:*) length=${value# } ;;
    esac
  done
  body=
  if [ "$length" -gt 0 ]; then IFS= read -r -N "$length" body <&3; fi
  exec 3>&-
}

while true; do
  request GET next ""
  request POST "$id/response" "$(handle "$body")"
done
"""

EVENT = '{\n  "name": "you"\n}\n'

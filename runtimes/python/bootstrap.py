"""What an instance of a managed Python runtime runs: the real ``awslambdaric``.

Started as ``python -S bootstrap.py [OPT]``: without ``site``, whose work (host
packages, ``.pth`` files) does not belong in an instance and costs two
milliseconds of every cold start. OPT is where layers are, ``/opt`` by default.
"""

import os
import sys


def _search_path(opt: str) -> list[str]:
    """The order of AWS: task root, layers, the runtime's own packages, the standard library."""
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    task = os.environ.get("LAMBDA_TASK_ROOT", "/var/task")
    runtime = os.path.dirname(os.path.abspath(__file__))
    first = [task]
    if opt != "/opt" or os.listdir(opt):  # an empty folder would be searched at every import
        first += [f"{opt}/python/lib/{version}/site-packages", f"{opt}/python"]
    rest = [entry for entry in sys.path if entry not in (runtime, "")]
    return [*first, runtime, *rest]


def _site_names() -> None:
    """``exit`` and ``quit``, which scripts use although only ``site`` defines them."""
    import builtins
    from _sitebuiltins import Quitter

    for name in ("exit", "quit"):
        setattr(builtins, name, Quitter(name, "Ctrl-D (i.e. EOF)"))


def main() -> None:
    sys.path[:] = _search_path(sys.argv[1] if len(sys.argv) > 1 else "/opt")
    marker = os.environ.pop("FAAS_PHASE_MARKER", "") == "1"
    handler = os.environ["_HANDLER"]
    sys.argv[:] = [sys.argv[0], handler]
    _site_names()
    from awslambdaric import bootstrap
    from awslambdaric.lambda_runtime_client import LambdaRuntimeClient

    client = LambdaRuntimeClient(os.environ["AWS_LAMBDA_RUNTIME_API"])
    if marker:
        import time

        os.write(1, b"\x1efaas:user-init %d\n" % time.monotonic_ns())
    bootstrap.run(handler, client)


if __name__ == "__main__":
    main()

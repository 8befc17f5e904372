"""Every command of ``faas`` with its arguments and the words that explain them."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from importlib import import_module
from typing import Any

from emulator import __version__

_EXAMPLES = """\
examples:
  faas new hello --runtime python3.11    a function to begin with
  faas up                                start the cloud on the faas.toml of this folder
  faas invoke hello -d '{"name": "you"}' --tail
  faas exec -- pytest                    start, run the tests against it, stop

exit status: 0 done, 1 it went wrong, 2 bad usage or configuration, 3 no emulator answers
"""

_UP = """\
examples:
  faas up                       this folder, gateway on 3000, API on 4566
  faas up services --port 0     another folder, any free port
  faas up --sandbox process --strict

Every option may also be given as environment variable (FAAS_PORT=8080) or in
the [emulator] table of faas.toml; an option wins over the variable over the file.
"""

_EXEC = """\
examples:
  faas exec -- pytest
  faas exec services --sandbox docker -- npm test

CMD sees AWS_ENDPOINT_URL, AWS_ENDPOINT_URL_LAMBDA, credentials and region for
the cloud, and FAAS_GATEWAY_URL and FAAS_API_URL. Ports are free ones unless
given. The exit status is that of CMD (128 + n if signal n ended it).
"""

_INVOKE = """\
examples:
  faas invoke hello                            with the event {}
  faas invoke hello -d '{"name": "you"}'
  faas invoke hello -d @hello/event.json --tail
  echo '{}' | faas invoke hello -d - --cold

The payload goes to stdout, one line about the invocation to stderr.
The exit status is 1 if the function failed.
"""


def split_command(words: list[str]) -> tuple[list[str], list[str]]:
    """What stands behind ``--`` of ``faas exec`` is not ours to parse."""
    if words[:1] == ["exec"] and "--" in words:
        at = words.index("--")
        return words[:at], words[at + 1 :]
    return words, []


def _later(module: str, name: str) -> Callable[[argparse.Namespace], int]:
    def run(arguments: argparse.Namespace) -> int:
        function: Callable[[argparse.Namespace], int] = getattr(import_module(f"emulator.cli.{module}"), name)
        return function(arguments)

    return run


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="faas", description="A local FaaS cloud that measures its cold starts.", epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"faas-emulator {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def add(
        name: str, summary: str, module: str, *, run: str | None = None, epilog: str | None = None
    ) -> argparse.ArgumentParser:
        command = commands.add_parser(
            name, help=summary, description=summary[0].upper() + summary[1:] + ".", epilog=epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False,
        )
        command.set_defaults(run=_later(module, run or name))
        return command

    _add_starting(add)
    _add_functions(add)
    _add_instances(add)
    _add_machine(add)
    return parser


def _add_starting(add: Callable[..., argparse.ArgumentParser]) -> None:
    up = add("up", "start the cloud and stay until Ctrl-C", "up", epilog=_UP)
    _add_settings(up)
    about = "start the cloud, run a command against it, stop"
    run = add("exec", about, "execute", run="run_exec", epilog=_EXEC)
    run.usage = "faas exec [PATH] [options] -- CMD [ARG ...]"
    _add_settings(run)
    new = add("new", "make a folder with a function to begin with", "scaffold")
    new.add_argument("name", metavar="NAME")
    new.add_argument(
        "--runtime", default="python3.11", metavar="RUNTIME",
        help="python3.x, nodejsNN.x, provided.al2 or provided.al2023 (default: %(default)s)",
    )
    _add_json(new)


def _add_functions(add: Callable[..., argparse.ArgumentParser]) -> None:
    _add_client(add("list", "show the functions and their URLs", "functions", run="list_functions"))
    invoke = _add_client(add("invoke", "call a function", "invoke", epilog=_INVOKE))
    invoke.add_argument("name", metavar="NAME")
    invoke.add_argument(
        "-d", "--data", default="{}", metavar="JSON",
        help="the event; @FILE reads a file, - stdin (default: {})",
    )
    invoke.add_argument("--tail", action="store_true", help="show the log of the invocation (on stderr)")
    start = invoke.add_mutually_exclusive_group()
    start.add_argument("--cold", action="store_true", help="on a new instance")
    warm = "on a warm instance, started first if there is none"
    start.add_argument("--warm", action="store_true", help=warm)
    invoke.add_argument("--qualifier", metavar="VERSION", help="a version or alias")
    logs = _add_client(add("logs", "show what a function wrote", "logs"))
    logs.add_argument("name", metavar="NAME")
    logs.add_argument("-f", "--follow", action="store_true", help="go on until Ctrl-C")


def _add_instances(add: Callable[..., argparse.ArgumentParser]) -> None:
    ps = _add_client(add("ps", "show the instances: state, age, memory, invocations", "instances"))
    ps.add_argument("name", metavar="NAME", nargs="?", help="only those of this function")
    evict = _add_client(add("evict", "stop a function's instances: its next start is cold", "instances"))
    evict.add_argument("name", metavar="NAME")
    prewarm = _add_client(add("prewarm", "start instances before anyone asks", "instances"))
    prewarm.add_argument("name", metavar="NAME")
    prewarm.add_argument("-n", "--count", type=int, default=1, metavar="N", help="how many (default: 1)")
    _add_client(add("reset", "stop all instances and forget counters and logs", "instances"))


def _add_machine(add: Callable[..., argparse.ArgumentParser]) -> None:
    doctor = add("doctor", "say what works on this machine, what does not, and the remedy", "doctor")
    _add_home(doctor)
    _add_json(doctor)
    clean = add("clean", "remove what an emulator that crashed has left", "clean")
    code = "also empty the code store; stop the emulator first"
    clean.add_argument("--code", action="store_true", help=code)
    _add_home(clean)
    _add_json(clean)


def _add_settings(parser: argparse.ArgumentParser) -> None:
    """Named as the fields of ``Settings``; None when not given. ``config`` judges the values."""
    path = "a folder with a faas.toml, or the file (default: this folder)"
    parser.add_argument("path", nargs="?", default=".", metavar="PATH", help=path)
    for flag, name, text in (
        ("--host", "ADDRESS", "address to listen on (127.0.0.1)"),
        ("--port", "PORT", "the HTTP gateway (3000); 0 is any free port"),
        ("--api-port", "PORT", "the cloud's API (4566); 0 is any free port"),
        ("--sandbox", "KIND", "auto, docker or process (auto: Docker if an engine answers)"),
        ("--home", "DIR", "state and code store (.faas in the project)"),
        ("--profile", "NAME", "provider preset (aws)"),
        ("--log-format", "FORMAT", "text or json (text)"),
        ("--account", "NUMBER", "account number (000000000000)"),
        ("--region", "NAME", "region (us-east-1)"),
        ("--account-concurrency", "N", "invocations at a time in the account (1000)"),
        ("--memory-capacity", "MB", "memory sizes of all instances together (no bound)"),
        ("--parallel-starts", "N", "instances that may be starting at a time (32)"),
    ):
        parser.add_argument(flag, metavar=name, help=text)
    switch = dict[str, Any](action="store_const", const=True)
    parser.add_argument("--strict", help="refuse what a sandbox can't enforce here", **switch)
    parser.add_argument("--cpu-limit", help="give an instance only the CPU share its memory buys", **switch)
    parser.add_argument(
        "--no-watch", dest="watch", action="store_const", const=False, help="don't take over changed code"
    )


def _add_client(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    parser.add_argument(
        "--api-url", metavar="URL", help="the running emulator ($FAAS_API_URL, http://127.0.0.1:4566)"
    )
    _add_json(parser)
    return parser


def _add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="for machines: JSON on stdout")


def _add_home(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--home", metavar="DIR", help="state and code store ($FAAS_HOME, .faas)")

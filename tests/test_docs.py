"""The documentation is true: its commands run, its configurations load, its links and tables are complete."""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from emulator.cli.parser import build_parser
from emulator.config import ConfigError, load_project
from emulator.config.functions import KINDS as FUNCTION_KEYS
from emulator.config.settings import KINDS as SETTINGS
from emulator.core import hold, instance, session
from emulator.core.pool import PoolStatistics
from emulator.doors import admin, gateway
from emulator.doors.lambda_api import functions, invoke
from emulator.fleet import fleet, live, logs, runtime_api
from emulator.http import server
from emulator.sandbox import docker_limits, launcher, limits, process, process_tree
from emulator.sandbox.cgroups import Layout
from emulator.sandbox.protocol import Enforcement
from emulator.telemetry import journal, metrics
from emulator.telemetry.exposition import Exposition
from emulator.telemetry.metrics import Metrics
from tests.support.cloud import ROOT, Cloud

DOCS = ROOT / "docs"
PAGES = sorted(path for path in [*DOCS.glob("*.md"), ROOT / "README.md"] if path.exists())
FENCE = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced block: ``sh cloud`` is run against a cloud on the samples, ``sh project`` in an empty
    folder, ``toml`` must load and ``toml bad`` give the errors of the block that follows it."""

    page: Path
    line: int
    kind: str
    text: str
    following: str

    def __str__(self) -> str:
        return f"{self.page.name}:{self.line}"


def _blocks() -> Iterator[Block]:
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        found = list(FENCE.finditer(text))
        for at, match in enumerate(found):
            following = found[at + 1][2] if at + 1 < len(found) else ""
            yield Block(page, text.count("\n", 0, match.start()) + 1, match[1].strip(), match[2], following)


BLOCKS = list(_blocks())


def _of(kind: str) -> list[Block]:
    return [block for block in BLOCKS if block.kind == kind]


# -- commands --------------------------------------------------------------------


@pytest.fixture(scope="module")
def commands(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for PATH with this interpreter's ``faas``, ``python`` and neighbours."""
    folder = tmp_path_factory.mktemp("bin")
    python = shlex.quote(sys.executable)
    for name, command in (("faas", f"{python} -m emulator"), ("python", python), ("python3", python)):
        (folder / name).write_text(f'#!/bin/sh\nexec {command} "$@"\n')
        (folder / name).chmod(0o755)
    return folder


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    with Cloud.start(ROOT / "sample_functions", home=tmp_path_factory.mktemp("home"), sandbox="process") as running:
        assert running.invoke("hello-python").status == 200
        yield running


def _environ(commands: Path, folder: Path, **extra: str) -> dict[str, str]:
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("FAAS_", "AWS_"))}
    path = os.pathsep.join([str(commands), str(Path(sys.executable).parent), ours.get("PATH", os.defpath)])
    return {
        **ours, "PATH": path, "PYTHONPATH": str(ROOT), "NO_COLOR": "1",
        "AWS_EC2_METADATA_DISABLED": "true", "AWS_PAGER": "", "AWS_CONFIG_FILE": str(folder / "none"),
        "AWS_SHARED_CREDENTIALS_FILE": str(folder / "none"), **extra,
    }


def _run(script: str, folder: Path, environ: dict[str, str]) -> None:
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script], cwd=folder, env=environ, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=110, check=False,
    )
    assert done.returncode == 0, f"exit status {done.returncode}\n{script}\n{done.stdout}"


@pytest.mark.timeout(330)  # the first one may have to install the samples' dependencies
@pytest.mark.parametrize("block", _of("sh cloud"), ids=str)
def test_commands_for_a_running_cloud(block: Block, cloud: Cloud, commands: Path, tmp_path: Path) -> None:
    script = re.sub(r"(http://)?(127\.0\.0\.1|localhost):3000\b", cloud.gateway_url, block.text)
    script = re.sub(r"(http://)?(127\.0\.0\.1|localhost):4566\b", cloud.api_url, script)
    assert not re.search(r"\b(3000|4566)\b", script), "a port written so that it can't be replaced"
    if "curl" in script:
        script = f"curl() {{ command curl --fail --max-time 60 \"$@\"; }}\n{script}"
    _run(script, tmp_path, _environ(commands, tmp_path, FAAS_API_URL=cloud.api_url))


@pytest.mark.parametrize("block", _of("sh project"), ids=str)
def test_commands_of_a_project(block: Block, commands: Path, tmp_path: Path) -> None:
    _run(block.text, tmp_path, _environ(commands, tmp_path, FAAS_HOME=str(tmp_path / ".faas")))


def test_something_is_run() -> None:
    assert len(_of("sh cloud")) > 10
    assert len(_of("sh project")) > 3
    known = {"", "text", "sh", "sh cloud", "sh project", "toml", "toml bad", "json", "mermaid", "python", "yaml"}
    assert not [f"{block}: ```{block.kind}" for block in BLOCKS if block.kind not in known]


# -- configurations ------------------------------------------------------------


def _write_project(folder: Path, text: str) -> None:
    """The file, and the code it speaks of."""
    (folder / "faas.toml").write_text(text)
    for code in re.findall(r'^code\s*=\s*"([^"]+)"', text, re.MULTILINE):
        (folder / code).mkdir(parents=True, exist_ok=True)
        for name in ("app.py", "index.mjs", "bootstrap"):
            (folder / code / name).write_text("")
            (folder / code / name).chmod(0o755)


@pytest.mark.parametrize("block", _of("toml"), ids=str)
def test_configurations_load(block: Block, tmp_path: Path) -> None:
    _write_project(tmp_path, block.text)
    assert not load_project(tmp_path).warnings


@pytest.mark.parametrize("block", _of("toml bad"), ids=str)
def test_errors_are_as_shown(block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _write_project(tmp_path, block.text)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError) as refused:
        load_project(tmp_path)
    assert [f"faas: {problem}" for problem in refused.value.problems] == block.following.splitlines()


# -- completeness -----------------------------------------------------------------


def _anchor(heading: str) -> str:
    """As GitHub makes them."""
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "").strip().lower()
    return re.sub(r"[^\w\- ]", "", text).replace(" ", "-")


def _prose(page: Path) -> str:
    return FENCE.sub("", page.read_text(encoding="utf-8"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.name))
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", _prose(page)):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        there = (page.parent / name).resolve() if name else page
        assert there.exists(), f"{target}: nothing there"
        if anchor:
            headings = re.findall(r"^#+ (.*)$", _prose(there), re.MULTILINE)
            assert anchor in map(_anchor, headings), f"{target}: no such heading"


def test_every_page_is_in_the_index() -> None:
    index = (DOCS / "README.md").read_text()
    assert not [page.name for page in DOCS.glob("*.md") if page.name != "README.md" and f"({page.name})" not in index]


def test_every_key_is_documented() -> None:
    rows = set(re.findall(r"^\| `([a-z_]+)` \|", (DOCS / "faas-toml.md").read_text(), re.MULTILINE))
    schema = json.loads((ROOT / "emulator" / "faas.schema.json").read_text())
    tables = [schema["properties"]["emulator"], schema["$defs"]["function"], schema["$defs"]["route"]]
    assert {key for table in tables for key in table["properties"]} == rows
    assert {*FUNCTION_KEYS, *SETTINGS} <= rows


def test_every_setting_has_its_flag_and_variable() -> None:
    text = (DOCS / "faas-toml.md").read_text()
    for name in SETTINGS:
        flag = "--no-watch" if name == "watch" else "--" + name.replace("_", "-")
        assert f"| `{name}` | `{flag}` | `FAAS_{name.upper()}` |" in text


def test_every_variable_is_documented() -> None:
    found = set()
    for module in (ROOT / "emulator").rglob("*.py"):
        found |= set(re.findall(r"\bFAAS_[A-Z_]*[A-Z]\b", module.read_text()))
    found.discard("FAAS_PHASE_MARKER")  # between us and our bootstrap
    text = (DOCS / "faas-toml.md").read_text()
    assert not [name for name in sorted(found) if f"`{name}`" not in text]


def _subcommands() -> list[str]:
    parser = build_parser()
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            return list(action.choices)
    raise AssertionError("no commands")


def test_every_command_is_documented() -> None:
    headings = re.findall(r"^## (.*)$", (DOCS / "cli.md").read_text(), re.MULTILINE)
    named = [name.removeprefix("faas ") for heading in headings for name in heading.split(", ")]
    assert sorted(named) == sorted(_subcommands())


def test_every_metric_is_documented() -> None:
    names = set()
    for metric in Exposition(Metrics(lambda: PoolStatistics(0, {}, {}, 0), lambda: 0)).collect():
        names.add(metric.name + ("_total" if metric.type == "counter" else ""))
    documented = set(re.findall(r"^\| `(faas_\w+)` \|", (DOCS / "admin-api.md").read_text(), re.MULTILINE))
    assert documented == names


def test_every_admin_path_is_documented() -> None:
    from emulator.doors.admin import AdminRoutes

    text = (DOCS / "admin-api.md").read_text()
    for route in AdminRoutes(None).routes():  # type: ignore[arg-type]  # it keeps the panel for later
        method = "POST" if "POST" in (route.methods or ()) else "GET"
        path = route.path.replace("{name}", "NAME")
        assert re.search(rf"^## {method} {re.escape(path)}(\?.*)?$", text, re.MULTILINE), f"{method} {path}"


def _limits() -> dict[str, tuple[Enforcement, ...]]:
    """By column of the table in docs/limits.md."""
    groups = Layout()
    groups.memory = groups.cpu = groups.pids = groups.freezer = "/sys/fs/cgroup"
    return {
        "Docker": docker_limits.describe(cpu_limit=False, isolated=True, files=True),
        "process, root": limits.describe("root", groups, False, True),
        "process, userns": limits.describe("userns", Layout(), False, True),
        "process, plain on Linux": limits.describe("plain", Layout(), False, False),
    }


def test_limits_are_what_the_sandboxes_say() -> None:
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in (DOCS / "limits.md").read_text().splitlines() if line.startswith("|")
    ]
    head = next(row for row in rows if row[0] == "limit" and "Docker" in row)
    table = {re.sub(r" \(.*", "", row[0]): row for row in rows if len(row) == len(head)}
    names = {"filesystem_isolation": "file system isolation", "read_only_code": "read-only code"}
    for column, items in _limits().items():
        for item in items:
            cell = table[names.get(item.limit, item.limit.replace("_", " "))][head.index(column)]
            assert cell.startswith("**") == item.enforced, f"{column}, {item.limit}: {cell!r}, but {item}"


@pytest.mark.parametrize(
    ("page", "number"),
    [
        ("architecture", f"{live.NEXT_GRACE * 1000:g} ms"),
        ("architecture", f"{hold.QUICK * 1000:g} ms"),
        ("architecture", f"{hold.PATIENCE * 1000:g} ms"),
        ("limits", f"{live.INIT_LIMIT:g} s"),
        ("limits", f"{launcher.USERS} users"),
        ("limits", f"{process.WATCH_INTERVAL * 1000:g} ms"),
        ("limits", f"memory/{process_tree.FULL_CORE_MB} of a core"),
        ("limits", f"{runtime_api.MAX_RESPONSE:,} bytes"),
        ("limits", f"{invoke.PAYLOAD_LIMIT:,} bytes"),
        ("limits", f"{gateway.PAYLOAD_LIMIT >> 20} MiB"),
        ("limits", f"{server.HEAD_LIMIT >> 20} MiB"),
        ("gateway", f"{gateway.EVENT_LIMIT:,} bytes"),
        ("aws-api", f"pages of at most {functions.PAGE}"),
        ("admin-api", f"{fleet.INVOCATIONS_KEPT} are kept"),
        ("admin-api", f"at most {admin.PREWARM_LIMIT}"),
        ("admin-api", f"at most {admin.WAIT_LIMIT:g}"),
        ("admin-api", f"the last {logs.ENTRIES_KEPT:,} entries"),
        ("admin-api", f"{journal.FILE_LIMIT >> 20} MiB"),
        ("admin-api", f"beyond {metrics.ERROR_TYPES_KEPT} types"),
    ],
)
def test_numbers_are_those_of_the_code(page: str, number: str) -> None:
    assert number in " ".join((DOCS / f"{page}.md").read_text().split())


# -- what is drawn from code ---------------------------------------------------------


def _states() -> str:
    lines = ["stateDiagram-v2", "    [*] --> starting"]
    for state, targets in instance.TRANSITIONS.items():
        lines += [f"    {state.value} --> {name}" for name in sorted(target.value for target in targets)]
    return "\n".join([*lines, "    gone --> [*]", ""])


def _session() -> str:
    rows = [f"    {at.value} --> {to.value}: {call.value}" for (at, call), to in session.TRANSITIONS.items()]
    return "\n".join(["stateDiagram-v2", "    [*] --> init", *rows, ""])


def test_diagrams_are_the_code() -> None:
    drawn = [block.text for block in _of("mermaid") if block.page.name == "architecture.md"]
    assert drawn == [_states(), _session()]

"""``faas doctor`` and ``faas clean`` on this machine, whatever it can do."""

from __future__ import annotations

import json
import socket
from pathlib import Path

from .conftest import Faas


def test_doctor_names_what_works_and_the_remedy(faas: Faas, tmp_path: Path) -> None:
    with socket.socket() as taken, socket.socket() as other:
        for one in (taken, other):
            one.bind(("127.0.0.1", 0))
            one.listen()
        numbers = {name: one.getsockname()[1] for name, one in (("PORT", taken), ("API_PORT", other))}
        wishes = {f"FAAS_{name}": str(number) for name, number in numbers.items()}
        done = faas("doctor", "--json", **wishes)
        human = faas("doctor", **wishes)
    told = json.loads(done.stdout)
    assert done.returncode == (0 if told["can_run"] else 1)
    assert {check["area"] for check in told["checks"]} == {
        "versions", "engine", "process", "runtimes", "ports", "disk",
    }
    assert all(check["status"] in ("ok", "warn", "fail") and check["detail"] for check in told["checks"])
    port = next(check for check in told["checks"] if check["name"].startswith("gateway"))
    assert port["status"] == "warn"
    assert "--port" in port["remedy"]
    assert human.returncode == done.returncode
    assert str(numbers["PORT"]) in human.stdout
    assert not list(tmp_path.iterdir())


def test_clean_removes_what_was_half_made_and_code_only_when_asked(faas: Faas, tmp_path: Path) -> None:
    store = tmp_path / ".faas" / "code"
    (store / ".tmp-999999999-x").mkdir(parents=True)
    (store / ("a" * 64)).mkdir()
    done = faas("clean", "--json")
    assert done.returncode == 0
    removed = json.loads(done.stdout)["removed"]
    assert f"code {store / '.tmp-999999999-x'}" in removed
    assert [path.name for path in store.iterdir()] == ["a" * 64]
    assert f"removed code {store / ('a' * 64)}" in faas("clean", "--code").stdout
    assert not list(store.iterdir())

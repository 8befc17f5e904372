"""The parts of the benchmark, (a) to (f): what is asked of which subject, in which order.

Each part takes the subjects in turn and turns the order round every round
(A B, B A, ...), so that whatever else the machine does falls on all of them.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from . import proc
from .report import Bar, Report
from .subjects import HERE, Bench, Subject, post, program

T = TypeVar("T")
MANY = 20
BURST = 50
COLD = ("--want", "X-Faas-Start: cold")
KB100, MB1 = 100_000, 1_000_000
LEVELS = (8, 32, 128)

BARS = (
    Bar("warm, 1 client", "p50 ms", 1.35),
    Bar("warm, 1 client", "p99 ms", 1.4),
    Bar("warm, 1 client", "p50 ms", 1.35, subject="ours (gateway)"),
    Bar("warm, 1 client", "p99 ms", 1.4, subject="ours (gateway)"),
    *(Bar(f"warm, {level} clients", "answers/s", 1.0, at_least=True) for level in LEVELS),
    Bar("warm, open loop 1000/s", "p50 ms", 1.2),
    Bar("warm, 100 KB", "p50 ms", 1.15),
    Bar("warm, 1 MB", "p50 ms", 1.15),
    Bar("cold start", "p50 ms", 1.1, against="by hand"),
    Bar("cold start, Docker", "ms", 1.1, against="by hand"),
    Bar("20 functions cold at once", "ms to the last", 1.0),
    Bar("50 cold starts of one function", "ms to the last", 1.0),
    Bar("20 functions cold at once", "times one alone", 3.0, against=""),
    Bar("start to first result", "ms", 500, against=""),
    Bar("CPU", "s per 1,000 calls", 1.0),
    Bar("memory", "idle tree MB PSS", 60, against=""),
    Bar("memory", "idle instance MB PSS", 6.6, against=""),
)


@dataclass(slots=True)
class Plan:
    """How long and how often."""

    rounds: int
    seconds: float
    ours: bool
    """False measures floors only."""

    def turn(self, number: int, subjects: Sequence[T]) -> Sequence[T]:
        return subjects if number % 2 == 0 else subjects[::-1]


def load(report: Report, part: str, name: str, url: str, *arguments: object) -> dict[str, float]:
    """One run of the generator, counted; errors are kept, whatever becomes of the numbers."""
    seen = program("load.py", url, *arguments)
    report.count(part, name, seen["answers"], seen["errors"])
    if seen["generator_cpu"] > 0.8:
        report.note(f"{part}: the generator was busy {seen['generator_cpu']:.0%} of the time, rates are too low")
    return seen


def doors(bench: Bench, plan: Plan) -> list[tuple[str, str]]:
    """(name, URL) of all that answers warm calls."""
    found = [("floor", bench.floor().url()), ("starlette", bench.starlette().url())]
    if plan.ours:
        ours = bench.ours()
        found += [("ours", ours.url()), ("ours (gateway)", f"{ours.gateway}/web")]
    return found


def warm(bench: Bench, report: Report, plan: Plan) -> None:
    """(a) warm requests: latency alone, throughput, open loop, payloads."""
    subjects = doors(bench, plan)
    seconds = plan.seconds
    cases: list[tuple[str, list[object], list[str]]] = [
        ("warm, 1 client", ["--clients", 1, "--seconds", seconds, "--warm", 100], ["p50", "p99", "rate"]),
        ("warm, open loop 1000/s",
         ["--clients", 32, "--rate", 1000, "--seconds", seconds, "--warm", 200], ["p50", "p99"]),
        ("warm, 100 KB",
         ["--clients", 1, "--size", KB100, "--seconds", seconds, "--warm", 20], ["p50", "p99"]),
        ("warm, 1 MB", ["--clients", 1, "--size", MB1, "--seconds", seconds, "--warm", 5], ["p50", "p99"]),
    ]
    cases += [
        (f"warm, {level} clients", ["--clients", level, "--seconds", seconds, "--warm", 4 * level],
         ["rate", "p50", "p99"])
        for level in LEVELS
    ]
    for part, arguments, measures in cases:
        clients = int(str(arguments[1]))
        for name, url in subjects:  # every environment the level needs is there before it is measured
            load(report, f"{part} (settling)", name, url, "--clients", clients, "--seconds", 0.3 + clients / 20)
        for number in range(plan.rounds):
            for name, url in plan.turn(number, subjects):
                seen = load(report, part, name, url, *arguments)
                for measure in measures:
                    report.add(part, "answers/s" if measure == "rate" else f"{measure} ms", name, seen[measure])
            size = {"warm, 1 client": 0, "warm, 100 KB": KB100, "warm, 1 MB": MB1}.get(part)
            if size is not None:
                seen = program("bare.py", "exchange", bench.code, "--seconds", seconds / 2, "--size", size)
                report.count(part, "exchange alone", seen["answers"], seen["errors"])
                for measure in ("p50", "p99"):
                    report.add(part, f"{measure} ms", "exchange alone", seen[measure])


def evict(subject: Subject, *functions: str) -> None:
    """End the functions' idle environments, once all that answered have become idle."""
    time.sleep(0.1)
    for function in functions:
        post(f"{subject.api}/_faas/functions/{function}/evict", b"")


def cold(bench: Bench, report: Report, plan: Plan) -> None:
    """(b) a cold start, request to response, against a spawn by hand until the first ``next``."""
    part = "cold start"
    subjects = [bench.floor(), *([bench.ours()] if plan.ours else [])]
    for number in range(plan.rounds):
        for subject in plan.turn(number, subjects):
            seen = load(report, part, subject.name, subject.url(), "--clients", 1, "--count", 8,
                        "--header", "X-Faas-Start: cold", *COLD)
            report.add(part, "p50 ms", subject.name, seen["p50"])
            report.add(part, "max ms", subject.name, seen["max"])
            evict(subject, "echo")
        times = sorted(program("bare.py", "spawn", bench.code)["ms"] for _ in range(8))
        report.count(part, "by hand", len(times), 0)
        report.add(part, "p50 ms", "by hand", (times[3] + times[4]) / 2)
        report.add(part, "max ms", "by hand", times[-1])


def docker(bench: Bench, report: Report, plan: Plan) -> None:
    """(c) the same in Docker, against create + start through the SDK by hand."""
    part = "cold start, Docker"
    if not shutil.which("docker"):
        return report.note(f"{part}: skipped, there is no docker command")
    engine = subprocess.run(["docker", "info"], capture_output=True, text=True, check=False)
    if engine.returncode:
        return report.note(f"{part}: skipped, no engine answers: {engine.stderr.strip()[:200]}")
    if not plan.ours:
        return report.note(f"{part}: skipped, only floors are measured")
    bench.sandbox, before = "docker", bench.sandbox
    try:
        ours = bench.ours()
    finally:
        bench.sandbox = before
    post(ours.url())
    like = bench.folder / "instance.json"
    image = _describe_instance(bench, like)
    report.note(f"{part}: by hand with the same image ({image}), mounts, limits and kind of network")
    for number in range(plan.rounds):
        for subject in plan.turn(number, ["ours", "by hand"]):
            if subject == "ours":
                seen = load(report, part, "ours", ours.url(), "--clients", 1, "--count", 1,
                            "--header", "X-Faas-Start: cold", *COLD)
                report.add(part, "ms", "ours", seen["max"])
                evict(ours, "echo")
                _until_removed()  # as by hand, where the removal is over before the next start
            else:
                report.count(part, "by hand", 1, 0)
                report.add(part, "ms", "by hand", program("bare.py", "docker", like)["ms"])


def _until_removed() -> None:
    ours = ["docker", "ps", "-aq", "--filter", "label=faas-emulator.function=echo"]
    for _ in range(100):
        if not subprocess.run(ours, capture_output=True, text=True, check=True).stdout.strip():
            return
        time.sleep(0.05)


def _describe_instance(bench: Bench, file: Path) -> str:
    """What the engine says of a living instance of ours, into ``file``; its image."""

    def ask(*arguments: str) -> str:
        return subprocess.run(["docker", *arguments], capture_output=True, text=True, check=True).stdout

    for each in ask("ps", "-q", "--filter", "label=faas-emulator.function=echo").split():
        facts = json.loads(ask("inspect", each))[0]
        if any(bind.startswith(str(bench.folder)) for bind in facts["HostConfig"]["Binds"]):
            file.write_text(json.dumps(facts))
            return str(facts["Config"]["Image"])
    raise RuntimeError("no container of ours runs the function echo")


def burst(bench: Bench, report: Report, plan: Plan) -> None:
    """(d) 50 cold starts of one function at once, and 20 functions at once."""
    subjects = [bench.floor(), *([bench.ours()] if plan.ours else [])]
    names = [f"many{number}" for number in range(MANY)]
    part, other = "50 cold starts of one function", "20 functions cold at once"
    for number in range(plan.rounds):
        for subject in plan.turn(number, subjects):
            seen = load(report, part, subject.name, subject.url("sleep"), "--clients", BURST, "--count", BURST,
                        *COLD)
            report.add(part, "ms to the last", subject.name, seen["seconds"] * 1000)
            evict(subject, "sleep")
            time.sleep(0.5)  # let what was evicted go, so that it costs the next one nothing
        for subject in plan.turn(number, subjects):
            alone = load(report, other, subject.name, subject.url("many0"), "--clients", 1, "--count", 1,
                         *COLD)
            evict(subject, "many0")
            time.sleep(0.2)
            seen = load(report, other, subject.name, subject.url("many{n}"), "--clients", MANY, "--count", MANY,
                        *COLD)
            report.add(other, "ms to the last", subject.name, seen["seconds"] * 1000)
            report.add(other, "times one alone", subject.name, seen["seconds"] / alone["seconds"])
            evict(subject, *names)
            time.sleep(0.3)


def start(bench: Bench, report: Report, plan: Plan) -> None:
    """(e) from spawning the emulator to its first function's result."""
    part = "start to first result"
    makers: list[Callable[[], Subject]] = [bench.floor, *([bench.ours] if plan.ours else [])]
    for number in range(plan.rounds):
        for make in plan.turn(number, makers):
            subject = make()
            post(subject.url())
            report.add(part, "ms", subject.name, (time.perf_counter() - subject.begun) * 1000)
            report.count(part, subject.name, 1, 0)
            bench.stop(subject)


def memory(bench: Bench, report: Report, plan: Plan) -> None:
    """(f) memory when idle, of the whole and of an instance, and CPU per 1,000 warm calls."""
    makers: list[Callable[[], Subject]] = [bench.floor, *([bench.ours] if plan.ours else [])]
    for number in range(plan.rounds):
        for make in plan.turn(number, makers):
            subject = make()
            post(subject.url())
            evict(subject, "echo")
            time.sleep(0.5)
            report.add("memory", "idle tree MB PSS", subject.name, proc.tree_pss(subject.pid))
            before = set(proc.tree(subject.pid))
            load(report, "memory", subject.name, subject.url("sleep"), "--clients", 10, "--count", 10)
            time.sleep(0.3)
            # All processes an instance brought with it: its runtime, and whatever holds its namespaces.
            new = set(proc.tree(subject.pid)) - before
            if len(new) < 10:
                report.note(f"memory: {len(new)} processes of ten instances of {subject.name} found")
            report.add("memory", "idle instance MB PSS", subject.name, sum(map(proc.pss, new)) / 10)
            load(report, "CPU", subject.name, subject.url(), "--clients", 1, "--count", 300)
            cpu = proc.cpu(subject.pid)
            seen = load(report, "CPU", subject.name, subject.url(), "--clients", 1, "--count", 3000)
            used = proc.cpu(subject.pid) - cpu
            report.add("CPU", "s per 1,000 calls", subject.name, used / seen["answers"] * 1000)
            bench.stop(subject)


PARTS: dict[str, Callable[[Bench, Report, Plan], None]] = {
    "warm": warm, "cold": cold, "docker": docker, "burst": burst, "start": start, "memory": memory,
}


def health(subject: Subject) -> dict[str, object]:
    with urllib.request.urlopen(f"{subject.api}/_faas/health", timeout=10) as answer:
        seen: dict[str, object] = json.loads(answer.read())
    return seen


__all__ = ["BARS", "HERE", "PARTS", "Plan", "health"]

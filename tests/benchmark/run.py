"""``make bench``: measure the emulator against the floor, print ratios and bars.

python -m tests.benchmark [--only warm,cold,docker,burst,start,memory] [--quick] [--rounds N]
                          [--seconds S] [--json FILE] [--sandbox process|docker|auto] [--floor-only]
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from pathlib import Path

from .parts import BARS, PARTS, Plan, health
from .report import Report, machine
from .subjects import Bench


def main(arguments: list[str] | None = None) -> int:
    """0 when every measured bar is met or only numbers were wanted, 1 with ``--gate`` and a bar missed."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmark", description=__doc__.partition("\n")[0])
    parser.add_argument("--only", default=",".join(PARTS), help="parts, comma-separated: %(default)s")
    parser.add_argument("--quick", action="store_true", help="3 rounds of half a second: a look, not a verdict")
    parser.add_argument("--rounds", type=int, default=0, help="default 7, or 3 with --quick")
    parser.add_argument("--seconds", type=float, default=0.0, help="of each load, default 2, 0.5 with --quick")
    parser.add_argument("--json", type=Path, metavar="FILE", help="all samples, for machines")
    parser.add_argument("--sandbox", default="process", choices=["process", "docker", "auto"])
    parser.add_argument("--floor-only", action="store_true", help="measure the floors, not the emulator")
    parser.add_argument("--gate", action="store_true", help="exit with status 1 when a bar is missed")
    options = parser.parse_args(arguments)
    chosen = [name.strip() for name in options.only.split(",") if name.strip()]
    if wrong := [name for name in chosen if name not in PARTS]:
        parser.error(f"no part is called {', '.join(wrong)}; there are: {', '.join(PARTS)}")
    if not sys.platform.startswith("linux"):
        parser.error("the benchmark reads /proc and needs epoll: run it on Linux")
    plan = Plan(
        rounds=options.rounds or (3 if options.quick else 7),
        seconds=options.seconds or (0.5 if options.quick else 2.0),
        ours=not options.floor_only,
    )
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    report, facts = Report(), machine()
    try:
        import uvloop
        facts["floor"] = f"uvloop {uvloop.__version__} + httptools"
    except ImportError:
        facts["floor"] = "asyncio + httptools (no uvloop here)"
    facts |= {"rounds": plan.rounds, "seconds": plan.seconds, "sandbox": options.sandbox}
    for key, value in facts.items():
        print(f"{key:<10}{value}")
    begun = time.monotonic()
    status = 0
    try:
        for name in chosen:
            bench = Bench(options.sandbox)
            print(f"... {name}", flush=True)
            try:
                PARTS[name](bench, report, plan)
            except (RuntimeError, OSError) as error:  # the other parts can still be measured
                report.note(f"{name} broke off: {error}")
                status = 1
            finally:
                bench.close()
    except KeyboardInterrupt:
        report.note("interrupted: what follows is incomplete")
        status = 130
    facts["load at end"] = machine()["load"]
    facts["took s"] = round(time.monotonic() - begun)
    report.print(BARS)
    print(f"took {facts['took s']} s, load {facts['load at end']}")
    if options.json:
        report.save(options.json, facts, BARS)
    if options.gate and not status:
        status = int(any(verdict["met"] is not True for verdict in report.verdicts(BARS)))
    return status


__all__ = ["health", "main"]

"""Samples by round, their spread, and what became of each bar."""

from __future__ import annotations

import json
import math
import os
import platform
import statistics
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Bar:
    """``measure`` of ours must be within ``limit`` of the floor's (or, with no ``against``, absolutely)."""

    part: str
    measure: str
    limit: float
    against: str = "floor"
    at_least: bool = False
    subject: str = "ours"


def cpu_model() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.machine()


def machine() -> dict[str, object]:
    return {
        "cpu": cpu_model(),
        "cores": os.cpu_count(),
        "load": [round(value, 2) for value in os.getloadavg()],
        "kernel": platform.release(),
        "python": platform.python_version(),
    }


@dataclass(slots=True)
class Report:
    """Everything seen, in the order seen. A round adds one number to each measure."""

    samples: dict[str, dict[str, dict[str, list[float]]]] = field(default_factory=dict)
    """part -> measure -> subject -> one value per round."""
    notes: list[str] = field(default_factory=list)
    """What was skipped and why, errors seen: nothing is dropped in silence."""
    answers: dict[str, int] = field(default_factory=dict)
    """part/subject -> how many answers stand behind the numbers."""
    errors: dict[str, int] = field(default_factory=dict)

    def add(self, part: str, measure: str, subject: str, value: float) -> None:
        self.samples.setdefault(part, {}).setdefault(measure, {}).setdefault(subject, []).append(value)

    def count(self, part: str, subject: str, answers: float, errors: float) -> None:
        key = f"{part} {subject}"
        self.answers[key] = self.answers.get(key, 0) + int(answers)
        self.errors[key] = self.errors.get(key, 0) + int(errors)

    def note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)
            print(f"note: {text}", flush=True)

    def median(self, part: str, measure: str, subject: str) -> float | None:
        values = self.samples.get(part, {}).get(measure, {}).get(subject)
        return statistics.median(values) if values else None

    def ratio(self, part: str, measure: str, subject: str, against: str) -> tuple[float, float, float] | None:
        """Median over rounds of the ratio within a round, with the least and the greatest."""
        of = self.samples.get(part, {}).get(measure, {})
        pairs = zip(of.get(subject, ()), of.get(against, ()), strict=False)
        ratios = [mine / theirs for mine, theirs in pairs if theirs]
        return (statistics.median(ratios), min(ratios), max(ratios)) if ratios else None

    def rows(self, base: str = "floor") -> Iterable[str]:
        for part, measures in self.samples.items():
            yield ""
            yield f"{part:<44}{'rounds':>7}{'median':>11}{'min':>11}{'max':>11}  ratio to {base} (min..max)"
            for measure, subjects in measures.items():
                for subject, values in subjects.items():
                    middle = f"{statistics.median(values):>11.3f}{min(values):>11.3f}{max(values):>11.3f}"
                    against = ""
                    if subject != base and (found := self.ratio(part, measure, subject, base)):
                        against = f"  x{found[0]:.2f} ({found[1]:.2f}..{found[2]:.2f})"
                    yield f"  {measure:<27} {subject:<14}{len(values):>7}{middle}{against}"

    def verdicts(self, bars: Iterable[Bar]) -> list[dict[str, object]]:
        made: list[dict[str, object]] = []
        for bar in bars:
            if bar.part not in self.samples:
                continue
            if bar.against:
                found = self.ratio(bar.part, bar.measure, bar.subject, bar.against)
                value = found[0] if found else None
            else:
                value = self.median(bar.part, bar.measure, bar.subject)
            met = None
            if value is not None and not math.isnan(value):
                met = value >= bar.limit if bar.at_least else value <= bar.limit
            made.append({
                "part": bar.part, "measure": bar.measure, "against": bar.against, "at_least": bar.at_least,
                "limit": bar.limit, "value": value, "met": met,
            })
        return made

    def print(self, bars: Iterable[Bar]) -> None:
        for row in self.rows():
            print(row)
        print("\nanswers behind these numbers, and errors")
        for key, answers in self.answers.items():
            print(f"  {key:<50}{answers:>9} answers {self.errors[key]:>6} errors")
        print(f"\n{'bar':<62}{'limit':>9}{'measured':>10}  verdict")
        for verdict in self.verdicts(bars):
            sign = ">=" if verdict["at_least"] else "<="
            against = f" / {verdict['against']}" if verdict["against"] else ""
            name = f"{verdict['part']}: {verdict['measure']}{against}"
            value, limit = verdict["value"], float(str(verdict["limit"]))
            if not isinstance(value, float):
                print(f"{name:<62}{sign:>4}{limit:>5.4g}{'-':>10}  not measured")
                continue
            off = abs(value / limit - 1) * 100
            said = "met" if verdict["met"] else f"MISSED by {off:.0f} %"
            print(f"{name:<62}{sign:>4}{limit:>5.4g}{value:>10.3f}  {said}")
        for text in self.notes:
            print(f"note: {text}")

    def save(self, path: Path, facts: dict[str, object], bars: Iterable[Bar]) -> None:
        path.write_text(json.dumps({
            "machine": facts, "samples": self.samples, "answers": self.answers, "errors": self.errors,
            "bars": self.verdicts(bars), "notes": self.notes,
        }, indent=1) + "\n")

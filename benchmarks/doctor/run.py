"""The doctor's test bench: faults planted, healthy trainings, and what the doctor says of them.

python benchmarks/doctor/run.py [--quick] [--full] [--damage]
Without options each fault is planted, once, in every net that it hurts by benchmarks/results/doctor/damage.json;
--quick takes one net a fault and every fifth healthy training, --full three seeds of everything. --damage measures
what is not stored (remove the file to measure anew). FOVEA_DATA names the folder of MNIST and Fashion-MNIST; without
it the other data sets are taken. The table goes to benchmarks/doctor.md too, but for --quick and --only.
"""

from __future__ import annotations

import argparse
import functools
import json
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(1, str(Path(__file__).resolve().parents[1]))

from faults import FAULTS, Fault, cured
from healthy import healthy
from patients import Patient, Result, bases, changed, train

BENCHMARKS = Path(__file__).resolve().parents[1]
RESULTS, PAGE = BENCHMARKS / "results" / "doctor", BENCHMARKS / "doctor.md"
DAMAGE = RESULTS / "damage.json"
SEEDS = 5  # of the damage
LEAST_DAMAGE = 0.02  # of accuracy
# What a guesser says of everything, the most common causes of published faulty programs first.
GUESSES = ("learning-rate-too-high", "too-few-epochs", "inputs-not-scaled")
SEARCHED = {  # the settings that random search draws from
    "optimizer": ("adam", "sgd", "rmsprop"),
    "lr": (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1),
    "batch": (16, 32, 64, 128),
    "epochs": (4, 8, 12),
    "dropout": (0.0, 0.2, 0.5),
    "activation": ("relu", "tanh"),
    "init": ("default",),
}


@functools.cache
def accuracies(patient: Patient) -> list[float]:
    """Of a training over the seeds."""
    return [train(patient, seed, watched=False).accuracy for seed in range(SEEDS)]


def measure_damage(only: str = "") -> dict[str, Any]:
    """For each fault and net the mildest strength that costs accuracy significantly over seeds (paired t test).

    What is stored already stays; so a measurement that was broken off goes on.

    Args:
        only: a part of the names of the faults to measure.
    """
    from fovea.evaluation.paired import paired_over_seeds

    found: dict[str, Any] = json.loads(DAMAGE.read_text(encoding="utf-8")) if DAMAGE.is_file() else {}
    for fault in FAULTS:
        for base in fault.hosts(bases()):
            if only not in fault.name or f"{fault.name} | {base.data}" in found:
                continue
            sound = accuracies(base)
            for strength, change in enumerate(fault.strengths):
                hurt = accuracies(change(base))
                test = paired_over_seeds(sound, hurt)
                entry = {"strength": strength, "healthy": sound, "faulty": hurt, "p_value": test.p_value}
                entry["drop"] = -test.difference.value
                counts = entry["drop"] >= LEAST_DAMAGE and test.p_value is not None and test.p_value < 0.05
                if counts or strength == len(fault.strengths) - 1:
                    found[f"{fault.name} | {base.data}"] = {**entry, "counts": bool(counts)}
                    say(f"{fault.name} | {base.data}: strength {strength}, drop {entry['drop']:.3f}, {counts}")
                if counts:
                    break
        write(DAMAGE, found)
    return found


def planted(damage: dict[str, Any], quick: bool, only: str = "") -> Iterable[tuple[Fault, Patient, dict[str, Any]]]:
    """(fault, faulty patient, its damage) for every fault that hurts; with `quick` one net each, in turn."""
    for number, fault in enumerate(FAULTS):
        hurting = []
        if only not in fault.name:
            continue
        for base in fault.hosts(bases()):
            entry = damage.get(f"{fault.name} | {base.data}")
            if entry is not None and entry["counts"]:
                hurting.append((fault, fault.strengths[entry["strength"]](base), entry))
        yield from ([hurting[number % len(hurting)]] if quick and hurting else hurting)


def random_search(patient: Patient, trials: int, seed: int) -> Patient:
    """The best of some random changes of settings, by the accuracy that it reaches; as many trainings as the doctor."""
    rng = np.random.default_rng(seed)
    best, best_accuracy = patient, train(patient, seed, watched=False).accuracy
    for _ in range(trials):
        drawn = {name: values[rng.integers(len(values))] for name, values in SEARCHED.items()}
        tried = changed(patient, **drawn)
        accuracy = train(tried, seed, watched=False).accuracy
        best, best_accuracy = (tried, accuracy) if accuracy > best_accuracy else (best, best_accuracy)
    return best


def recovered(entry: dict[str, Any], accuracy: float, seed: int) -> float:
    """The share of the lost accuracy that is back, at most 1.05."""
    lost = entry["healthy"][seed] - entry["faulty"][seed]
    return float(np.clip((accuracy - entry["faulty"][seed]) / lost, -1, 1.05)) if lost > 0.005 else 1.0


def judge_faulty(damage: dict[str, Any], quick: bool, seeds: int, only: str = "") -> list[dict[str, Any]]:
    """One row a faulty training: what was said, whether it was right, what the cure gave."""
    rows = []
    for fault, patient, entry in planted(damage, quick, only):
        for seed in range(seeds):
            result: Result = train(patient, seed)
            said = [finding.id for finding in result.findings]
            row: dict[str, Any] = {"fault": fault.name, "data": patient.data, "net": patient.net, "seed": seed}
            row |= {"said": said, "first_right": bool(said) and said[0] in fault.rules, "seconds": result.seconds}
            row["any_right"] = any(each in fault.rules for each in said)
            row["right"] = sum(each in fault.rules for each in said)
            mended = cured(patient, result.findings[0]) if result.findings else patient
            row["recovered"] = recovered(entry, train(mended, seed, watched=False).accuracy, seed)
            searched = random_search(patient, 1, seed)
            row["recovered_by_search"] = recovered(entry, train(searched, seed, watched=False).accuracy, seed)
            row["guess_first"], row["guess_any"] = GUESSES[0] in fault.rules, bool({*GUESSES} & {*fault.rules})
            rows.append(row)
            mark = "right" if row["first_right"] else "later" if row["any_right"] else "MISSED"
            say(f"{mark:7}{fault.name}: {patient.data}, {patient.net}: {', '.join(said[:4]) or 'nothing'}; "
                f"recovered {row['recovered']:.2f}, search {row['recovered_by_search']:.2f}")  # fmt: skip
    return rows


def judge_healthy(quick: bool, seeds: int) -> list[dict[str, Any]]:
    """One row a healthy training: what was said of it."""
    rows = []
    for kind, patient in healthy()[:: 5 if quick else 1]:
        for seed in range(seeds):
            result = train(patient, seed)
            severe = [finding.id for finding in result.findings if finding.severity == "severe"]
            warnings = [finding.id for finding in result.findings if finding.severity == "warning"]
            rows.append({"kind": kind, "seed": seed, "severe": severe, "warnings": warnings})
            rows[-1] |= {"accuracy": result.accuracy, "seconds": result.seconds}
            say(f"{'ALARM' if severe else 'quiet'}  {kind}: {', '.join([*severe, *warnings]) or 'nothing'}")
    return rows


def interval(right: int, count: int) -> list[float]:
    """The 95 % interval (Wilson's) of a share."""
    from fovea.evaluation.intervals import accuracy_score

    found = accuracy_score(right, count)
    return [float(found.low or 0), float(found.high or 0)]


def summary(faulty: list[dict[str, Any]], sound: list[dict[str, Any]]) -> dict[str, Any]:
    """The figures of the bench."""
    count = max(len(faulty), 1)
    told = sum(len(row["said"]) for row in faulty)
    return {
        "faulty": len(faulty),
        "first_right_interval": interval(sum(row["first_right"] for row in faulty), count),
        "any_right_interval": interval(sum(row["any_right"] for row in faulty), count),
        "first_right": sum(row["first_right"] for row in faulty) / count,
        "any_right": sum(row["any_right"] for row in faulty) / count,
        "precision": sum(row["right"] for row in faulty) / max(told, 1),
        "guess_first": sum(row["guess_first"] for row in faulty) / count,
        "guess_any": sum(row["guess_any"] for row in faulty) / count,
        "recovered_median": float(np.median([row["recovered"] for row in faulty])) if faulty else None,
        "recovered_by_search_median": float(np.median([row["recovered_by_search"] for row in faulty]))
        if faulty
        else None,
        "healthy": len(sound),
        "severe_false_alarms": sum(bool(row["severe"]) for row in sound),
        "false_warnings": sum(bool(row["warnings"]) for row in sound),
    }


def table(faulty: list[dict[str, Any]], figures: dict[str, Any]) -> str:
    """Recall by cause, and the figures, as Markdown."""
    lines = ["| fault | planted | first right | any right | recovered, median |", "| --- | --- | --- | --- | --- |"]
    for name in dict.fromkeys(row["fault"] for row in faulty):
        rows = [row for row in faulty if row["fault"] == name]
        first, anywhere = (sum(row[key] for row in rows) for key in ("first_right", "any_right"))
        median = np.median([row["recovered"] for row in rows])
        lines.append(f"| {name} | {len(rows)} | {first} | {anywhere} | {median:.0%} |")
    shares = [
        f"{figures[name]:.0%} [{figures[name + '_interval'][0]:.0%}, {figures[name + '_interval'][1]:.0%}]"
        for name in ("first_right", "any_right")
    ]
    rows = [
        ("first finding right", shares[0], f"{figures['guess_first']:.0%} (guessing)"),
        ("any finding right", shares[1], f"{figures['guess_any']:.0%} (guessing three)"),
        ("precision of all findings", f"{figures['precision']:.0%}", ""),
    ]
    if figures["recovered_median"] is not None:
        search = f"{figures['recovered_by_search_median']:.0%} (random search)"
        rows.append(("lost accuracy recovered, median", f"{figures['recovered_median']:.0%}", search))
    severe = f"{figures['severe_false_alarms']} of {figures['healthy']}"
    rows.append(("severe false alarms", severe, f"warnings at {figures['false_warnings']}"))
    lines += ["", f"| {figures['faulty']} faulty trainings | doctor | beside |", "| --- | --- | --- |"]
    return "\n".join([*lines, *(f"| {name} | {value} | {beside} |" for name, value, beside in rows)])


def fill_page(name: str, text: str, figures: dict[str, Any]) -> None:
    """Put a table between its marks on the page."""
    from fovea.runfolder import now_utc, processor_name
    from pages import replace_block

    told = f"{processor_name()}, {now_utc()[:10]}, {figures['seconds'] / 60:.0f} minutes."
    content = f"{text}\n\n{told}"
    PAGE.write_text(replace_block(PAGE.read_text(encoding="utf-8"), name, content), encoding="utf-8")


def say(line: str) -> None:
    """A line of progress, to stderr."""
    print(line, file=sys.stderr, flush=True)


def write(path: Path, values: Any) -> None:
    """A JSON file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    """Run what the options ask for and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one net a fault, every fifth healthy training")
    parser.add_argument("--full", action="store_true", help="three seeds of everything")
    parser.add_argument("--damage", action="store_true", help="measure what is not stored of the damage, and stop")
    parser.add_argument("--only", default="", metavar="TEXT", help="faults whose names hold this")
    options = parser.parse_args()
    began = time.perf_counter()
    if options.damage or options.full or not DAMAGE.is_file():
        measure_damage(options.only)
        if options.damage:
            return
    damage = json.loads(DAMAGE.read_text(encoding="utf-8"))
    seeds = 3 if options.full else 1
    faulty, sound = judge_faulty(damage, options.quick, seeds, options.only), judge_healthy(options.quick, seeds)
    figures = {**summary(faulty, sound), "seconds": round(time.perf_counter() - began, 1)}
    name = "quick" if options.quick else "full" if options.full else "bench"
    write(RESULTS / f"{name}.json", {"figures": figures, "faulty": faulty, "healthy": sound})
    text = table(faulty, figures)
    print(text)
    if not options.quick and not options.only:
        fill_page(name, text, figures)


if __name__ == "__main__":
    main()

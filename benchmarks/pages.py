"""benchmarks/README.md: its prose is written by hand, its tables stand between marks and are filled from JSON."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

from fovea.evaluation.intervals import mean_score
from fovea.files import write_text
from workloads import LABELS, TITLES

MOST_OTHERS_FRACTION = 0.1
HERE = Path(__file__).resolve().parent
PAGE, LATEST, RECIPES = HERE / "README.md", HERE / "results" / "latest.json", HERE / "results" / "recipes"


def replace_block(text: str, name: str, content: str) -> str:
    """`text` with new content between <!-- name --> and <!-- /name -->.

    Raises:
        ValueError: when the marks are not there.
    """
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    if begin not in text or end not in text:
        raise ValueError(f"the page has no place marked {begin} ... {end}")
    before, after = text.partition(begin)[0], text.partition(end)[2]
    return f"{before}{begin}\n{content.strip()}\n{end}{after}"


def with_range(found: dict[str, Any], form: str = ",.0f") -> str:
    """A median with its range: 2,710 (2,650 to 2,760); a value that stands alone has none."""
    if found["low"] == found["high"]:
        return f"{found['median']:{form}}"
    return f"{found['median']:{form}} ({found['low']:{form}} to {found['high']:{form}})"


def workload_table(entries: dict[str, Any]) -> str:
    """The contenders of one workload; who could not be measured has a row that says why."""
    lines = [
        "| who | images/s | ms a step | Fovea is so many times as fast | peak memory | rounds |",
        "|---|---|---|---|---|---|",
    ]
    for name, entry in entries.items():
        if "not_measured" in entry:
            lines.append(f"| {LABELS[name]} | not measured: {entry['not_measured']} | | | | |")
            continue
        times = entry.get("fovea_times_as_fast")
        lines.append(
            f"| {LABELS[name]} | {with_range(entry['images_per_second'])} "
            f"| {entry['milliseconds_per_step']['median']:,.1f} | {with_range(times, '.2f') if times else ''} "
            f"| {entry['peak_memory_mb']:,} MB | {entry['images_per_second']['count']} |"
        )
    return "\n".join(lines)


def ratio_table(ratios: dict[str, Any]) -> str:
    """Fovea against Keras on TensorFlow: with its defaults, and with the fastest of its settings."""
    lines = ["| workload | against | Fovea is so many times as fast |", "|---|---|---|"]
    for key, found in ratios.items():
        prefix, _, kind = key.partition("_against_keras_tf_")
        title = TITLES.get(prefix.replace("_", "-"), prefix)
        if "not_measured" in found:
            lines.append(f"| {title} | Keras on TensorFlow, {kind} | not measured: {found['not_measured']} |")
        else:
            against = LABELS[found["contender"]] + (", its best" if kind == "best" else "")
            lines.append(f"| {title} | {against} | {with_range(found, '.2f')} |")
    return "\n".join(lines)


def growth_table(growth: list[dict[str, Any]]) -> str:
    """Fovea's default net: time of one image by its size and by the batch."""
    lines = ["| image | batch | µs an image | images/s | peak memory |", "|---|---|---|---|---|"]
    for case in growth:
        head = f"| {case['side']}x{case['side']}x{case['channels']} | {case['batch_size']:,} "
        if "not_measured" in case:
            lines.append(f"{head}| not measured: {case['not_measured']} | | |")
            continue
        per_second = case["images_per_second"]
        per_image = {"median": per_second["median"], "low": per_second["high"], "high": per_second["low"]}
        micros = with_range({name: 1e6 / value for name, value in per_image.items()})
        lines.append(f"{head}| {micros} | {per_second['median']:,.0f} | {case['peak_memory_mb']:,} MB |")
    return "\n".join(lines)


def measured_text(results: dict[str, Any]) -> str:
    """Everything that one run of `make bench` has found."""
    hardware, versions = results["hardware"], results["versions"]
    features = ", ".join(hardware["features"]) or "without bf16 instructions"
    named = ", ".join(f"{name} {version}" for name, version in versions.items() if version)
    quick = " **A quick run: few steps and rounds.**" if results.get("quick") else ""
    yardstick = results["yardstick_seconds"]
    parts = [
        f"{hardware['cpu']} ({features}), {hardware['cores']} cores, {hardware['memory_gb']:.0f} GB, "
        f"{results['date'][:10]}; {results['minutes']:.0f} minutes.{quick} {named}. {disturbance(results)}".strip(),
        ratio_table(results["ratios"]),
        f"Yardstick: one epoch of P1's net, 378 batches of 100, under Keras on TensorFlow: {yardstick:.1f} s."
        if yardstick
        else "Yardstick: not measured.",
    ]
    for name, entries in results["workloads"].items():
        parts.append(f"### {TITLES[name]}\n\n{workload_table(entries)}")
    if results["growth"]:
        parts.append(f"### How Fovea's time grows, model `small`\n\n{growth_table(results['growth'])}")
    return "\n\n".join(parts)


def disturbance(results: dict[str, Any]) -> str:
    """What to say of other processes that ran meanwhile: their median share of the cores, and when it is too large."""
    entries = [entry for entries in results["workloads"].values() for entry in entries.values()] + results["growth"]
    shares = [entry["others_fraction"] for entry in entries if entry.get("others_fraction") is not None]
    text = " **Fovea's source changed during the run: measure again.**" if results.get("source_changed") else ""
    if not shares:
        return text.strip()
    share = statistics.median(shares)
    text += f" Other processes took {share:.0%} of the cores' time while steps were timed (median over contenders)."
    if share > MOST_OTHERS_FRACTION:
        text += " **That is too much to trust these figures: measure again on a quiet machine.**"
    return text.strip()


def read_recipes(folder: Path) -> list[dict[str, Any]]:
    """The files of recipes.py, by name."""
    return [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))]


def recipe_line(found: dict[str, Any]) -> str:
    """One recipe over its seeds: accuracy with the 95 % interval of the mean, seconds and yardsticks with ranges."""
    rows = found["rows"]
    score = mean_score([row["test_accuracy"] for row in rows])
    interval = "" if score.low is None else f" [{score.low:.2%}, {score.high:.2%}]"
    seconds = [row["seconds"] for row in rows]
    yards = [row["yardstick_seconds"] for row in rows if row.get("yardstick_seconds")]
    shares = [row["seconds"] / row["yardstick_seconds"] for row in rows if row.get("yardstick_seconds")]
    of = "" if len(shares) in (0, len(rows)) else f", of {len(shares)} seed{'s' * (len(shares) > 1)}"
    train = " or ".join(sorted({f"{row['n_train']:,}" for row in rows}))
    tta = " or ".join(sorted({str(row["tta"]) for row in rows}))
    return (
        f"| {found['recipe']} | {len(rows)} | {train} | {tta} | {score.value:.2%}{interval} | {_range(seconds)} s "
        f"| {f'{_range(yards)} s' if yards else 'not measured'} | {_range(shares, '.2f') if shares else ''}{of} "
        f"| {max(row['peak_memory_mb'] for row in rows):,.0f} MB |"
    )


def _range(values: list[float], form: str = ",.0f") -> str:
    return with_range({"median": statistics.median(values), "low": min(values), "high": max(values)}, form)


def recipes_text(recipes: list[dict[str, Any]]) -> str:
    """The table of time to accuracy, and on what it was measured."""
    if not recipes:
        return "Nothing measured yet: `python benchmarks/recipes.py RECIPE --seed 0`."
    lines = [
        "| recipe | seeds | training images | test-time augmentation | test accuracy, mean "
        "| seconds from the cold start | yardstick | yardsticks | peak memory |",
        "|---|---|---|---|---|---|---|---|---|",
        *map(recipe_line, recipes),
    ]
    rows = [row for found in recipes for row in found["rows"]]
    processors, dates = sorted({row["cpu"] for row in rows}), sorted(row["date"][:10] for row in rows)
    when = dates[0] if dates[0] == dates[-1] else f"{dates[0]} to {dates[-1]}"
    return "\n".join([*lines, "", f"{' and '.join(processors)}, {when}."])


def fill_page() -> None:
    """Fill both marked places of benchmarks/README.md from what is on the disk."""
    text = PAGE.read_text(encoding="utf-8")
    if LATEST.exists():
        text = replace_block(text, "measured", measured_text(json.loads(LATEST.read_text(encoding="utf-8"))))
    write_text(PAGE, replace_block(text, "recipes", recipes_text(read_recipes(RECIPES))))

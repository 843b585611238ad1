"""What a run leaves in your hands, measured: report, cold start, predictions, input guard, adapted images.

    python benchmarks/outcome.py DATA --mnist RUN --cifar RUN [--repeats N]

DATA holds mnist/, fashion-mnist/, CIFAR-10 and digit-recognizer/test.csv; the runs were trained on MNIST and CIFAR-10.
Times are those of fresh processes, taken in turns. The guard's limits were chosen on training images; here it meets the
test images. Results go to benchmarks/results/outcome.json, the tables to benchmarks/outcome.md.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fovea.data.adapt import fit_sizes
from fovea.data.guard import compare, fit_profile
from fovea.data.load import read_raw
from fovea.data.new_images import NewImages
from fovea.data.pixels import check_images
from fovea.delivery.predictor import Predictor, load_model
from fovea.evaluation.metrics import accuracy
from fovea.evaluation.predictions import Predictions
from machine import describe_machine

HERE = Path(__file__).resolve().parent
BATCHES = (1, 10, 250, 1000)  # 250 in `fovea predict`
PAPER = "drawn dark on uneven paper, 100x140, anywhere (synthetic)"
TORCH = "import torch"
MODEL = """
import numpy as np, fovea
model = fovea.load_model({run!r})
print(model.predict(np.eye(28, dtype=np.uint8) * 200).names)
"""
REPORT = """
from fovea.runview import Run
from fovea.runs import draw_run
draw_run(Run({run!r}))
"""


def seconds_of(command: list[str]) -> tuple[float, int]:
    """Wall seconds of a fresh process, and the peak memory of the largest so far in bytes."""
    start = time.perf_counter()
    environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
    subprocess.run(command, check=True, capture_output=True, env=environment)
    return time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024


def in_turns(commands: dict[str, list[str]], repeats: int) -> dict[str, dict[str, float]]:
    """Median, least and most seconds of each command."""
    times: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(repeats):
        for name, command in commands.items():
            times[name].append(seconds_of(command)[0])
    return {
        name: {"median": statistics.median(found), "least": min(found), "most": max(found)}
        for name, found in times.items()
    }


def measure_times(data: Path, mnist: Path, cifar: Path, repeats: int) -> dict[str, Any]:
    """The times, the size of the page, and the peak memory of predictions of few and of many rows."""
    table = data / "digit-recognizer" / "test.csv"
    with tempfile.TemporaryDirectory() as folder:
        predict = [sys.executable, "-m", "fovea", "predict", str(mnist)]
        commands = {
            "import torch": [sys.executable, "-c", TORCH],
            "load_model and first prediction": [sys.executable, "-c", MODEL.format(run=str(mnist))],
            "figures and report of a CIFAR-10 run": [sys.executable, "-c", REPORT.format(run=str(cifar))],
            "fovea predict, 28,000 rows of a CSV": [*predict, str(table), "--submission", f"{folder}/submission.csv"],
        }
        times = in_turns(commands, repeats)
        many = Path(folder) / "many.csv"
        header, _, rows = table.read_bytes().partition(b"\n")
        many.write_bytes(header + b"\n" + rows * 4)
        memory = {
            "28,000 rows": peak_of([*predict, str(table), "--output", f"{folder}/few.csv"]),
            "112,000 rows": peak_of([*predict, str(many), "--output", f"{folder}/many-answers.csv"]),
        }
    return {"seconds": times, "peak_bytes": memory, "report_bytes": (cifar / "report.html").stat().st_size}


def peak_of(command: list[str]) -> int:
    """The peak memory of one process, in bytes; asked for in a process of its own, which has no other children."""
    code = (
        "import resource, subprocess, sys\n"
        "subprocess.run(sys.argv[1:], check=True, capture_output=True)\n"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024)"
    )
    done = subprocess.run([sys.executable, "-c", code, *command], check=True, capture_output=True, text=True)
    return int(done.stdout)


def measure_guard(name: str) -> dict[str, Any]:
    """How many batches of test images are told: as they are, class by class, inverted, dim, on paper."""
    parts = read_raw(name).parts
    train, test = (check_images(parts[part].images, name) for part in ("train", "test"))
    labels, test_labels = (np.ravel(np.asarray(parts[part].labels)).astype(np.int64) for part in ("train", "test"))
    profile = fit_profile(train, labels, 10, (train.shape[1:3],))
    test = np.asarray(test)
    variants = {
        "as they are": test,
        "class by class": test[np.argsort(test_labels, kind="stable")],
        "inverted": 255 - test,
        "at 75 % of their brightness": (test * 0.75).astype(np.uint8),
        "at 50 % of their brightness": (test * 0.5).astype(np.uint8),
    }
    if name == "mnist":
        rng = np.random.default_rng(0)
        variants[PAPER] = fit_sizes([on_paper(image[..., 0], rng) for image in test], (28, 28))
    found: dict[str, Any] = {}
    for variant, images in variants.items():
        for size in BATCHES:
            batches = [images[start : start + size] for start in range(0, len(images), size)]
            found.setdefault(variant, {})[size] = {
                "warned": sum(bool(compare(profile, batch).outside) for batch in batches),
                "batches": len(batches),
            }
    return found


def on_paper(image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """A digit as a camera has it: dark on uneven bright paper with noise, larger, somewhere, in another format."""
    side = int(28 * rng.uniform(1.5, 3))
    ink = np.asarray(Image.fromarray(image).resize((side, side), Image.Resampling.BILINEAR), np.float32) / 255
    height, width = 100, 140
    shape = np.zeros((height, width), np.float32)
    top, left = rng.integers(0, height - side + 1), rng.integers(0, width - side + 1)
    shape[top : top + side, left : left + side] = ink
    light = 215 + 30 * (np.arange(width) / width - 0.5)[None]
    paper = light + rng.normal(0, 5, (height, width))
    return (paper + (40 - paper) * shape).clip(0, 255).astype(np.uint8)[..., None]


def measure_adapt(mnist: Path) -> dict[str, Any]:
    """Accuracy on MNIST's test images as they are, inverted, and photographed, without and with --adapt."""
    predictor = load_model(mnist)
    test = read_raw("mnist").parts["test"]
    images, labels = np.asarray(test.images), np.asarray(test.labels).astype(np.int64)
    rng = np.random.default_rng(0)
    variants: dict[str, Any] = {
        "as they are": images[..., None],
        "inverted": 255 - images[..., None],
        PAPER: [on_paper(image, rng) for image in images],
    }
    return {
        name: {str(adapt): score_of(predictor, pixels, labels, adapt) for adapt in (False, True)}
        for name, pixels in variants.items()
    }


def score_of(predictor: Predictor, pixels: Any, labels: NDArray[np.int64], adapt: bool) -> dict[str, Any]:
    sizes = np.array([image.shape[:2] for image in pixels], np.int64)
    batches = [
        NewImages(pixels[start : start + 1000], np.arange(start, start + 1000), sizes[start : start + 1000])
        for start in range(0, len(labels), 1000)
    ]
    logits = np.concatenate([answer.predictions.logits for answer in predictor.answers(batches, adapt)])
    return accuracy(Predictions(logits, labels, np.arange(len(labels)), predictor.classes)).as_json()


def page(results: dict[str, Any]) -> str:
    """The tables of benchmarks/outcome.md."""
    machine, times = results["machine"], results["times"]
    lines = [
        "# What a run leaves in your hands",
        "",
        "`python benchmarks/outcome.py` writes this page. Times are of fresh processes, imports included, taken in "
        f"turns, {results['repeats']} each. {machine['processor']}, {machine['cores']} cores, torch "
        f"{machine['torch']}, {machine['time'][:10]}.",
        "",
        "| | seconds, median (range) |",
        "|---|---|",
    ]
    for name, found in times["seconds"].items():
        lines.append(f"| {name} | {found['median']:.2f} ({found['least']:.2f} to {found['most']:.2f}) |")
    memory = ", ".join(f"{value / 1e6:,.0f} MB for {name}" for name, value in times["peak_bytes"].items())
    lines += [
        "",
        f"The page of the CIFAR-10 run has {times['report_bytes'] / 1e6:.2f} MB. Peak memory of predictions: {memory}.",
        "",
        "## The input guard on test images: batches warned about",
        "",
        "| data | images | " + " | ".join(f"batches of {size:,}" for size in BATCHES) + " |",
        "|---|---|" + "---|" * len(BATCHES),
    ]
    for name, variants in results["guard"].items():
        for variant, sizes in variants.items():
            cells = [f"{found['warned']:,} of {found['batches']:,}" for found in sizes.values()]
            lines.append(f"| {name} | {variant} | {' | '.join(cells)} |")
    lines += [
        "",
        "## Adapted images: accuracy on MNIST's 10,000 test images, one model",
        "",
        "| images | without --adapt | with --adapt |",
        "|---|---|---|",
    ]
    for name, scores in results["adapt"].items():
        cells = [f"{s['value']:.2%} [{s['low']:.2%}, {s['high']:.2%}]" for s in scores.values()]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--mnist", type=Path, required=True, help="a run on MNIST")
    parser.add_argument("--cifar", type=Path, required=True, help="a run on CIFAR-10; its report is written again")
    parser.add_argument("--repeats", type=int, default=5)
    given = parser.parse_args()
    data = given.data.resolve()
    os.environ["FOVEA_DATA"] = str(data)
    results = {
        "machine": describe_machine(),
        "repeats": given.repeats,
        "times": measure_times(data, given.mnist.resolve(), given.cifar.resolve(), given.repeats),
        "guard": {name: measure_guard(name) for name in ("mnist", "fashion-mnist", "cifar10")},
        "adapt": measure_adapt(given.mnist),
    }
    (HERE / "results" / "outcome.json").write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    (HERE / "outcome.md").write_text(page(results), encoding="utf-8")
    print(page(results))


if __name__ == "__main__":
    main()

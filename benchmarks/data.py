"""How fast data is read, side by side with what people use: pandas, Keras, and torchvision's way with Pillow.

    python benchmarks/data.py DATA [--peers PYTHON] [--repeats N]

DATA holds mnist/, cifar-10-batches-bin/, cifar-10-batches-py/ and digit-recognizer/train.csv. The peers run in the
interpreter PYTHON, which has pandas, keras, tensorflow and Pillow; without it only Fovea and the plain loops are
measured. Each load is a fresh process, imports not counted; contenders take turns, so that a slow moment of the
machine meets all of them. torchvision itself needs no CPU-only torch from an index, so its loaders are written out
here as they are in its source. Results go to benchmarks/results/data.json, the table to benchmarks/data.md.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from machine import describe_machine

HERE = Path(__file__).resolve().parent

# What each contender runs: PATH is the data; it leaves the images in `x` and the labels in `y`.
FOVEA = """
from fovea.data.load import read_raw
def load():
    raw = read_raw(PATH)
    return [part.images for part in raw.parts.values()], [part.labels for part in raw.parts.values()]
"""
PANDAS = """
import pandas as pd
def load():
    table = pd.read_csv(PATH)
    return [table.drop(columns="label").to_numpy("uint8").reshape(-1, 28, 28)], [table["label"].to_numpy()]
"""
KERAS_CIFAR = """
import os; os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import numpy as np
from keras.src.datasets.cifar import load_batch
def load():  # as keras.datasets.cifar10.load_data does once the files are there
    x = np.empty((50000, 3, 32, 32), "uint8"); y = np.empty((50000,), "uint8")
    for i in range(1, 6):
        x[(i - 1) * 10000 : i * 10000], y[(i - 1) * 10000 : i * 10000] = load_batch(f"{PATH}/data_batch_{i}")
    xt, yt = load_batch(f"{PATH}/test_batch")
    return [np.ascontiguousarray(x.transpose(0, 2, 3, 1)), np.ascontiguousarray(xt.transpose(0, 2, 3, 1))], [y, yt]
"""
PICKLE_CIFAR = """
import pickle, numpy as np
def load():  # as torchvision.datasets.CIFAR10 does, without its md5
    parts, labels = [], []
    for names in ([f"data_batch_{i}" for i in range(1, 6)], ["test_batch"]):
        data, targets = [], []
        for name in names:
            with open(f"{PATH}/{name}", "rb") as file:
                entry = pickle.load(file, encoding="latin1")
            data.append(entry.get("data", entry.get(b"data")))
            targets.extend(entry.get("labels", entry.get(b"labels")))
        parts.append(np.ascontiguousarray(np.vstack(data).reshape(-1, 3, 32, 32).transpose((0, 2, 3, 1))))
        labels.append(np.array(targets))
    return parts, labels
"""
NUMPY_CIFAR = """
import numpy as np
def load():
    parts, labels = [], []
    for names in ([f"data_batch_{i}" for i in range(1, 6)], ["test_batch"]):
        rows = np.concatenate([np.fromfile(f"{PATH}/{name}.bin", "uint8").reshape(-1, 3073) for name in names])
        parts.append(np.ascontiguousarray(rows[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)))
        labels.append(rows[:, 0])
    return parts, labels
"""
GZIP_IDX = """
import gzip, numpy as np
def load():
    x, y = [], []
    for part in ("train", "t10k"):
        with gzip.open(f"{PATH}/{part}-images-idx3-ubyte.gz") as file:
            x.append(np.frombuffer(file.read(), "uint8", offset=16).reshape(-1, 28, 28))
        with gzip.open(f"{PATH}/{part}-labels-idx1-ubyte.gz") as file:
            y.append(np.frombuffer(file.read(), "uint8", offset=8))
    return x, y
"""
PILLOW_FOLDER = """
import os, numpy as np
from PIL import Image
def load():  # as torchvision.datasets.ImageFolder does, into one array
    x, y = [], []
    for number, name in enumerate(sorted(os.listdir(PATH))):
        for file in sorted(os.listdir(f"{PATH}/{name}")):
            with open(f"{PATH}/{name}/{file}", "rb") as opened:
                x.append(np.asarray(Image.open(opened).convert("RGB")))
            y.append(number)
    return [np.stack(x)], [np.array(y)]
"""
KERAS_FOLDER = """
import os; os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import keras, numpy as np
def load():
    found = keras.utils.image_dataset_from_directory(
        PATH, color_mode="grayscale", image_size=(28, 28), batch_size=1000, shuffle=False, verbose=False)
    batches = [(x.numpy().astype("uint8"), y.numpy()) for x, y in found]
    return [np.concatenate([x for x, _ in batches])], [np.concatenate([y for _, y in batches])]
"""
MEASURE = """
import json, resource, sys, time, hashlib
import numpy as np
PATH = sys.argv[1]
{load}
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
start = time.perf_counter()
x, y = load()
seconds = time.perf_counter() - start
peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
decoded = sum(int(np.prod(part.shape)) for part in x)
checksum = int(sum(int(np.asarray(part[:1000], "int64").sum()) for part in x))
print(json.dumps({{"seconds": seconds, "peak_bytes": peak, "decoded_bytes": decoded, "checksum": checksum}}))
"""


def run(python: str, load: str, path: Path, cache: Path) -> dict[str, Any]:
    command = [python, "-c", MEASURE.format(load=load), str(path)]
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(Path.home()), "XDG_CACHE_HOME": str(cache)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode != 0:
        raise SystemExit(done.stderr)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def write_folder(data: Path, folder: Path) -> None:
    """The 60,000 training images of MNIST as PNG files, one folder a class."""
    from PIL import Image

    from fovea.data.load import read_raw

    part = read_raw(data / "mnist").parts["train"]
    for row, (image, label) in enumerate(zip(part.images, part.labels, strict=True)):  # type: ignore[arg-type]
        path = folder / str(label) / f"{row:05d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)


def measure(contenders: dict[str, tuple[str, str]], path: Path, repeats: int, cold: bool = False) -> dict[str, Any]:
    """Contender -> its figures; with `cold` Fovea's cache is emptied before each of its runs."""
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in contenders}
    with tempfile.TemporaryDirectory() as cache:
        if not cold:
            run(*contenders["fovea"], path, Path(cache))
        for _ in range(repeats):
            for name, (python, load) in contenders.items():
                if cold and name == "fovea":
                    shutil.rmtree(cache)
                    Path(cache).mkdir()
                runs[name].append(run(python, load, path, Path(cache)))
                print(path.name, name, f"{runs[name][-1]['seconds']:.2f} s", flush=True)
    return {name: _summary(found, runs["fovea"]) for name, found in runs.items()}


def _summary(found: list[dict[str, Any]], fovea: list[dict[str, Any]]) -> dict[str, Any]:
    seconds = [one["seconds"] for one in found]
    ratios = [one["seconds"] / ours["seconds"] for one, ours in zip(found, fovea, strict=True)]
    return {
        "seconds": {
            "median": statistics.median(seconds),
            "low": min(seconds),
            "high": max(seconds),
            "count": len(found),
        },
        "ratio_to_fovea": {"median": statistics.median(ratios), "low": min(ratios), "high": max(ratios)},
        "peak_over_decoded": max(one["peak_bytes"] / one["decoded_bytes"] for one in found),
        "decoded_bytes": found[0]["decoded_bytes"],
        "checksum": found[0]["checksum"],
    }


def table(results: dict[str, Any]) -> str:
    lines = [
        "| data | read by | seconds, median (range) | times Fovea's, median (range) | peak memory / decoded size |",
        "|---|---|---|---|---|",
    ]
    for case, contenders in results["cases"].items():
        for name, found in contenders.items():
            time, ratio = found["seconds"], found["ratio_to_fovea"]
            against = "" if name == "fovea" else f"{ratio['median']:.2f} ({ratio['low']:.2f} to {ratio['high']:.2f})"
            lines.append(
                f"| {case} | {name} | {time['median']:.2f} ({time['low']:.2f} to {time['high']:.2f}) | {against} "
                f"| {found['peak_over_decoded']:.2f} |"
            )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--peers", help="an interpreter with pandas, keras and tensorflow")
    parser.add_argument("--repeats", type=int, default=5)
    given = parser.parse_args()
    data, here, peers = given.data.resolve(), sys.executable, given.peers

    def against(path: Path, plain: dict[str, str], foreign: dict[str, str], cold: bool = False) -> dict[str, Any]:
        contenders = {"fovea": (here, FOVEA)} | {name: (here, load) for name, load in plain.items()}
        contenders |= {name: (peers, load) for name, load in foreign.items() if peers}
        return measure(contenders, path, given.repeats, cold)

    cases = {
        "Kaggle's train.csv, 42,000 x 785": against(data / "digit-recognizer" / "train.csv", {}, {"pandas": PANDAS}),
        "CIFAR-10, python batches": against(
            data / "cifar-10-batches-py", {"torchvision's way": PICKLE_CIFAR}, {"Keras": KERAS_CIFAR}
        ),
        "CIFAR-10, binary batches": against(data / "cifar-10-batches-bin", {"plain NumPy": NUMPY_CIFAR}, {}),
        "MNIST, gzipped IDX": against(data / "mnist", {"torchvision's way": GZIP_IDX}, {}),
    }
    with tempfile.TemporaryDirectory() as folder:
        write_folder(data, Path(folder))
        cases["60,000 PNG files, first time"] = against(
            Path(folder), {"torchvision's way": PILLOW_FOLDER}, {"Keras": KERAS_FOLDER}, cold=True
        )
        cases["60,000 PNG files, second time"] = against(Path(folder), {}, {})
    machine = describe_machine()
    results = {"machine": machine, "cases": cases}
    (HERE / "results" / "data.json").write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    text = (
        "# Reading data\n\n`python benchmarks/data.py` writes this page: each load in a fresh process, imports not "
        "counted, contenders taking turns; a ratio over 1 means that the other takes longer. Peak memory is what the "
        f"process grew by while it read. {machine['processor']}, {machine['cores']} cores, Python {machine['python']}, "
        f"{machine['time'][:10]}.\n\n{table(results)}\n"
    )
    (HERE / "data.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()

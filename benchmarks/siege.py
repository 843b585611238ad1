"""Kill runs at random moments, go on with them, and compare every byte with an uninterrupted run.

    python benchmarks/siege.py           everything: 300 SIGKILLs (about a quarter of an hour)
    python benchmarks/siege.py --short   a few of each, and nothing is written (about three minutes)

Four parts: SIGKILLs at random moments, in processes forked from one that has imported everything and, one in thirty,
in cold ones; a stop at every batch of five-batch epochs, once and twice in a row; damaged state files; and the time
that saving takes of the default MNIST run (where FOVEA_DATA has MNIST). Exit code 1 where a run was lost or a byte
differs.
Results go to benchmarks/results/siege.json, the table to docs/exactness.md.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from machine import describe_machine

HERE = Path(__file__).resolve().parent
PAGE = HERE.parent / "docs" / "exactness.md"
RESULTS = HERE / "results" / "siege.json"
SAME = ("best.safetensors", "metrics.csv", "predictions-test.npz", "split.json", "preprocess.json")
SMALL = ["digits", "--epochs", "4", "-b", "128", "--set", "save_seconds=0.03", "--set", "report=false"]
DROPOUT = "layers=[conv 16 3x3 same relu, batchnorm, maxpool 2, dropout .3, flatten, dense classes]"


def sets(*assignments: str) -> list[str]:
    return [word for assignment in assignments for word in ("--set", assignment)]


KINDS: dict[str, list[str]] = {
    "Muon, batch norm, augmentation": [],
    "dropout, batch norm, Adam, cosine": sets(DROPOUT, "optimizer=adam"),
    "moving average, SGD, clipping": sets("optimizer=sgd", "ema_decay=0.9", "clip_norm=1"),
    "plateau, RMSprop, dropout": sets(
        DROPOUT, "optimizer=rmsprop", "schedule=plateau", "plateau_patience=0", "plateau_min_delta=1"
    ),
    "early stopping, AdamW": sets("optimizer=adamw", "patience=1", "min_delta=0.5", "epochs=9"),
    "one cycle, label smoothing, float32": sets(
        DROPOUT, "optimizer=adam", "schedule=onecycle", "label_smoothing=0.1", "precision=fp32"
    ),
    "all at once: Muon, moving average, plateau, early stopping, dropout, augmentation": sets(
        DROPOUT, "optimizer=muon", "ema_decay=0.9", "schedule=plateau", "plateau_patience=0", "patience=2", "epochs=5"
    ),
    "one thread, Muon, augmentation": sets("threads=1"),
    "two seeds in one study": ["--seeds", "2", *sets("epochs=2")],
}


def child(arguments: list[str], folder: str, fault: str) -> None:
    """What runs in a forked process: the shell face, its output in a file."""
    os.chdir(folder)
    with open("output.txt", "a") as out:  # noqa: PTH123
        os.dup2(out.fileno(), 1)
        os.dup2(out.fileno(), 2)
    os.environ["FOVEA_FAULT"] = fault
    sys.argv = ["fovea", *arguments]
    from fovea.cli import main

    main()


class Warm:
    """Processes forked from a server that has imported everything, so that most of their life is training."""

    def __init__(self) -> None:
        self.context = multiprocessing.get_context("forkserver")
        late = ["torch._dynamo", "sklearn.datasets", "sklearn.model_selection", "sklearn.metrics", "scipy.stats"]
        drawing = ["scipy.ndimage", "matplotlib.figure", "matplotlib.backends.backend_agg"]
        self.context.set_forkserver_preload(["fovea.api", "fovea.cli", *late, *drawing])

    def run(self, arguments: list[str], folder: Path, kill_after: float | None = None, fault: str = "") -> int:
        """Start, kill after so many seconds (None: let it end): the exit status, negative for a signal."""
        process = self.context.Process(target=child, args=(arguments, str(folder), fault))
        process.start()
        process.join(kill_after)
        if process.exitcode is None:
            process.kill()
        process.join()
        assert process.exitcode is not None
        return process.exitcode


class Cold:
    """Fresh interpreters: `python -m fovea`, as a user starts it."""

    def run(self, arguments: list[str], folder: Path, kill_after: float | None = None, fault: str = "") -> int:
        environment = {**os.environ, "FOVEA_FAULT": fault}
        with (folder / "output.txt").open("a") as out:
            command = [sys.executable, "-m", "fovea", *arguments]
            process = subprocess.Popen(command, cwd=folder, stdout=out, stderr=out, env=environment)
            try:
                return process.wait(kill_after)
            except subprocess.TimeoutExpired:
                process.kill()
                return process.wait()


def contents(run: Path) -> dict[str, bytes]:
    """Everything that must be the same to the byte, of a run or of a study."""
    found = [path for name in SAME for path in run.rglob(name)]
    found += [path for path in run.rglob("last/**/*") if path.is_file()]
    return {path.relative_to(run).as_posix(): path.read_bytes() for path in found}


def differing(run: Path, whole: dict[str, bytes]) -> list[str]:
    here = contents(run)
    return sorted(name for name in {*here, *whole} if here.get(name) != whole.get(name))


@dataclass
class Tally:
    """What happened to the runs of one kind."""

    kills: int = 0
    runs: int = 0
    lost: int = 0  # runs that could not be carried to their end
    differing: int = 0  # runs with a byte that is not as in an uninterrupted run
    half_written: int = 0  # kills that left a half-written file behind
    at: Counter[str] = field(default_factory=Counter)  # where in a run's life the kills fell
    failures: list[str] = field(default_factory=list)


def where(run: Path) -> str:
    """How far a killed run had come."""
    folders = [run, *run.glob("seed-*")]
    if not (run / "config.yaml").exists():
        return "before the first step"
    if any((folder / "predictions-val.npz").exists() for folder in folders):
        return "in evaluation"
    if not any((folder / "last").exists() and any((folder / "last").glob("epoch-*")) for folder in folders):
        return "before the first state"
    return "in training"


def besiege(
    kind: list[str], processes: Warm | Cold, num_kills: int, rng: random.Random, folder: Path, kills_a_run: int = 8
) -> Tally:
    """Kill runs of one kind until `num_kills` have fallen; carry each run to its end and compare it."""
    tally = Tally()
    arguments = ["train", *SMALL, *kind, "--name", "run"]
    whole, seconds = uninterrupted(arguments, processes, folder)
    while tally.kills < num_kills:
        tally.runs += 1
        place = folder / f"run-{tally.runs}"
        place.mkdir()
        run, status = place / "runs" / "run", -signal.SIGKILL
        left = min(kills_a_run, num_kills - tally.kills)
        while status == -signal.SIGKILL:
            has_begun = (run / "config.yaml").exists()
            if not has_begun and run.exists():
                shutil.rmtree(run)  # killed before there was anything to go on with
            # Drawing the figures takes the last part of a run this small: most kills are to fall before it.
            moment = rng.uniform(0, 0.8 * seconds) if left > 0 else None
            command = ["train", "--resume", "runs/run"] if has_begun else arguments
            start = time.monotonic()
            status = processes.run(command, place, moment)
            if status == 0 and not has_begun:  # a slow moment of the machine may have stretched the reference
                seconds = min(seconds, time.monotonic() - start)
            if status == -signal.SIGKILL:
                left, tally.kills = left - 1, tally.kills + 1
                tally.half_written += any(run.rglob(".*.partial"))
                tally.at[where(run)] += 1
        problem = f"exit status {status}" if status else ", ".join(differing(run, whole))
        tally.lost, tally.differing = tally.lost + bool(status), tally.differing + bool(problem and not status)
        if problem:
            tally.failures.append(f"{' '.join(kind)}: {problem}\n{(place / 'output.txt').read_text()[-3000:]}")
        else:
            shutil.rmtree(place)
    return tally


def uninterrupted(arguments: list[str], processes: Warm | Cold, folder: Path) -> tuple[dict[str, bytes], float]:
    """The bytes of an undisturbed run, and how long it takes (the shorter of two, which warm caches have)."""
    seconds = math.inf
    for attempt in ("first", "whole"):
        place = folder / attempt
        place.mkdir()
        start = time.monotonic()
        status = processes.run(arguments, place)
        seconds = min(seconds, time.monotonic() - start)
        if status:
            raise SystemExit(f"the uninterrupted run failed:\n{(place / 'output.txt').read_text()}")
    whole = contents(folder / "whole" / "runs" / "run")
    if differing(folder / "first" / "runs" / "run", whole):
        raise SystemExit("two uninterrupted runs differ: there is nothing to compare with")
    return whole, seconds


def every_batch(warm: Warm, folder: Path, kinds: dict[str, list[str]]) -> Tally:
    """Stop after every batch of two five-batch epochs by SIGTERM, once, and again one batch later; then go on."""
    tally = Tally()
    for number, (name, kind) in enumerate(kinds.items()):
        if "--seeds" in kind:
            continue
        place = folder / f"kind-{number}"
        place.mkdir()
        # The last --set of a name counts: two epochs of five batches, whatever the kind says.
        arguments = ["train", *SMALL, *kind, *sets("epochs=2", "batch_size=259", "patience=9", "save_seconds=60")]
        arguments += ["--name", "run"]
        whole, _ = uninterrupted(arguments, warm, place)
        for again in (False, True):
            for step in range(1, 11):
                here = place / f"step-{step}-{again}"
                here.mkdir()
                run, resume = here / "runs" / "run", ["train", "--resume", "runs/run"]
                statuses = [warm.run(arguments, here, fault=f"SIGTERM@step#{step}")]
                if again and step < 10:
                    statuses.append(warm.run(resume, here, fault="SIGTERM@step#1"))
                stopped = len(statuses)
                statuses.append(warm.run(resume, here))
                tally.runs, tally.kills = tally.runs + 1, tally.kills + stopped
                problem = ", ".join(differing(run, whole))
                if statuses != [143] * stopped + [0] or problem:
                    tally.failures.append(f"{name}, stopped after step {step}: {statuses} {problem}")
                shutil.rmtree(here)
    return tally


def damage(warm: Warm, folder: Path, rng: random.Random) -> Tally:
    """Truncate each file of the newest state at each 1 %, flip a bit at 200 places: never is it taken for whole."""
    from fovea.training.checkpoint import newest_checkpoint

    tally = Tally()
    arguments = ["train", *SMALL, "--name", "run"]
    whole, _ = uninterrupted(arguments, warm, folder)
    place = folder / "damaged"
    place.mkdir()
    warm.run(arguments, place, fault="SIGTERM@predicted")  # trained, not finished
    run = place / "runs" / "run"
    older, newest = sorted((run / "last").glob("epoch-*"))
    older_step = json.loads((older / "state.json").read_bytes())["step"]
    for file in sorted(newest.iterdir()):
        good = file.read_bytes()
        spoilt = [("truncated", good[: len(good) * percent // 100]) for percent in range(100)]
        for offset in rng.sample(range(len(good)), min(200, len(good))):
            flipped = bytes([good[offset] ^ (1 << rng.randrange(8))])
            spoilt.append(("flipped", good[:offset] + flipped + good[offset + 1 :]))
        for what, content in spoilt:
            file.write_bytes(content)
            found = newest_checkpoint(run / "last")
            tally.kills += 1
            tally.at[what] += 1
            if found.checkpoint is None or found.checkpoint.step != older_step or len(found.skipped) != 1:
                tally.failures.append(f"{file.name} {what} to {len(content)} bytes was taken for whole")
        for what, content in rng.sample(spoilt, 4):  # and all the way: the run goes on from the older state
            file.write_bytes(content)
            copy = folder / "copy"
            shutil.copytree(place, copy)
            status = warm.run(["train", "--resume", "runs/run"], copy)
            tally.runs += 1
            problem = ", ".join(differing(copy / "runs" / "run", whole))
            if status or problem or "skipped" not in (copy / "output.txt").read_text():
                tally.failures.append(f"{file.name} {what}, gone on with: {status} {problem}")
            shutil.rmtree(copy)
        file.write_bytes(good)
    return tally


def cost(data: str, num_repeats: int) -> dict[str, Any]:
    """Which share of training goes into saving, in runs of `data` by the general defaults, each in a fresh process."""
    script = (
        "import json, sys, time, fovea\n"
        "from fovea.training import records\n"
        "spent, save = [], records.Saver.save\n"
        "def timed(self, state):\n"
        "    start = time.perf_counter(); save(self, state); spent.append(time.perf_counter() - start)\n"
        "records.Saver.save = timed\n"
        "run = fovea.train(sys.argv[1], model='small', verbose=False)\n"
        "size = sum(path.stat().st_size for path in (run.path / 'last').rglob('*') if path.is_file()) / 2\n"
        "print(json.dumps([sum(spent), len(spent), size, run.result['train_seconds']]))\n"
    )
    found = []
    for _ in range(num_repeats):
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, "-c", script, data]
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
        found.append(json.loads(done.stdout.splitlines()[-1]))
    shares = [spent / seconds for spent, _, _, seconds in found]
    return {
        "data": data,
        "shares": shares,
        "median_share": statistics.median(shares),
        "saves": found[0][1],
        "bytes_a_state": found[0][2],
        "milliseconds_a_save": statistics.median(1000 * spent / count for spent, count, _, _ in found),
        "train_seconds": [seconds for *_, seconds in found],
    }


def as_json(tally: Tally) -> dict[str, Any]:
    return {**tally.__dict__, "at": dict(tally.at)}


def table(results: dict[str, Any]) -> str:
    facts = results["machine"]
    rows = [(name, found) for name, found in results["kills"].items()]
    lines = ["| besieged runs | SIGKILLs | runs | lost | with differing bytes |", "|---|---|---|---|---|"]
    for name, found in rows:
        lines.append(f"| {name} | {found['kills']} | {found['runs']} | {found['lost']} | {found['differing']} |")
    kills, runs, lost, wrong = (sum(f[key] for _, f in rows) for key in ("kills", "runs", "lost", "differing"))
    at: Counter[str] = sum((Counter(found["at"]) for _, found in rows), Counter())
    half = sum(found["half_written"] for _, found in rows)
    lines.append(f"| **together** | **{kills}** | **{runs}** | **{lost}** | **{wrong}** |")
    lines += ["", f"The kills fell {', '.join(f'{count} times {place}' for place, count in at.most_common())}; "]
    lines[-1] += f"{half} of them left a half-written file behind."
    stops, spoilt = results["every_batch"], results["damage"]
    lines += ["", "| other sieges | tried | failed |", "|---|---|---|"]
    lines.append(
        f"| stopped by SIGTERM after each batch of two five-batch epochs, once and twice in a row, in {stops['runs']} "
        f"runs | {stops['kills']} stops | {len(stops['failures'])} |"
    )
    lines.append(
        f"| a file of the newest state truncated at each 1 % ({spoilt['at'].get('truncated', 0)}) or with one bit "
        f"flipped ({spoilt['at'].get('flipped', 0)}) | {spoilt['kills']} files | {len(spoilt['failures'])} |"
    )
    for found in results["cost"]:
        each = ", ".join(f"{share:.2%}" for share in found["shares"])
        shares = f" ({each})" if len(found["shares"]) > 1 else ""
        command = f"fovea train {found['data']} --model small"
        lines += ["", f"Saving takes {found['median_share']:.2%} of the training of `{command}`{shares}: "]
        lines[-1] += (
            f"{found['saves']} states of {found['bytes_a_state'] / 1e6:.2f} MB, "
            f"{found['milliseconds_a_save']:.0f} ms each."
        )
    lines += ["", f"{facts['time'][:10]}, {facts['processor']}, {facts['cores']} cores, torch {facts['torch']}, "]
    lines[-1] += f"Python {facts['python']}, {facts['system']}."
    return "\n".join(lines)


def write_page(results: dict[str, Any]) -> None:
    """Keep the results, and fill the marked place of docs/exactness.md."""
    from pages import replace_block

    RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    text = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(replace_block(text, "siege", table(results)), encoding="utf-8")


def siege(num_kills: int, num_kinds: int, seed: int) -> dict[str, Any]:
    """All parts but the cost; `num_kinds` of the kinds are stopped at every batch."""
    rng, warm = random.Random(seed), Warm()
    results: dict[str, Any] = {"machine": describe_machine(), "seed": seed, "kills": {}}

    def part(name: str, job: Callable[[Path], Tally]) -> dict[str, Any]:
        with tempfile.TemporaryDirectory() as folder:
            start = time.monotonic()
            tally = job(Path(folder))
        seconds = time.monotonic() - start
        failed = len(tally.failures)
        print(f"{name}: {tally.kills} in {tally.runs} runs, {failed} failed, {seconds:.0f} s", flush=True)
        for failure in tally.failures:
            print(failure, flush=True)
        return as_json(tally)

    num_cold = num_kills // 30
    shares = [len(block) for block in (range(num_kills - num_cold)[k :: len(KINDS)] for k in range(len(KINDS)))]
    for (name, kind), share in zip(KINDS.items(), shares, strict=True):
        if share:
            job = lambda folder, kind=kind, share=share: besiege(kind, warm, share, rng, folder)  # noqa: E731
            results["kills"][name] = part(name, job)
    if num_cold:
        kind = next(iter(KINDS.values()))
        results["kills"]["the first again, in cold processes"] = part(
            "cold processes", lambda folder: besiege(kind, Cold(), num_cold, rng, folder)
        )
    results["every_batch"] = part(
        "every batch", lambda folder: every_batch(warm, folder, dict(list(KINDS.items())[:num_kinds]))
    )
    results["damage"] = part("damage", lambda folder: damage(warm, folder, rng))
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="a few of each; write nothing")
    parser.add_argument("--seed", type=int, default=0, help="of the random moments")
    options = parser.parse_args()
    results = siege(30 if options.short else 300, 2 if options.short else 4, options.seed)
    results["cost"] = []
    if not options.short:
        write_page(results)  # what was besieged stands, whatever becomes of the rest
        repeats = {"digits": 1, **({"mnist": 1} if os.environ.get("FOVEA_DATA") else {})}
        results["cost"] = [cost(data, count) for data, count in repeats.items()]
        write_page(results)
        print(table(results))
    parts = [*results["kills"].values(), results["every_batch"], results["damage"]]
    sys.exit(1 if any(found["failures"] for found in parts) else 0)


if __name__ == "__main__":
    main()

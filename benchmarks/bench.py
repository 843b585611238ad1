"""Fovea and its peers side by side, in one run: images a second, memory, and how Fovea's time grows.

    python benchmarks/bench.py                  everything (under 20 minutes on two cores)
    python benchmarks/bench.py --quick          3 rounds of few steps; prints only
    python benchmarks/bench.py --only p1        one or more workloads, or growth; prints only
    python benchmarks/bench.py --page           fill README.md again from what was measured

The peers' environment, benchmarks/.peers, is made and filled on the first call. Results go to
benchmarks/results/latest.json, the tables to benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import platform
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any

from fovea.files import write_json
from fovea.runfolder import now_utc, processor_name
from machine import available_cores
from measure import Measured, measure, ratios_of, workload_as_json
from pages import LATEST, fill_page, measured_text
from peers import Peers, find_peers
from workers import starter
from workloads import KERAS_TF_DEFAULT, WORKLOADS, YARDSTICK_STEPS, growth_groups, jobs_of

HERE = Path(__file__).resolve().parent
ROUNDS, TURN_SECONDS = 7, 1.5
GROWTH_ROUNDS, GROWTH_TURN_SECONDS = 3, 1.0
QUICK_ROUNDS, QUICK_TURN_SECONDS = 3, 0.7
FEATURES = ("amx_bf16", "avx512_bf16", "avx512f", "avx2")


def describe_hardware() -> dict[str, Any]:
    """Processor, the features that speed depends on, cores this process may use, memory in GB, load at the start."""
    flags: set[str] = set()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = [line for line in cpuinfo.read_text(encoding="utf-8").splitlines() if line.startswith("flags")]
        flags = set(lines[0].partition(":")[2].split()) if lines else set()
    memory = 0.0
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9
    return {
        "cpu": processor_name(),
        "features": [name for name in FEATURES if name in flags],
        "cores": available_cores(),
        "memory_gb": round(memory, 1),
        "load_average_at_start": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "platform": platform.platform(),
    }


def describe_versions(peers: Peers) -> dict[str, str | None]:
    """Python, Fovea with its commit, torch, and the peers."""
    return {
        "python": platform.python_version(),
        "fovea": metadata.version("fovea-vision"),
        "commit": commit(),
        "torch": metadata.version("torch"),
        **{name: peers.versions.get(name) for name in ("tensorflow-cpu", "keras", "jax")},
    }


def commit() -> str | None:
    """The commit that is checked out, with a + where files differ from it; None outside a clone."""
    asked = ["git", "-C", str(HERE.parent)]
    head = subprocess.run([*asked, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    if head.returncode != 0:
        return None
    changed = subprocess.run([*asked, "status", "--porcelain", "src"], capture_output=True, text=True, check=False)
    return head.stdout.strip() + ("+" if changed.stdout.strip() else "")


def source_digest() -> str:
    """sha256 (hex) of Fovea's modules: workers that start late must run what those before them ran."""
    digest = hashlib.sha256()
    for path in sorted((HERE.parent / "src").rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def yardstick_of(found: dict[str, Measured]) -> float | None:
    """Seconds of one epoch of P1's net under Keras on TensorFlow, float32."""
    entry = found[KERAS_TF_DEFAULT].as_json()
    if "not_measured" in entry:
        return None
    return round(YARDSTICK_STEPS * float(entry["milliseconds_per_step"]["median"]) / 1000, 2)


def measure_growth(peers: Peers, rounds: int, turn_seconds: float) -> list[dict[str, Any]]:
    """Fovea's default net by image side, channels and batch size; each case once."""
    cases: dict[str, dict[str, Any]] = {}
    for jobs in growth_groups():
        jobs = [job for job in jobs if job.name not in cases]
        found = measure(jobs, starter(peers), rounds, turn_seconds)
        for job in jobs:
            side, _, channels = job.workload.image_shape
            place = {"side": side, "channels": channels, "batch_size": job.workload.batch_size}
            cases[job.name] = {**place, **found[job.name].as_json()}
    return list(cases.values())


def run_all(wanted: list[str], peers: Peers, quick: bool, rounds: int) -> dict[str, Any]:
    """Measure what is wanted: the keys of results/latest.json."""
    source = source_digest()
    start, turn_seconds = time.monotonic(), QUICK_TURN_SECONDS if quick else TURN_SECONDS
    results: dict[str, Any] = {"hardware": describe_hardware(), "versions": describe_versions(peers)}
    results |= {"date": now_utc(), "quick": quick, "yardstick_seconds": None, "ratios": {}, "workloads": {}}
    for name in WORKLOADS:
        if name in wanted:
            found = measure(jobs_of(name), starter(peers), rounds, turn_seconds)
            results["workloads"][name] = workload_as_json(found)
            results["ratios"] |= ratios_of(name, found)
            if name == "p1":
                results["yardstick_seconds"] = yardstick_of(found)
            print(f"{name}: {time.monotonic() - start:.0f} s so far", flush=True)
    growth_seconds = QUICK_TURN_SECONDS / 2 if quick else GROWTH_TURN_SECONDS
    results["growth"] = measure_growth(peers, GROWTH_ROUNDS, growth_seconds) if "growth" in wanted else []
    results["source_changed"] = source_digest() != source
    results["minutes"] = round((time.monotonic() - start) / 60, 1)
    return results


def main() -> None:
    choices = [*WORKLOADS, "growth"]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="3 rounds of few steps; nothing is written")
    parser.add_argument("--only", nargs="+", choices=choices, help="some workloads; nothing is written")
    parser.add_argument("--rounds", type=int, help=f"how often each contender is asked ({ROUNDS})")
    parser.add_argument("--no-peers", action="store_true", help="leave out what runs in the peers' environment")
    parser.add_argument("--torch-index", default="", help="an index of CPU builds of torch, for the peers' pip")
    parser.add_argument("--page", action="store_true", help="fill README.md again and measure nothing")
    given = parser.parse_args()
    if given.page:
        fill_page()
        return
    peers = Peers(None, "left out") if given.no_peers else find_peers(torch_index=given.torch_index)
    if peers.python is None:
        print(f"the peers are left out: {peers.reason}", file=sys.stderr)
    if hasattr(os, "getloadavg") and os.getloadavg()[0] > 0.5:
        print(f"load average {os.getloadavg()[0]:.1f}: the page will say how far others disturbed", file=sys.stderr)
    rounds = given.rounds or (QUICK_ROUNDS if given.quick else ROUNDS)
    results = run_all(given.only or choices, peers, given.quick, rounds)
    print(measured_text(results))
    if not (given.only or given.quick):
        write_json(LATEST, results)
        fill_page()


if __name__ == "__main__":
    main()

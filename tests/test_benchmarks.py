"""The benchmark's own arithmetic and words: no peer, no net, no clock."""

from __future__ import annotations

import importlib
import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).resolve().parents[1] / "benchmarks"
MODULES = (
    "bench",
    "chunks",
    "machine",
    "measure",
    "pages",
    "peers",
    "recipes",
    "workers",
    "workloads",
    "spine",
    "generator",
    "programs",
)


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The scripts import each other by their bare names, which must not stay for other tests."""
    if not FOLDER.exists():
        pytest.skip("benchmarks/ is not here: this is no clone")
    monkeypatch.syspath_prepend(str(FOLDER))
    yield
    for name in MODULES:
        sys.modules.pop(name, None)


class FakeWorker:
    """Answers with step times given in advance; a text in their place is a reason to fail."""

    def __init__(self, name: str, times: list[Any], log: list[str], parameters: int = 7) -> None:
        self.name, self.times, self.log = name, list(times), log
        self.ready = {"step_seconds": 0.1, "parameters": parameters}

    def ask(self, steps: int, lead_in: int) -> dict[str, Any]:
        self.log.append(self.name)
        time = self.times.pop(0)
        if isinstance(time, str):
            raise importlib.import_module("workers").NotMeasuredError(time)
        return {"seconds": time * steps, "others_fraction": 0.01, "peak_memory_mb": 100.0}

    def close(self) -> None:
        self.log.append(f"{self.name} closed")


def run(names_and_times: dict[str, Any], rounds: int = 3, parameters: dict[str, int] | None = None) -> Any:
    """Measure fake contenders of P1: (what was found, the order in which they were asked)."""
    measure, workers = importlib.import_module("measure"), importlib.import_module("workers")
    jobs = [job for job in importlib.import_module("workloads").jobs_of("p1") if job.name in names_and_times]
    log: list[str] = []

    def start(job: Any) -> FakeWorker:
        times = names_and_times[job.name]
        if isinstance(times, str):
            raise workers.NotMeasuredError(times)
        return FakeWorker(job.name, times, log, (parameters or {}).get(job.name, 7))

    return measure.measure(jobs, start, rounds, turn_seconds=1.0), log


def test_a_ratio_is_taken_within_each_round_and_a_median_over_them() -> None:
    found, _ = run({"fovea": [0.1, 0.2, 0.1], "keras-tf": [0.2, 0.6, 0.5], "keras-tf-bf16": [0.15, 0.2, 0.2]})
    ratios = importlib.import_module("measure").ratios_of("p1", found)
    default, best = ratios["p1_against_keras_tf_default"], ratios["p1_against_keras_tf_best"]
    # 2, 3, 5; not .5 / .1 from the medians of each. The best: 1.5, 1, 2.
    assert default == {"median": 3.0, "low": 2.0, "high": 5.0, "count": 3, "contender": "keras-tf"}
    assert best == {"median": 1.5, "low": 1.0, "high": 2.0, "count": 3, "contender": "keras-tf-bf16"}


def test_medians_and_rates_follow_from_the_step_times() -> None:
    found, _ = run({"fovea": [0.1, 0.2, 0.125]})
    entry = importlib.import_module("measure").workload_as_json(found)["fovea"]
    assert entry["images_per_second"] == {"median": 800.0, "low": 500.0, "high": 1000.0, "count": 3}
    assert entry["milliseconds_per_step"]["median"] == 125.0
    assert entry["peak_memory_mb"] == 100
    assert entry["others_fraction"] == 0.01


def test_the_order_is_reversed_each_round_and_every_worker_is_closed() -> None:
    _, log = run({"fovea": [0.1] * 3, "keras-tf": [0.1] * 3})
    assert log[:6] == ["fovea", "keras-tf", "keras-tf", "fovea", "fovea", "keras-tf"]
    assert log[6:] == ["fovea closed", "keras-tf closed"]


def test_missing_failing_and_foreign_peers_are_not_measured_and_say_why() -> None:
    measure, pages = importlib.import_module("measure"), importlib.import_module("pages")
    times = {"fovea": [0.1] * 3, "keras-tf": "no network", "keras-jax": [0.1, "out of memory"], "torch": [0.1] * 3}
    found, _ = run(times, parameters={"torch": 8})
    entries = measure.workload_as_json(found)
    table = pages.workload_table(entries)
    assert "| Keras on TensorFlow, default | not measured: no network |" in table
    assert "| Keras on JAX | not measured: out of memory |" in table
    assert "| plain PyTorch, DataLoader | not measured: another net: 8 parameters instead of 7 |" in table
    ratios = measure.ratios_of("p1", found)
    assert ratios["p1_against_keras_tf_best"] == {"not_measured": "no network"}
    assert "not measured: no network" in pages.ratio_table(ratios)
    assert importlib.import_module("bench").yardstick_of(found) is None


def test_turns_fit_the_images_and_slow_contenders_take_few() -> None:
    plan = importlib.import_module("measure").plan_turn
    fast = plan(0.02, 1.5, 0.3, 7, steps_at_hand=370)
    assert (fast.lead_in, fast.rounds) == (15, 7)
    assert fast.rounds * (fast.lead_in + fast.steps) <= 370
    slow = plan(6.0, 1.5, 0.3, 7, steps_at_hand=90)
    assert (slow.lead_in, slow.steps, slow.rounds) == (1, 1, 3)


def example(others: float) -> dict[str, Any]:
    found, _ = run({"fovea": [0.1, 0.2, 0.125], "keras-tf": [0.2, 0.6, 0.25]})
    measure = importlib.import_module("measure")
    entries = measure.workload_as_json(found)
    for entry in entries.values():
        entry["others_fraction"] = others
    growth = [{"side": 28, "channels": 1, "batch_size": 100, **entries["fovea"]}]
    growth.append({"side": 64, "channels": 3, "batch_size": 100, "not_measured": "out of memory"})
    return {
        "hardware": {"cpu": "A processor", "features": ["amx_bf16"], "cores": 2, "memory_gb": 8.0},
        "versions": {"torch": "2.13.0", "keras": None},
        "date": "2026-11-24T10:00:00Z",
        "minutes": 12.0,
        "yardstick_seconds": 94.5,
        "ratios": measure.ratios_of("p1", found),
        "workloads": {"p1": entries},
        "growth": growth,
    }


def test_the_page_is_filled_from_json() -> None:
    pages = importlib.import_module("pages")
    text = pages.measured_text(json.loads(json.dumps(example(0.02))))
    assert "| Fovea | 800 (500 to 1,000) | 125.0 |  | 100 MB | 3 |" in text
    assert "| P1's net, batches of 100 | Keras on TensorFlow, default | 2.00 (2.00 to 3.00) |" in text
    assert "A processor (amx_bf16), 2 cores, 8 GB, 2026-11-24; 12 minutes. torch 2.13.0." in text
    assert "| 28x28x1 | 100 | 1,250 (1,000 to 2,000) | 800 | 100 MB |" in text
    assert "| 64x64x3 | 100 | not measured: out of memory | | |" in text
    assert "94.5 s" in text
    assert "2% of the cores' time" in text
    assert "quiet machine" not in text


def test_a_busy_machine_is_told() -> None:
    assert "measure again on a quiet machine" in importlib.import_module("pages").measured_text(example(0.6))


def test_a_source_that_changed_on_the_way_is_told() -> None:
    text = importlib.import_module("pages").measured_text({**example(0.02), "source_changed": True})
    assert "source changed during the run" in text


def test_only_the_marked_place_of_a_page_changes() -> None:
    replace_block = importlib.import_module("pages").replace_block
    page = "a\n<!-- one -->\nold\n<!-- /one -->\nb\n<!-- two -->\n<!-- /two -->\n"
    assert replace_block(page, "one", "new\n") == page.replace("old", "new")
    with pytest.raises(ValueError, match="three"):
        replace_block(page, "three", "x")


def test_a_row_takes_the_place_of_its_seed(tmp_path: Path) -> None:
    recipes = importlib.import_module("recipes")
    path = tmp_path / "recipes" / "mnist-fast.json"
    for seed, accuracy in ((1, 0.99), (0, 0.98), (1, 0.995)):
        recipes.store_row(path, "mnist-fast", {"seed": seed, "test_accuracy": accuracy})
    found = json.loads(path.read_text(encoding="utf-8"))
    assert found["recipe"] == "mnist-fast"
    assert [(row["seed"], row["test_accuracy"]) for row in found["rows"]] == [(0, 0.98), (1, 0.995)]
    assert recipes.recipe_name("some/where/mnist.yaml", "fast") == "mnist-fast"


def test_time_to_accuracy_has_an_interval_and_yardsticks() -> None:
    pages = importlib.import_module("pages")
    row = {"peak_memory_mb": 900, "yardstick_seconds": 40.0, "cpu": "A processor", "date": "2026-11-24T10:00:00Z"}
    row |= {"tta": "none", "n_train": 58800}
    rows = [{**row, "seed": 0, "test_accuracy": 0.996, "seconds": 80.0}]
    rows.append({**row, "seed": 1, "test_accuracy": 0.997, "seconds": 90.0, "yardstick_seconds": 60.0})
    text = pages.recipes_text([{"recipe": "mnist-standard", "rows": rows}])
    # Student's t of one degree of freedom, 12.706, times .0007071 / sqrt(2): .635 points either side.
    assert (
        "| mnist-standard | 2 | 58,800 | none | 99.65% [99.01%, 100.00%] | 85 (80 to 90) s | 50 (40 to 60) s |" in text
    )
    assert "| 1.75 (1.50 to 2.00) | 900 MB |" in text
    rows[0]["yardstick_seconds"] = None
    assert "| 60 s | 1.50, of 1 seed |" in pages.recipe_line({"recipe": "mnist-standard", "rows": rows})
    rows[1]["yardstick_seconds"] = None
    assert "| not measured |" in pages.recipe_line({"recipe": "mnist-standard", "rows": rows})


def test_a_yardstick_is_over_both_sides_of_the_training() -> None:
    yardstick = importlib.import_module("recipes").yardstick
    told = yardstick([40.0, 42.0, 41.0], [50.0, 44.0, 43.0])
    assert told == {"yardstick_seconds": 42.5, "yardstick_before_and_after_seconds": [41.0, 44.0]}
    assert yardstick("not measured: no network", [1.0])["yardstick_note"] == "not measured: no network"


def test_a_package_counts_as_there_in_any_spelling_and_build() -> None:
    peers = importlib.import_module("peers")
    wanted = peers.pins("# a comment\ntensorflow-cpu==2.21.0\ntorch==2.13.0  # pinned\nscipy\njax==0.10.2\n")
    installed = {peers.normal_name("tensorflow_cpu"): "2.21.0", "torch": "2.13.0+cpu", "jax": "0.9.0"}
    assert peers.missing(wanted, installed) == ["scipy", "jax"]


def test_a_failed_install_leaves_the_peers_out_with_its_reason(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    peers = importlib.import_module("peers")
    monkeypatch.setattr(peers, "FOLDER", tmp_path / "peers")
    monkeypatch.setattr(peers, "_run", lambda command, seconds: ("", "no network"))
    found = peers.find_peers()
    assert found.python is None
    assert "no network" in found.reason


def test_chunks_time_only_what_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    chunks = importlib.import_module("chunks")
    monkeypatch.setattr("sys.stdin", io.StringIO('{"lead_in": 2, "steps": 3}\n'))
    answers = io.StringIO()
    timer = chunks.Chunks(lambda: 7, answers)
    settled: list[int] = []
    count = chunks.UNTIMED_STEPS + chunks.WARM_UP_STEPS + 2 + 3 - 1
    for step in range(count):
        timer.step_done(lambda step=step: settled.append(step))
    assert json.loads(answers.getvalue().splitlines()[0])["parameters"] == 7
    assert len(answers.getvalue().splitlines()) == 1  # the third timed step is still to come
    monkeypatch.setattr(chunks.os, "_exit", lambda status: (_ for _ in ()).throw(SystemExit(status)))
    with pytest.raises(SystemExit):  # no further question
        timer.step_done(lambda: settled.append(count))
    answer = json.loads(answers.getvalue().splitlines()[1])
    assert answer["seconds"] >= 0
    assert settled[-2:] == [count - 3, count]  # waited for before and after the timed steps


def test_the_generators_take_turns_and_the_first_round_is_not_counted() -> None:
    generator = importlib.import_module("generator")
    log: list[str] = []

    def turns(name: str, count: int) -> Iterator[int]:
        while True:
            log.append(name)
            yield count

    found = generator.measure({"fovea": turns("fovea", 3000), "keras": turns("keras", 10)}, rounds=3)
    assert log == ["keras", "fovea", "fovea", "keras", "keras", "fovea", "fovea", "keras"]
    assert found["ratio"]["count"] == 3
    assert found["ratio"]["median"] > 1
    machine = {"processor": "CPU", "cores": 2, "torch": "2", "keras": "3", "time": "2026-01-01T00:00:00Z"}
    assert "Medians of 3 rounds" in generator.page({"machine": machine, **found})


def test_the_table_of_kernels_speaks_only_of_shapes_that_pay() -> None:
    kernels = importlib.import_module("kernels")
    every = {shape.words: {"torch": 1.0, "strips": 2.0, "im2col": 0.5} for shape in kernels.shapes()}
    slow = {
        shape.words for shape in kernels.shapes() if shape.height > 8 or (shape.height > 3 and shape.in_channels < 64)
    }
    measured = {words: {**times, "im2col": 2.0} if words in slow else times for words, times in every.items()}
    assert kernels.rules(measured) == [
        {"way": "im2col", "largest_map": 3, "fewest_channels": 32},
        {"way": "im2col", "largest_map": 8, "fewest_channels": 64},
    ]
    text = kernels.table(
        {"amx_bf16 bf16 2 threads": {"milliseconds": measured}, "none fp32 1 threads": {"milliseconds": {}}}
    )
    assert text.count("\n  - ") == 2
    assert (
        "  - {feature: amx_bf16, precision: bf16, threads: 2, way: im2col, largest_map: 3, fewest_channels: 32}" in text
    )


def test_the_shipped_table_of_kernels_is_the_one_that_its_figures_give() -> None:
    kernels = importlib.import_module("kernels")
    assert kernels.TABLE.read_text(encoding="utf-8") == kernels.table(json.loads(kernels.RESULTS.read_text("utf-8")))


def told(seed: int, best: float, seconds: float | None = 100.0) -> dict[str, Any]:
    """A row of a program or of ours."""
    row = {"seed": seed, "best": best, "last": best - 0.01, "train_seconds": 90.0, "parameters": 7, "epochs": 5}
    return {**row, "seconds": seconds, "cpu": "A processor", "date": "2026-11-24T10:00:00Z", "commit": None}


def test_the_programs_table_pairs_seeds(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    programs = importlib.import_module("programs")
    monkeypatch.setattr(programs, "RESULTS", tmp_path / "programs")
    assert programs.table_line("p4-conv") == "| p4-conv | 0 | 91.42% | not measured | not measured |  |  |  |  |"
    for seed, best in enumerate((0.90, 0.91, 0.92)):
        programs.store("p4-conv", told(seed, best))
    for seed, best in enumerate((0.93, 0.93, 0.945)):
        programs.store("ours-p4", told(seed, best, 20.0))
    line = programs.table_line("p4-conv")
    assert "| p4-conv | 3 | 91.42% | 91.00% [88.52%, 93.48%]; 90.00% | 93.50% [91.35%, 95.65%]; 92.50% |" in line
    # Differences of 3, 2 and 2.5 points: 2.5 +- 4.303 * .5 / sqrt(3).
    assert "| +2.50 [+1.26, +3.74], p 0.013; lower on 0 of 3 | 100 s / 20 s | 5.0 | 7 / 7 |" in line
    programs.store("p4-conv", told(1, 0.91, None))
    assert "90 s of training / 90 s of training | 1.0 |" in programs.table_line("p4-conv")


def test_the_programs_page_shows_every_figure_of_a_reproduction(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    programs = importlib.import_module("programs")
    monkeypatch.setattr(programs, "RESULTS", tmp_path)
    assert programs.figures() == "Not measured so far."
    figure = {"figure": "val_loss", "value": 0.2415, "epoch": "last", "about": False, "beside": None}
    measured = {"value": 0.25, "low": 0.24, "high": 0.26, "count": 5}
    entries = [{**figure, "measured": measured, "inside": True, "reason": ""}]
    entries.append({**figure, "epoch": 7, "measured": None, "inside": None, "reason": "not trained so far"})
    programs.store("p4-conv", told(0, 0.9), figures=entries, answer={"lines": ["So it is."]}, notes=[])
    text = programs.figures()
    assert "| test loss, last epoch | 0.2415 | 0.2500 [0.2400, 0.2600] | yes |" in text
    assert "| test loss, epoch 7 | 0.2415 | not trained so far |  |" in text
    assert "- So it is." in text


def test_every_case_of_the_programs_names_recipes_that_fit_each_other() -> None:
    programs = importlib.import_module("programs")
    from fovea.recipefile import read_recipe
    from fovea.settings import with_settings
    from fovea.studies.published import program_names, read_program

    assert {case.recipe for case in programs.CASES.values()} == set(program_names())
    for case in programs.CASES.values():
        changes = {key: json.loads(value) for key, value in (part.split("=") for part in case.settings)}
        theirs = with_settings(read_recipe(read_program(case.recipe).path), changes)
        assert read_recipe(programs.OURS / f"{case.ours}.yaml").data == theirs.data
    text = programs.PAGE.read_text(encoding="utf-8")
    assert all(f"<!-- {name} -->" in text for name in ("table", "figures"))

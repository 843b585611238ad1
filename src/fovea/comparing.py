"""What `fovea compare` does: runs, studies of seeds or recipes, told apart and held against each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fovea.comparisons import WantedComparison, arms_of, compare_recipes, read_comparison
from fovea.errors import SettingsError
from fovea.evaluation.runs_compared import RunComparison, compare_runs
from fovea.evaluation.stored import StoredRun
from fovea.files import make_out
from fovea.reporting.figures import named_runs
from fovea.reporting.write import write_compared, write_recipes_report
from fovea.runfolder import COMPARISON, REPORT, SEEDS
from fovea.runview import finished_run
from fovea.studies.recipes_compared import RecipeComparison, compare_studies
from fovea.studies.seeds import SeedStudy, read_study


def compare(
    *what: Any,
    seeds: int = 5,
    data: Any = None,
    vary: Mapping[str, Sequence[Any]] | None = None,
    jobs: int | None = None,
    out: str | Path | None = None,
    verbose: bool = True,
    **settings: Any,
) -> RunComparison | RecipeComparison:
    """Hold runs against each other on the same test images, or recipes over paired seeds.

    Args:
        what: finished runs (or their folders); studies of several seeds, not of folds; or recipes, each trained with
            every seed: the same validation split, initialisation, order and augmentation for both of a pair, all of
            them others from seed to seed, the test images the same. The first is what the others are held against.
        seeds: of recipes, how many trainings of each.
        data: of recipes, the images in place of their own.
        vary: setting -> its values: the one recipe (or data) in `what` is compared with itself so changed.
        jobs: of recipes, how many trainings side by side; None: half as many as there are cores.
        out: of recipes, the folder that the folder of the comparison is made in; None: runs. The same call goes on
            where it was broken off.
        verbose: write progress to stderr.
        settings: of all recipes, as in `train`.

    Returns:
        `verdict` of the second against the first ("better", "worse", "cannot be told apart"), `sentence`, figures.

    Raises:
        UserError: for what cannot be compared, with the reason.
        RunFailedError: when a training broke off.
    """
    kind = kind_of(what)
    if kind == "recipes":
        if data is not None and not isinstance(data, str | Path):
            raise SettingsError("data is a name or a path; arrays are compared as fovea.compare((x, y), vary={...}).")
        parent = Path("runs" if out is None else out)
        changes = settings if data is None else {**settings, "source": str(data)}
        wanted = WantedComparison(arms_of(what, vary or {}), seeds, changes, parent, jobs, verbose)
        return _with_page(compare_recipes(wanted))
    given = {"data": data, "vary": vary, "jobs": jobs} | settings
    needless = [name for name, value in given.items() if value is not None]
    if needless:
        raise SettingsError(f"Runs are compared as they are: {', '.join(needless)} belong to recipes.")
    if kind == "comparison":
        return read_comparison(Path(what[0]))
    if kind == "studies":
        studies = [one if isinstance(one, SeedStudy) else read_study(Path(one), finished_run) for one in what]
        names = [study.path.resolve().name for study in studies]
        unique = len(set(names)) == len(names)
        return compare_studies(
            {name if unique else str(each.path): each for name, each in zip(names, studies, strict=True)}
        )
    return compare_runs(named_runs([one if isinstance(one, StoredRun) else finished_run(one) for one in what]))


def compare_and_write(
    what: Sequence[str], out: Path | None, seeds: int | None, options: Mapping[str, Any]
) -> tuple[RunComparison | RecipeComparison, list[Path]]:
    """Compare, and write what the shell was asked for.

    Args:
        out: of runs: the folder for the page and the table of changed images; of recipes as in `compare`.
        options: of `compare`.

    Returns:
        The comparison, and the files that were written.
    """
    if kind_of(what) == "recipes":
        found = compare(*what, seeds=5 if seeds is None else seeds, out=out, **options)
        page = found.path / REPORT if isinstance(found, RecipeComparison) and found.path is not None else None
        return found, [page] if page is not None and page.is_file() else []
    if seeds is not None:
        raise SettingsError("Runs are compared as they are: --seeds belongs to recipes.")
    found = compare(*what, **options)
    return found, [] if out is None else write_compared(found, make_out(out))


def _with_page(found: RecipeComparison) -> RecipeComparison:
    """The same, once its page is written where its runs have one."""
    if found.path is not None and found.arms[0].runs[0].recipe.evaluation.report:
        write_recipes_report(found)
    return found


def kind_of(what: Sequence[Any]) -> str:
    """What is to be compared: "runs", "studies", "recipes", or the "comparison" that a folder holds.

    Raises:
        SettingsError: where there is nothing, a single run, the same run twice, or things of several kinds.
    """
    kinds = [_kind_of(one) for one in what]
    if not kinds:
        raise SettingsError("Nothing is named to compare: give two run folders, or two recipes.")
    if len(set(kinds)) > 1:
        named = "; ".join(f"{one} is a {kind}" for one, kind in zip(what, kinds, strict=True))
        raise SettingsError(f"Only things of one kind are compared: {named}.")
    kind = kinds[0]
    if kind == "comparison" and len(what) > 1:
        raise SettingsError("A comparison is shown by itself: name one folder of a comparison.")
    if kind in ("run", "study"):
        folders = [Path(getattr(one, "path", one)).resolve() for one in what]
        if len(folders) < 2:
            raise SettingsError(f"One {kind} has nothing to be compared with: name two.")
        if len(set(folders)) < len(folders):
            raise SettingsError(f"A {kind} is named twice: it cannot be compared with itself.")
    return {"run": "runs", "study": "studies", "recipe": "recipes"}.get(kind, kind)


def _kind_of(one: Any) -> str:
    if isinstance(one, SeedStudy):
        return "study"
    if isinstance(one, StoredRun):
        return "run"
    if isinstance(one, str | Path):
        for name, kind in ((COMPARISON, "comparison"), (SEEDS, "study"), ("config.yaml", "run")):
            if (Path(one) / name).is_file():
                return kind
    return "recipe"

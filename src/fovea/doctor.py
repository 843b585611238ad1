"""What `fovea doctor` does: told what the patient is, its record filled, examined, and what is suspected tried."""

from __future__ import annotations

# A program is read in a moment: what needs torch is imported only where a run or data is the patient.
import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from fovea.data.imageset import ImageSet, RawData
from fovea.data.split import split_from_json
from fovea.diagnosis.examine import examination, failure_words
from fovea.diagnosis.record import Record
from fovea.diagnosis.rules import RULES
from fovea.diagnosis.telling import Diagnosis
from fovea.display import Say, say_nothing
from fovea.errors import FoveaError, SettingsError
from fovea.evaluation.findings import Finding, finding_from_json
from fovea.files import read_json, write_json
from fovea.recipefile import read_recipe
from fovea.runfolder import DIAGNOSIS, SEEDS, is_finished, update_manifest
from fovea.settings import Recipe, with_settings

PROGRAMS = (".py", ".ipynb")
VERIFY_SECONDS = 45.0  # of trials: with reading and looking, a minute on two cores


@dataclass(frozen=True, eq=False)
class _Patient:
    """A record, and with what its trials can be made; raw None: with nothing. Of a run its folder too."""

    record: Record
    recipe: Recipe = field(default_factory=Recipe)
    raw: RawData | None = None
    folder: Path | None = None


def diagnose(
    patient: Any, *, verify: bool = True, seconds: float = VERIFY_SECONDS, say: Say = say_nothing, **settings: Any
) -> Diagnosis:
    """Look for what is wrong with a run, with data or with a program, and prove it where an experiment can.

    Args:
        patient: a run folder (or a study of seeds), a Run; data as `train` takes it; a program's .py or .ipynb, which
            is read and never run.
        verify: try the suspected causes in short trainings; a finding is then confirmed or withdrawn, or stays
            suspected where no trial can tell. The test split stays closed. What is found in a finished run is kept
            in its folder (diagnosis.json), where reports find it.
        seconds: for all trials together.
        say: takes (topic, line) about what goes on.
        settings: of a recipe, for data.

    Returns:
        The findings, the most important first, and what could and could not be looked at.

    Raises:
        UserError: for what is no run, no data and no program.
    """
    kind = kind_of(patient)
    if settings and kind != "data":
        raise SettingsError(f"Settings belong to data; a {kind} has its own: leave out {', '.join(settings)}.")
    if kind == "program":
        record, found = _read_program(Path(patient))
        notes = ("A program is read, not run: nothing was tried.",) if verify and found else ()
        return Diagnosis(record, tuple(found), (*examination(record).unjudged, *notes))
    seen = _look_at_data(patient, settings, say) if kind == "data" else _look_at_run(_folder(patient), say)
    diagnosis = _judge(seen, verify, seconds, say)
    if seen.folder is not None and is_finished(seen.folder):
        _keep(seen.folder, diagnosis, say)
    return diagnosis


def _judge(seen: _Patient, verify: bool, seconds: float, say: Say) -> Diagnosis:
    """The findings of a record, tried where that is wanted and possible."""
    examined = examination(seen.record)
    findings = [found for found in examined.findings if found.id in RULES or found.severity != "note"]
    notes = list(examined.unjudged)
    if verify and any(finding.remedy for finding in findings):
        if seen.raw is None:
            notes.append("Nothing was tried: the images cannot be read again.")
        else:
            findings = _tried(seen, findings, seconds, say)
    if seen.folder is not None:
        findings = _with_earlier_trials(findings, seen.folder)
    return Diagnosis(seen.record, tuple(findings), tuple(notes))


def _is_tried(finding: Finding) -> bool:
    return "before" in (finding.trial or {})


def _with_earlier_trials(findings: list[Finding], folder: Path) -> list[Finding]:
    """The findings; of one that was not tried now, what an earlier trial of the same change says of it."""
    earlier: dict[str, Finding] = {}
    with contextlib.suppress(Exception):  # a damaged file is made again
        kept = read_json(folder / DIAGNOSIS)
        earlier = {found["id"]: finding_from_json(found) for found in (*kept["findings"], *kept["withdrawn"])}
    made = []
    for finding in findings:
        before = earlier.get(finding.id)
        if before is not None and _is_tried(before) and not _is_tried(finding) and before.remedy == finding.remedy:
            finding = replace(finding, status=before.status, trial=before.trial, cure=before.cure)
        made.append(finding)
    return made


def _keep(folder: Path, diagnosis: Diagnosis, say: Say) -> None:
    """Keep a diagnosis in the run folder, for reports; a folder that cannot be written to is no error of the doctor."""
    try:
        write_json(folder / DIAGNOSIS, diagnosis.as_json())
        update_manifest(folder, [DIAGNOSIS])
    except (FoveaError, OSError) as error:
        say("doctor", f"what was found could not be kept in the run folder: {error}")


def kind_of(patient: Any) -> str:
    """What a patient is: "run", "data" or "program".

    Raises:
        SettingsError: for a program that is not there.
    """
    if not isinstance(patient, str | Path):
        from fovea.evaluation.stored import StoredRun

        return "run" if isinstance(patient, StoredRun) else "data"
    path = Path(patient)
    if path.suffix in PROGRAMS:
        if not path.is_file():
            raise SettingsError(f"There is no program {path} (looked for it from {Path.cwd()}).")
        return "program"
    return "run" if (path / "config.yaml").is_file() or (path / SEEDS).is_file() else "data"


def _folder(patient: Any) -> Path:
    return Path(patient) if isinstance(patient, str | Path) else Path(patient.path)


def _read_program(path: Path) -> tuple[Record, list[Finding]]:
    """What a program's trainings are; of several the record of the gravest, with the findings of all."""
    from fovea.diagnosis.script.reader import examine_program

    return examine_program(path)


def _look_at_data(data: Any, settings: Mapping[str, Any], say: Say) -> _Patient:
    from fovea.diagnosis.ourdata import record_of_data
    from fovea.sources import read_all, resolve_data

    recipe, source = resolve_data(data)
    recipe = with_settings(recipe, dict(settings))
    raw = read_all(recipe, source)
    say("doctor", "a short training, to see what single batches and curves say")
    return _Patient(record_of_data(raw, recipe), recipe, raw)


def _look_at_run(folder: Path, say: Say) -> _Patient:
    """A run, from its folder and from its images where they can be read again; of a study the first run."""
    from fovea.diagnosis.ourrun import record_of_run, with_images
    from fovea.sources import read_all

    accuracies = None
    if (folder / SEEDS).is_file():
        runs = sorted(each for each in folder.glob("seed-*") if (each / "config.yaml").is_file())
        if not runs:
            raise SettingsError(f"{folder} holds no run yet: there is nothing to look at.")
        accuracies, folder = _seed_accuracies(runs), runs[0]
    recipe = read_recipe(folder / "config.yaml")
    say("doctor", "reading the images of the run again")
    try:
        raw = read_all(recipe, recipe.data.source)
        sets = _same_splits(folder, recipe, raw)
    except FoveaError as error:
        record = record_of_run(folder)
        record = replace(record, unseen=(*record.unseen, f"the images of the run: {error}"))
        return _Patient(_with_seeds(record, accuracies), recipe, folder=folder)
    record = with_images(record_of_run(folder, sets), folder, sets)
    has_own_net = recipe.model.layers is None or recipe.preprocessing.function is not None
    return _Patient(_with_seeds(record, accuracies), recipe, None if has_own_net else raw, folder)


def _same_splits(folder: Path, recipe: Recipe, raw: RawData) -> dict[str, ImageSet]:
    from fovea.data.prepare import prepare_splits

    split = split_from_json(read_json(folder / "split.json"))
    return dict(prepare_splits(raw, recipe.data, recipe.preprocessing.image_size, split).sets)


def _seed_accuracies(runs: list[Path]) -> tuple[float, ...]:
    """The accuracy of each finished run on its last split."""
    from fovea.evaluation.metrics import accuracy
    from fovea.evaluation.predictions import read_predictions

    found = []
    for run in runs:
        paths = [run / f"predictions-{name}.npz" for name in ("test", "val")]
        there = [path for path in paths if path.is_file()]
        if there:
            found.append(accuracy(read_predictions(there[0])).value)
    return tuple(found)


def _with_seeds(record: Record, accuracies: tuple[float, ...] | None) -> Record:
    if not accuracies:
        return record
    return replace(record, evaluation=replace(record.evaluation, seed_accuracies=accuracies))


def _tried(seen: _Patient, findings: list[Finding], seconds: float, say: Say) -> list[Finding]:
    """The findings after trials: confirmed, withdrawn, or as suspected as before."""
    from fovea.diagnosis.trainer import SmallTrainer
    from fovea.diagnosis.trials import verify

    assert seen.raw is not None
    trainer = SmallTrainer(seen.recipe, seen.raw)
    return verify(seen.record, findings, trainer, seconds, lambda line: say("trial", line))


def add_findings(folder: Path, sets: Mapping[str, ImageSet], recipe: Recipe, say: Say = say_nothing) -> None:
    """Add what the rules suspect, unverified, to the findings of a run that has just been trained.

    A fault of the rules costs the run nothing: it is said, and the findings that training itself has written stay.

    Args:
        folder: the run folder, before its manifest is written.
        sets: its images; only labels are read.
        say: takes (topic, line) about what could not be judged.
    """
    try:
        from fovea.diagnosis.ourrun import record_of_run

        examined = examination(record_of_run(folder, sets, recipe))
        found = [finding.as_json() for finding in examined.findings]
    except Exception as error:  # whatever it is: a finished training must not end in it
        say("doctor", f"The run could not be judged ({failure_words(error)}); its results are whole.")
        return
    for line in examined.unjudged:
        say("doctor", line)
    write_json(folder / "findings.json", found)

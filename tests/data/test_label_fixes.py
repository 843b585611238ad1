"""Label fixes: read back, held against the data, applied after the split."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import fovea
from fovea.data.load import read_raw
from fovea.data.prepare import prepare_splits
from fovea.errors import DataError
from fovea.settings import DataSettings
from tests.conftest import Arrays, bars

HEAD = "id,index,given,suggested,p_given,p_suggested,action\n"
QUICK = {"epochs": 1, "model": "p4-dense", "batch_size": 32, "verbose": False}


def write(*rows: str, name: str = "fixes.csv", head: str = HEAD) -> str:
    Path(name).write_text(head + "".join(f"{row}\n" for row in rows))
    return name


def prepared(data: object, name: str | None, **settings: object):
    return prepare_splits(read_raw(data), DataSettings(label_fixes=name, **settings))


def test_fix_changes_a_label_exclude_leaves_an_image_out_and_nobody_moves(toy: Arrays) -> None:
    plain = prepared(toy, None)
    trained, held = plain.split.indices["train"], plain.split.indices["val"]
    one, two, three = trained[0], trained[1], held[0]
    given = toy[1]
    name = write(
        f"{one},{one},{given[one]},{(given[one] + 1) % 3},0.01,0.9,fix",
        f"{two},{two},{given[two]},{(given[two] + 1) % 3},0.01,0.9, Exclude ",
        f"{three},{three},{given[three]},{(given[three] + 1) % 3},0.01,0.9,exclude",
        f"{trained[5]},{trained[5]},{given[trained[5]]},0,0.01,0.9,",
    )
    fixed = prepared(toy, name)
    assert np.array_equal(fixed.split.indices["train"], trained[trained != two])
    assert np.array_equal(fixed.split.indices["val"], held[held != three])
    assert np.array_equal(fixed.split.indices["test"], plain.split.indices["test"])
    assert fixed.sets["train"].labels[0] == (given[one] + 1) % 3
    assert (fixed.sets["train"].labels != given[fixed.split.indices["train"]]).sum() == 1
    assert fixed.fixes is not None
    assert fixed.fixes.counts == {"changed": 1, "excluded": 2}
    assert fixed.sets["train"].fingerprint != plain.sets["train"].fingerprint
    assert "1 labels changed, 2 images left out" in fixed.notes[-1]


def test_names_of_files_are_ids_and_an_edited_suggestion_counts(toy: Arrays) -> None:
    images, labels = toy
    raw = {
        "train": fovea.ImageSet(
            images[..., None], labels, ("cat", "dog", "eel"), np.array([f"{i}.png" for i in range(150)])
        )
    }
    name = write("7.png,999,dog,eel,0.1,0.9,fix")
    splits = prepared(raw, name)
    (row,) = np.flatnonzero(splits.sets["train"].ids == "7.png")
    assert splits.sets["train"].labels[row] == 2


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("999,999,0,1,0.1,0.9,fix", "line 2: .* has no image '999'"),
        ("0,0,2,1,0.1,0.9,fix", "line 2: image '0' has the label '0' in this data, not '2'"),
        ("0,0,0,7,0.1,0.9,fix", "line 2: the suggested label '7' is no class of this data: 0, 1, 2"),
        ("0,0,0,1,0.1,0.9,remove", "line 2: the action 'remove' is none of fix, exclude"),
        ("0,0,0,1,0.1,0.9,fix\n0,0,0,2,0.1,0.9,fix", "line 3: image '0' stands there twice"),
    ],
)
def test_a_row_that_does_not_fit_is_named(toy: Arrays, row: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        prepared(toy, write(row))


def test_a_file_of_another_kind_is_refused(toy: Arrays) -> None:
    with pytest.raises(DataError, match="has no column action"):
        prepared(toy, write("0,1", head="id,given,suggested\n"))
    with pytest.raises(DataError, match="cannot be read: No such file"):
        prepared(toy, "nowhere.csv")
    Path("binary.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="no UTF-8"):
        prepared(toy, "binary.csv")
    with pytest.raises(DataError, match="line 2: arrays has no part 'test'"):
        prepared(toy, write("test,0,0,0,1,fix", head="part,id,index,given,suggested,action\n"))


def test_a_run_records_its_fixes_and_notices_when_the_file_changes(toy: Arrays) -> None:
    np.savez("toy.npz", x_train=toy[0], y_train=toy[1], x_test=bars(40, seed=9)[0], y_test=bars(40, seed=9)[1])
    name = write("0,0,0,1,0.1,0.9,fix", "4,4,1,2,0.1,0.9,exclude")
    run = fovea.train("toy.npz", label_fixes=name, name="fixed", **QUICK)
    assert run.record["label_fixes"] == {"changed": 1, "excluded": 1}
    assert run.recipe.data.label_fixes == str(Path(name).resolve())
    assert len(run.recipe.data.label_fixes_sha256) == 64
    assert sum(part["count"] for part in json.loads((run.path / "split.json").read_text())["splits"].values()) == 189
    config = run.path / "config.yaml"
    again = fovea.train(config, name="again", verbose=False)
    assert (again.path / "best.safetensors").read_bytes() == (run.path / "best.safetensors").read_bytes()
    write("0,0,0,2,0.1,0.9,fix")
    with pytest.raises(DataError, match="is not the file that these settings were written with"):
        fovea.train(config, verbose=False)
    other = fovea.train(config, label_fixes=name, verbose=False)
    assert other.record["label_fixes"] == {"changed": 1, "excluded": 0}


def test_a_study_of_seeds_trains_with_the_same_fixes(toy: Arrays) -> None:
    study = fovea.train(toy, label_fixes=write("0,0,0,1,0.1,0.9,exclude"), seeds=2, **QUICK)
    prints = {json.dumps(run.record["fingerprints"]) for run in study.runs}
    assert len(prints) == 1
    assert all(run.record["label_fixes"] == {"changed": 0, "excluded": 1} for run in study.runs)


@pytest.mark.parametrize(
    "change", [lambda text: text.replace("\n", "\r"), lambda text: text.replace(",", ";"), lambda text: text]
)
def test_a_file_that_another_program_saved_is_read(toy: Arrays, change: Callable[[str], str]) -> None:
    row = prepared(toy, None).split.indices["train"][0]
    Path("saved.csv").write_bytes(change(f"{HEAD}{row},{row},{toy[1][row]},0,0.01,0.9,exclude\n").encode())
    fixes = prepared(toy, "saved.csv").fixes
    assert fixes is not None
    assert fixes.counts == {"changed": 0, "excluded": 1}


def test_an_open_quote_is_named_and_swallows_no_rows(toy: Arrays) -> None:
    with pytest.raises(DataError, match=r"fixes\.csv cannot be read, at line 3: .* quote left open"):
        prepared(toy, write(f'0,0,"{toy[1][0]},0,0.01,0.9,', f"1,1,{toy[1][1]},0,0.01,0.9,"))

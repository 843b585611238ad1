"""Groups: no group is on two sides, whether a column or a file's name tells it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.model_selection import StratifiedGroupKFold

import fovea
from fovea.data.groups import groups_of
from fovea.data.imageset import ImageSet
from fovea.data.load import read_raw
from fovea.data.options import ReadOptions
from fovea.data.prepare import prepare_splits
from fovea.data.split import cut_folds, make_split
from fovea.errors import DataError, SettingsError
from fovea.settings import DataSettings, Recipe, with_settings
from fovea.sources import read_to_judge
from tests.conftest import bars
from tests.data.formats import pixel_table

LABELS = np.arange(240) % 3
PEOPLE = np.array([f"p{number}" for number in np.arange(240) // 8])  # 30 people, 8 images each


def sides(split: object) -> dict[str, set[str]]:
    return {name: set(PEOPLE[rows].tolist()) for name, rows in split.indices.items()}


@pytest.mark.parametrize("stratify", [True, False])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_no_group_is_cut_in_two_and_the_shares_are_kept(seed: int, stratify: bool) -> None:
    settings = DataSettings(split_seed=seed, stratify=stratify)
    split, _ = make_split({"train": LABELS}, settings, {"train": PEOPLE})
    found = sides(split)
    assert not found["train"] & found["val"]
    assert not found["train"] & found["test"]
    assert not found["val"] & found["test"]
    assert sum(map(len, split.indices.values())) == 240
    assert len(split.indices["test"]) == 48
    assert 16 <= len(split.indices["val"]) <= 24
    assert np.bincount(LABELS[split.indices["val"]]).min() >= 5
    again, _ = make_split({"train": LABELS}, settings, {"train": PEOPLE})
    assert again.fingerprint == split.fingerprint


def test_a_cut_that_leaves_no_group_is_refused_with_the_number_of_groups() -> None:
    groups = {"train": np.arange(240) % 3}
    with pytest.raises(SettingsError, match=r"3 groups are too few .* val split of 0\.7 .* val_split to 0\.66 or less"):
        make_split({"train": LABELS, "test": LABELS}, DataSettings(val_split=0.7), groups)
    split, _ = make_split({"train": LABELS, "test": LABELS}, DataSettings(val_split=0.66), groups)
    assert len(split.indices["train"]) == 80


def test_a_class_is_not_lost_where_another_draw_keeps_it() -> None:
    labels = np.where(PEOPLE == "p3", 2, np.where(PEOPLE == "p4", 2, np.arange(240) % 2))
    for seed in range(8):
        split, _ = make_split({"train": labels, "test": labels[:3]}, DataSettings(split_seed=seed), {"train": PEOPLE})
        assert 2 in labels[split.indices["train"]]


def test_folds_are_those_of_stratified_group_k_fold() -> None:
    folds = cut_folds(np.arange(240), LABELS, 5, DataSettings(split_seed=3), PEOPLE)
    cutter = StratifiedGroupKFold(5, shuffle=True, random_state=3)
    assert [fold.tolist() for fold in folds] == [held.tolist() for _, held in cutter.split(LABELS, LABELS, PEOPLE)]
    assert sum(len(set(PEOPLE[fold])) for fold in folds) == 30
    with pytest.raises(SettingsError, match="30 groups are too few for 31 folds"):
        cut_folds(np.arange(240), LABELS, 31, DataSettings(), PEOPLE)


def test_one_group_alone_cannot_be_cut() -> None:
    with pytest.raises(SettingsError, match="All images are of one group: no test split"):
        make_split({"train": LABELS}, DataSettings(), {"train": np.repeat("x", 240)})


def image_set(names: list[str]) -> dict[str, ImageSet]:
    images, labels = bars(len(names))
    return {"train": ImageSet(images[..., None], labels, ("a", "b", "c"), np.array(names))}


def test_a_regular_expression_tells_the_group_by_the_name() -> None:
    raw = read_raw(image_set([f"anna_{row}.png" if row % 2 else f"ben_{row}.png" for row in range(12)]))
    groups = groups_of(raw, r"regex:^(\w+?)_")
    assert groups["train"].tolist() == ["ben", "anna"] * 6
    with pytest.raises(DataError, match=r"names no group for 6 of 12 images of arrays \(train\): 'ben_0.png'"):
        groups_of(raw, r"regex:^(a\w+)_")


def test_a_column_of_a_table_of_paths_tells_the_group(tmp_path: Path) -> None:
    images, labels = bars(12)
    for row, image in enumerate(images):
        Image.fromarray(image).save(tmp_path / f"{row}.png")
    lines = [f"{row}.png,{'abc'[label]},p{row % 4}" for row, label in enumerate(labels)]
    (tmp_path / "list.csv").write_text("\n".join(["path,species,patient", *lines]))
    found = read_raw(tmp_path / "list.csv", ReadOptions(group_column="patient"))  # leaves one column for the label
    assert found.parts["train"].groups.tolist() == [f"p{row % 4}" for row in range(12)]
    assert sorted(set(found.parts["train"].labels.tolist())) == ["a", "b", "c"]
    by_number = read_raw(tmp_path / "list.csv", ReadOptions(group_column="2"))
    assert by_number.parts["train"].groups.tolist() == found.parts["train"].groups.tolist()
    with pytest.raises(SettingsError, match=r"data.groups is 'doctor', which is no column of .*path, species, patient"):
        read_raw(tmp_path / "list.csv", ReadOptions(group_column="doctor"))


def test_a_column_of_a_table_of_pixels_tells_the_group(toy: tuple[np.ndarray, np.ndarray]) -> None:
    lines = pixel_table(toy, "label").splitlines()
    words = [f"{line},{'subject' if row == 0 else f's{row % 7}'}" for row, line in enumerate(lines)]
    numbers = [f"{line},{'subject' if row == 0 else row % 7}" for row, line in enumerate(lines)]
    for name, text in (("words.csv", words), ("numbers.csv", numbers)):
        Path(name).write_text("\n".join(text) + "\n")
        raw = read_raw(name, ReadOptions(group_column="subject"))
        assert raw.parts["train"].images.shape == (150, 8, 8)
        groups = groups_of(raw, "column:subject")["train"]
        assert len(set(groups.tolist())) == 7
        run = fovea.train(name, groups="column:subject", epochs=1, model="p4-dense", verbose=False, name=name)
        parts = [set(groups[rows].tolist()) for rows in run.split.indices.values()]
        assert not parts[0] & parts[1]
        assert sum(map(len, parts)) == 7


def test_a_column_needs_a_table(toy: tuple[np.ndarray, np.ndarray]) -> None:
    with pytest.raises(SettingsError, match="needs a table with that column"):
        fovea.train(toy, groups="column:patient", verbose=False)


@pytest.mark.parametrize("text", ["patient", "column:", "regex:abc", "regex:(", "file:x"])
def test_a_setting_that_names_no_group_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match=r"data\.groups"):
        with_settings(Recipe(), {"groups": text})


def test_groups_in_two_given_parts_are_a_problem() -> None:
    train = image_set([f"{'abcd'[row % 4]}_{row}" for row in range(24)])["train"]
    images, labels = bars(6, seed=4)
    test = ImageSet(images[..., None], labels, train.classes, np.array([f"{'cdx'[row % 3]}_{row}" for row in range(6)]))
    splits = prepare_splits(read_raw({"train": train, "test": test}), DataSettings(groups="regex:^(.)_"))
    (problem,) = [problem for problem in splits.problems if problem.id == "group-leak"]
    assert "of the 3 groups of test images are in the training images too" in problem.cause
    val_groups = {str(name)[0] for name in splits.sets["val"].ids}
    assert not val_groups & {str(name)[0] for name in splits.sets["train"].ids}


def test_other_data_to_judge_on_needs_no_column_of_groups_and_may_call_its_labels_otherwise(tmp_path: Path) -> None:
    rows = "".join(f"{label},{label},1,2,3,4\n" for label in (0, 1, 0, 1))
    options = ReadOptions(label_column="kind", group_column="person")
    for header in ("kind,person", "label,person", "kind,id", "label,id"):
        (tmp_path / "t.csv").write_text(f"{header},p1,p2,p3,p4\n{rows}")
        part = read_to_judge(tmp_path / "t.csv", options).parts["train"]
        assert (part.images.shape, part.labels.tolist()) == ((4, 2, 2), [0, 1, 0, 1])
    with pytest.raises(SettingsError, match=r"'person'.* is no column"):
        read_raw(tmp_path / "t.csv", replace(options, label_column=None))

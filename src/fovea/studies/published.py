"""What a recipe's record says of the published program that it trains again: its figures, and what was asked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, model_validator

from fovea.errors import SettingsError
from fovea.recipefile import named_recipes, read_record
from fovea.registry import unknown_name
from fovea.settings import Count, Section

FIGURES = {
    "val_accuracy": "test accuracy",
    "val_loss": "test loss",
    "running_accuracy": "training accuracy",
    "running_loss": "training loss",
    "parameters": "parameters",
    "seconds": "seconds",
    "seconds_per_epoch": "seconds an epoch",
}
OF_AN_EPOCH = ("val_accuracy", "val_loss", "running_accuracy", "running_loss")
Epoch = Count | Literal["best", "last"]


class Figure(Section):
    """One published figure.

    Attributes:
        figure: a key of FIGURES; val_... is of the test images, which these programs validated on, running_... what
            Keras prints of the training.
        value: as published; an accuracy is a fraction in [0, 1].
        epoch: counted from 1, the best of all, or the last.
        about: the source gives no exact figure.
        beside: the extra evaluation that it is a figure of; None: the run's own.
    """

    figure: Literal[
        "val_accuracy", "val_loss", "running_accuracy", "running_loss", "parameters", "seconds", "seconds_per_epoch"
    ]
    value: float
    epoch: Epoch = "last"
    about: bool = False
    beside: str | None = None

    @property
    def words(self) -> str:
        """What it is called: test accuracy, unscaled, epoch 3."""
        parts = [FIGURES[self.figure]]
        parts += [self.beside] if self.beside else []
        if self.figure in OF_AN_EPOCH:
            parts.append(f"{self.epoch} epoch" if isinstance(self.epoch, str) else f"epoch {self.epoch}")
        return ", ".join(parts)

    @property
    def published(self) -> str:
        """The published value as text, marked where the source gives it as about."""
        value = f"{self.value:g}" if self.figure.endswith("loss") else self.show(self.value)
        return f"about {value}" if self.about else value

    def show(self, value: float) -> str:
        """A value of this kind as text."""
        if self.figure.endswith("accuracy"):
            return f"{value:.2%}"
        return f"{value:.4f}" if self.figure.endswith("loss") else f"{value:,.0f}"


class Beside(Section):
    """An extra evaluation of the weights as they are after each epoch, which has no part in the training.

    Attributes:
        name: of its figures and of its file in the run folder, beside-<name>.csv.
        words: on what images.
        preprocessing: settings that replace those of the training.
        augmented: whether the recipe's augmentation is applied to the test images, drawn anew each epoch.
    """

    name: str = Field(pattern=r"^[a-z][a-z-]*$")
    words: str
    preprocessing: dict[str, Any] = Field(default_factory=dict)
    augmented: bool = False


class Record(Section):
    """The record of a program's recipe.

    Attributes:
        program: P0 to P4.
        asked: the question that the program was published with.
        teaches: what it teaches.
        against: the recipe that it is compared with, where the answer needs two.
        before: settings of a fit that comes before the one of the recipe.
        batches: a batch holds the training images divided by this number, however many there are.
        explained: why figures lie outside, or settings differ, where an experiment has shown it.
    """

    program: Literal["P0", "P1", "P2", "P3", "P4"]
    asked: str
    teaches: str
    published: tuple[Figure, ...]
    beside: tuple[Beside, ...] = ()
    against: str | None = None
    before: dict[str, Any] | None = None
    batches: Count | None = None
    explained: tuple[str, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _one_by_one(cls, values: Any) -> Any:
        """`epochs: [a, b]` stands for a figure of epoch 1 and one of epoch 2."""
        if not isinstance(values, dict) or not isinstance(values.get("published"), list):
            return values
        figures: list[Any] = []
        for entry in values["published"]:
            if isinstance(entry, dict) and isinstance(entry.get("epochs"), list):
                rest = {name: value for name, value in entry.items() if name != "epochs"}
                figures += [{**rest, "epoch": epoch, "value": one} for epoch, one in enumerate(entry["epochs"], 1)]
            else:
                figures.append(entry)
        return {**values, "published": figures}

    @model_validator(mode="after")
    def _known_beside(self) -> Record:
        names = {beside.name for beside in self.beside}
        strangers = [figure.beside for figure in self.published if figure.beside and figure.beside not in names]
        if strangers:
            raise ValueError(f"a published figure names the evaluation {strangers[0]!r}, which `beside` lacks")
        if (self.program == "P0") != (self.before is not None):
            raise ValueError("P0, and only P0, has a fit `before`")
        if self.against is not None and self.against not in named_recipes():
            raise ValueError(f"against names the recipe {self.against!r}, which there is not")
        return self

    def rounding(self, figure: Figure) -> float:
        """Half a unit of the last digit that figures of this kind were published with."""
        alike = [repr(one.value).partition(".")[2] for one in self.published if one.figure == figure.figure]
        return float(0.5 * 10.0 ** -max(map(len, alike)))


@dataclass(frozen=True)
class Program:
    """A published program: its recipe's name and file, and what is known of it."""

    name: str
    path: Path
    record: Record


def read_program(name: str) -> Program:
    """A program by the name of its recipe, or by a recipe's file.

    Raises:
        SettingsError: for an unknown name, a recipe that is of no program, or a record that cannot be read.
    """
    recipes = named_recipes()
    is_file = Path(name).suffix in {".yaml", ".yml"}
    if not is_file and name not in recipes:
        raise unknown_name("program", name, program_names())
    path = Path(name) if is_file else recipes[name]
    record = parse_record(read_record(path), f"the recipe {name}")
    if record is None:
        raise SettingsError(
            f"The recipe {name} is of no published program: there is nothing to hold it against. To train it: fovea "
            f"train {name}. Programs: {', '.join(program_names())}."
        )
    return Program(path.stem, path, record)


def program_names() -> list[str]:
    """The recipes that are published programs."""
    return [name for name, path in named_recipes().items() if "program" in read_record(path)]


def parse_record(values: dict[str, Any], where: str) -> Record | None:
    """A recipe's record as a program's; None where it is of no program.

    Raises:
        SettingsError: names every mistake and its place.
    """
    if "program" not in values:
        return None
    try:
        return Record.model_validate(values)
    except ValidationError as error:
        mistakes = [f"{'.'.join(map(str, one['loc'])) or 'record'}: {one['msg']}" for one in error.errors()]
        raise SettingsError(f"In the record of {where}: {'; '.join(mistakes)}.") from None

"""What an expression of a program can stand for: plain Python values, and the few things that the reader follows.

Numbers, texts, tuples, lists and dicts stand for themselves; whatever is not followed is UNKNOWN.
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass, field, replace
from typing import Any


class _Unknown:
    def __repr__(self) -> str:
        return "UNKNOWN"

    def __bool__(self) -> bool:
        return False


UNKNOWN: Any = _Unknown()
NEVER: Any = object()  # the value of a call that does not come back: sys.exit()
NOT_MINE: Any = object()  # the answer of a library that does not know a name


class _Dotted:
    """What has a dotted path: its last part is its name, the first its library."""

    path: str

    @property
    def name(self) -> str:
        return self.path.rsplit(".", 1)[-1]

    @property
    def root(self) -> str:
        return self.path.split(".", 1)[0]


@dataclass(frozen=True)
class Ref(_Dotted):
    """A name that a library gives, as "keras.layers.Dense"; TensorFlow's own path to Keras is left out."""

    path: str


@dataclass(frozen=True)
class Data:
    """An array of images or labels (or a table of both) and what was done to it since it was loaded.

    Attributes:
        split: "train", "val", "test" or None; part: "images", "labels", "table".
        base: what loaded it, in a word; data of one base is comparable.
        raw_high: largest value as loaded (255 of images), None: not known.
        factor, offset: value = factor * raw + offset.
        steps: everything else that was done to the values, in order.
        is_opaque: something was done that cannot be read.
        line, scaled_line: where it was made, and where its values were last scaled.
    """

    split: str | None = None
    part: str = "images"
    base: str = ""
    raw_high: float | None = None
    factor: float = 1.0
    offset: float = 0.0
    steps: tuple[str, ...] = ()
    is_opaque: bool = False
    is_standardised: bool = False
    count: int | None = None
    shape: tuple[int, ...] | None = None
    num_classes: int | None = None
    label_kind: str | None = None
    label_width: int | None = None
    dataset: str | None = None
    line: int | None = None
    scaled_line: int | None = None
    is_mixed: bool = False  # the order was drawn at random once
    counted_line: int | None = None  # where a part of it was taken

    def with_step(self, step: str) -> Data:
        return replace(self, steps=(*self.steps, step))

    def opaque(self, step: str) -> Data:
        """After something that cannot be read."""
        changed = replace(self, steps=(*self.steps, f"?{step}"), is_opaque=True)
        return changed if self.part != "labels" else replace(changed, num_classes=None, label_width=None)

    def arithmetic(self, operator: ast.operator, number: float, line: int | None, is_left: bool = True) -> Data:
        """After `data op number` (or `number op data`)."""
        factor, offset = self.factor, self.offset
        if isinstance(operator, ast.Div) and is_left and number:
            factor, offset = factor / number, offset / number
        elif isinstance(operator, ast.Mult):
            factor, offset = factor * number, offset * number
        elif isinstance(operator, ast.Add):
            offset += number
        elif isinstance(operator, ast.Sub):
            factor, offset = (factor, offset - number) if is_left else (-factor, number - offset)
        else:
            return self.opaque(type(operator).__name__.lower())
        return replace(self, factor=factor, offset=offset, scaled_line=line)

    @property
    def range(self) -> tuple[float | None, float | None]:
        """Smallest and largest value, where they are known."""
        if self.raw_high is None or self.is_opaque or self.is_standardised:
            return None, None
        ends = self.offset, self.factor * self.raw_high + self.offset
        return min(ends), max(ends)

    @property
    def preprocessing(self) -> tuple[str, ...]:
        """What was done to the values, in words that two splits are compared by."""
        words = []
        if abs(self.offset) > 1e-9:
            words = [f"*{self.factor:.4g} {self.offset:+.4g}"]
        elif abs(self.factor - 1) > 1e-9:
            words = [f"/{1 / self.factor:.5g}" if 0 < self.factor < 1 else f"*{self.factor:.4g}"]
        return (*words, *self.steps)


@dataclass(frozen=True)
class Statistic:
    """A mean or a standard deviation of some data: `x.mean()`."""

    of: Data
    kind: str


@dataclass(eq=False)
class Thing(_Dotted):
    """An object that a library or the program made: a layer, a net, an optimizer, a callback ...

    Attributes:
        kind: "layer", "net", "optimizer", "loss", "callback", "generator", "feed", "transform", "scaler" ...
        path: of its class; name: the class' own name.
        values: facts by name (arguments under the names that the newest Keras or PyTorch gives them).
        is_used: it reached something other than the name that it was given; is_connected: a net holds it.
        label: the name that the program gives it.
        loops: the loops that were open when it was made.
    """

    kind: str
    path: str
    line: int
    values: dict[str, Any] = field(default_factory=dict)
    attributes: dict[str, Any] = field(default_factory=dict)
    is_used: bool = False
    is_connected: bool = False
    is_trainable: bool = True
    label: str = ""
    loops: tuple[Any, ...] = ()
    items: list[Any] = field(default_factory=list)
    is_complete: bool = True


@dataclass(frozen=True)
class Tensor:
    """What flows through a net: the layers it has come through."""

    layers: tuple[Thing, ...] = ()
    is_complete: bool = True
    source: Any = None  # the data that went in
    is_tail_known: bool = True  # nothing unknown came after the last of the layers


@dataclass(eq=False)
class Function:
    """A function of the program; owner: the object whose method it is."""

    node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
    scope: Any
    owner: Any = None
    is_called: bool = False


@dataclass(eq=False)
class Class:
    """A class of the program; bases: what it derives from."""

    node: ast.ClassDef
    scope: Any
    bases: tuple[Any, ...]
    methods: dict[str, Function] = field(default_factory=dict)
    is_made: bool = False

    def method(self, name: str) -> Function | None:
        """A method of the class or of a base that is in the program too."""
        if name in self.methods:
            return self.methods[name]
        found = (base.method(name) for base in self.bases if isinstance(base, Class))
        return next((method for method in found if method), None)

    def library_bases(self) -> list[str]:
        """Paths of the classes of libraries that it derives from, over any number of steps."""
        paths = []
        for base in self.bases:
            paths += base.library_bases() if isinstance(base, Class) else [base.path] if isinstance(base, Ref) else []
        return paths


@dataclass(frozen=True)
class Method:
    """A method of something that the reader follows: `model.fit`, `x_train.reshape`."""

    owner: Any
    name: str


@dataclass(frozen=True)
class Event:
    """Something that a program does, in its order.

    Attributes:
        kind: "compile", "fit", "evaluate", "predict", "backward", "zero_grad", "step", "eval", "train", "forward",
            "loss", "flow" ...
        loops: the loops around it, from the outside.
        values: what it was called with.
    """

    kind: str
    line: int
    loops: tuple[Any, ...] = ()
    values: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Loop:
    """A loop of the program: its line and what it goes through."""

    line: int
    over: Any = None
    is_range: bool = False


def is_plain(value: Any) -> bool:
    """A number, a text, a truth value or None: something that a condition can be decided by."""
    return value is None or isinstance(value, bool | int | float | str)


def number(value: Any) -> float | None:
    """A number, where it is one."""
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def whole(value: Any) -> int | None:
    """A whole number, where it is one."""
    return (
        int(value) if isinstance(value, int | float) and not isinstance(value, bool) and value == int(value) else None
    )


_WORDS = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+|\d+")
_TRAIN, _TEST, _VAL = (
    ("train", "training", "tr", "trn"),
    ("test", "testing", "te", "tst"),
    ("val", "valid", "validation", "dev"),
)
_LABELS = ("y", "label", "labels", "target", "targets", "lbl", "lbls", "classes", "ys")
_IMAGES = ("x", "image", "images", "img", "imgs", "features", "feature", "pixels", "data", "inputs", "xs", "set")


def words_of(name: str) -> list[str]:
    """The words of a name, in lower case: "X_trainImages" -> x, train, images."""
    words = [word.lower() for word in _WORDS.findall(name)]
    split = []
    for word in words:
        found = re.fullmatch(r"([xy])(train|test|val|valid|tr|te)|(train|test|val|valid)([xy])", word)
        split += [part for part in found.groups() if part] if found else [word]
    return split


def split_of_name(name: str) -> str | None:
    """Which split a name speaks of, if just one."""
    words = words_of(name)
    found = [split for split, marks in (("train", _TRAIN), ("test", _TEST), ("val", _VAL)) if set(words) & set(marks)]
    return found[0] if len(found) == 1 else None


def part_of_name(name: str) -> str | None:
    """Whether a name speaks of "images" or "labels"."""
    words = words_of(name)
    if set(words) & set(_LABELS):
        return "labels"
    return "images" if set(words) & set(_IMAGES) else None


def guessed_data(name: str, base: str, line: int | None) -> Data | None:
    """What a name tells of data whose origin cannot be read; None where it tells nothing."""
    split, part = split_of_name(name), part_of_name(name)
    if name in ("x", "y", "X", "Y"):
        return Data(None, part or "images", base, line=line)
    if split is None or (part is None and words_of(name) not in ([split], ["x", split], [split, "df"])):
        return None
    return Data(split, part or "table", base, line=line)

"""What NumPy, pandas, scikit-learn, image readers and plain Python do to data."""

from __future__ import annotations

import ast
import itertools
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from fovea.diagnosis.script.call import Call
from fovea.diagnosis.script.names import DATASETS, plain
from fovea.diagnosis.script.values import (
    UNKNOWN,
    Data,
    Ref,
    Statistic,
    Tensor,
    Thing,
    guessed_data,
    number,
    part_of_name,
    split_of_name,
    whole,
)

if TYPE_CHECKING:
    from fovea.diagnosis.script.interpreter import Interpreter

SAME = {
    *("array", "asarray", "expand_dims", "reshape", "squeeze", "float32", "float64", "uint8", "astype", "copy"),
    *("ascontiguousarray", "transpose", "moveaxis", "swapaxes", "stack", "vstack", "hstack", "dstack", "concatenate"),
    *("cast", "convert_to_tensor", "constant", "from_numpy", "tensor", "as_tensor", "Tensor", "FloatTensor", "concat"),
    *("LongTensor", "Variable", "to_numpy", "as_matrix", "view", "ravel", "flatten", "float", "double", "long"),
    *("to", "cuda", "cpu", "numpy", "detach", "contiguous", "unsqueeze", "repeat", "tolist", "reset_index", "fillna"),
    *("DataFrame", "Series", "deepcopy", "sorted", "list", "tuple", "int", "clone", "type", "resize", "tile", "cat"),
    *("head", "dropna", "get_values", "requires_grad_", "permute", "int64", "append", "asfarray", "asanyarray"),
}
STATISTICS = {"mean": "mean", "std": "std", "max": "max", "amax": "max", "min": "min", "amin": "min", "average": "mean"}
_LOADERS = {
    "load",
    "loadtxt",
    "genfromtxt",
    "read_csv",
    "read_pickle",
    "loadmat",
    "fetch_openml",
    "fetch_mldata",
    "read_hdf",
}
_IMAGE_READERS = {
    "imread",
    "open",
    "load_img",
    "img_to_array",
    "read_image",
    "decode_jpeg",
    "decode_png",
    "decode_image",
}
_IMAGE_ROOTS = {"cv2", "PIL", "keras", "skimage", "scipy", "imageio", "tensorflow", "torchvision"}
_LABEL_COLUMNS = {"label", "labels", "class", "target", "y", "digit", "emotion", "category"}


def find_data(value: Any) -> Data | None:
    """The first data in a value or in a list of values."""
    if isinstance(value, Data):
        return value
    if isinstance(value, list | tuple):
        return next((found for item in value[:8] if (found := find_data(item)) is not None), None)
    return None


def named_dataset(interpreter: Interpreter, name: str, call: Call) -> Any:
    """`mnist.load_data()` and its like: ((images, labels), (images, labels))."""
    facts = DATASETS.get(plain(name))
    if facts is None:
        return UNKNOWN
    train, test, shape, classes, high, _, _ = facts
    kind = "column" if name.startswith("cifar") else "integer"
    halves = []
    for split, count in (("train", train), ("test", test)):
        common: dict[str, Any] = {"split": split, "base": name, "count": count, "dataset": plain(name)}
        common |= {"num_classes": classes, "line": call.line}
        images = Data(part="images", raw_high=high, shape=shape, **common)
        halves.append((images, Data(part="labels", label_kind=kind, **common)))
    return tuple(halves)


def call(interpreter: Interpreter, ref: Ref, call: Call) -> Any:
    """What a function of such a library gives."""
    name, data = ref.name, find_data(call.args)
    special = _SPECIAL.get(name)
    if special is not None:
        return special(interpreter, ref, call)
    if name in _IMAGE_READERS and ref.root in _IMAGE_ROOTS and data is None:
        high = None if "matplotlib" in ref.path else 255.0
        return Data(None, "images", f"{ref.root} images", raw_high=high, line=call.line)
    if name in _LOADERS and data is None:
        return _loaded(ref, call)
    if data is None:
        return UNKNOWN
    if name in STATISTICS:
        return Statistic(data, STATISTICS[name])
    if name == "normalize" and ref.root in ("keras", "tensorflow", "sklearn"):
        return replace(data.with_step("normalised to unit length"), is_standardised=True, scaled_line=call.line)
    if name in ("argmax",):
        return replace(data, label_kind="integer", label_width=None) if data.part == "labels" else UNKNOWN
    if name == "divide" and (by := number(call.get("x2", 1))):
        return data.arithmetic(ast.Div(), by, call.line)
    if name in SAME or name in _IMAGE_READERS:
        return joined_data(call.args) if name in ("concatenate", "vstack", "concat", "append") else data
    if name in ("one_hot", "get_dummies"):
        return one_hot(data, whole(call.first(("depth", "num_classes"), 1)), call.line)
    if name in ("shuffle", "permutation"):
        return tuple(call.args) if len(call.args) > 1 else data
    if ref.root == "numpy" and name in ("zeros_like", "ones_like"):
        return UNKNOWN
    return data.opaque(name)


def joined_data(values: Sequence[Any]) -> Any:
    """Data put together: of one split only if all parts are."""
    values = list(values[0]) if values and isinstance(values[0], list | tuple) else list(values)
    parts = [value for value in values if isinstance(value, Data)]
    if not parts:
        return UNKNOWN
    first = parts[0]
    if len({part.split for part in parts}) > 1:
        first = replace(first, split=None, count=None, base="several splits put together")
    if len({part.preprocessing for part in parts}) > 1:
        first = first.opaque("several preparations put together")
    return replace(first, count=None) if len(parts) > 1 else first


def one_hot(data: Data, width: int | None, line: int) -> Data:
    """Labels as one column a class."""
    kind = "one_hot" if data.label_kind != "one_hot" else "one_hot twice"
    return replace(data, part="labels", label_kind=kind, label_width=width or data.num_classes, line=line)


def _loaded(ref: Ref, call: Call) -> Any:
    text = next((value for value in call.values() if isinstance(value, str)), "")
    stem = text.replace("\\", "/").rsplit("/", 1)[-1].rsplit(".", 1)[0]
    split = split_of_name(stem) or next((found for name in call.hint if (found := split_of_name(name))), None)
    part = part_of_name(stem) or part_of_name(call.hint[0] if len(call.hint) == 1 else "") or "table"
    part = "table" if ref.name in ("read_csv", "genfromtxt", "loadtxt") and part == "images" else part
    known = next((name for name in ("mnist", "cifar10") if name in plain(stem)), None) if "fetch" in ref.name else None
    high = DATASETS[known][4] if known else None
    return Data(split, part, ref.name, raw_high=high, dataset=known, line=call.line)


def train_test_split(interpreter: Interpreter, ref: Ref, call: Call) -> Any:
    """Two parts of each array; what the names call the second part decides what it is."""
    parts: list[Any] = []
    arrays = [value for value in call.args if not isinstance(value, int | float)]
    for place, value in enumerate(arrays):
        names = call.hint[2 * place : 2 * place + 2]
        second = split_of_name(names[1]) if len(names) == 2 else None
        data = value if isinstance(value, Data) else None
        if data is None and len(names) == 2:
            data = guessed_data(names[0], f"line {call.line}", call.line)
        if data is None:
            parts += [UNKNOWN, UNKNOWN]
            continue
        interpreter.note("split", call.line, data=data)
        held_out = "val" if second != "test" else "test"
        drawn = replace(data, count=None, is_mixed=call.get("shuffle", None, True) is not False)
        parts += [replace(drawn, split="train"), replace(drawn, split=held_out)]
    return tuple(parts)


def _binarize(interpreter: Interpreter, ref: Ref, call: Call) -> Any:
    data = find_data(call.args)
    return UNKNOWN if data is None else one_hot(data, whole(call.first(("num_classes", "nb_classes"), 1)), call.line)


def _estimator(kind: str) -> Any:
    def made(interpreter: Interpreter, ref: Ref, call: Call) -> Any:
        return interpreter.make(kind, ref.path, call.line, call=call)

    return made


def _shuffled(interpreter: Interpreter, ref: Ref, call: Call) -> Any:
    mixed = [replace(value, is_mixed=True) if isinstance(value, Data) else value for value in call.args]
    return tuple(mixed) if len(mixed) > 1 else mixed[0] if mixed else UNKNOWN


def _int(interpreter: Interpreter, ref: Ref, call: Call) -> Any:
    value = call.get("x", 0)
    if isinstance(value, Data | Tensor):
        return value
    try:
        return abs(value) if ref.name == "abs" else float(value) if ref.name == "float" else int(value)
    except (TypeError, ValueError, OverflowError):
        return UNKNOWN


def _text(interpreter: Interpreter, ref: Ref, call: Call) -> Any:
    value = call.get("x", 0)
    return str(value) if isinstance(value, str | int | float) else UNKNOWN


def _length(interpreter: Interpreter, ref: Ref, call: Call) -> Any:
    value = call.get("x", 0)
    if isinstance(value, Data) and value.count is not None:
        return value.count
    return len(value) if isinstance(value, tuple | dict | str) else UNKNOWN


def _range(interpreter: Interpreter, ref: Ref, call: Call) -> Any:
    ends = [whole(value) for value in call.args]
    if not ends or any(end is None for end in ends) or ref.root == "numpy":
        return UNKNOWN
    try:
        return range(*[end for end in ends if end is not None])
    except (ValueError, TypeError):
        return UNKNOWN


def _enumerate(interpreter: Interpreter, ref: Ref, call: Call) -> Any:
    over = call.get("iterable", 0)
    if isinstance(over, list | tuple | range | dict):
        return list(enumerate(list(over)[:40]))
    return Thing("enumerated", "enumerate", call.line, {"over": over})


def _zip(interpreter: Interpreter, ref: Ref, call: Call) -> Any:
    if call.args and all(isinstance(value, list | tuple | range) for value in call.args):
        return list(zip(*call.args, strict=False))
    return UNKNOWN


def _same_iterable(interpreter: Interpreter, ref: Ref, call: Call) -> Any:
    return call.get("iterable", 0)


def _path(interpreter: Interpreter, ref: Ref, call: Call) -> Any:
    return "/".join(value if isinstance(value, str) else "?" for value in call.args)


def _extremum(interpreter: Interpreter, ref: Ref, call: Call) -> Any:
    data = find_data(call.args)
    if data is not None:
        return Statistic(data, ref.name)
    values = [number(value) for value in call.args]
    found = [value for value in values if value is not None]
    return UNKNOWN if len(found) < 2 or len(found) < len(values) else {"max": max, "min": min}[ref.name](found)


_SPECIAL: dict[str, Any] = {
    "train_test_split": train_test_split,
    "to_categorical": _binarize,
    "label_binarize": _binarize,
    "shuffle": _shuffled,
    "int": _int,
    "float": _int,
    "abs": _int,
    "str": _text,
    "len": _length,
    "range": _range,
    "xrange": _range,
    "enumerate": _enumerate,
    "zip": _zip,
    "tqdm": _same_iterable,
    "tqdm_notebook": _same_iterable,
    "iter": _same_iterable,
    "reversed": _same_iterable,
    "join": _path,
    "max": _extremum,
    "min": _extremum,
    "StandardScaler": _estimator("scaler"),
    "MinMaxScaler": _estimator("scaler"),
    "RobustScaler": _estimator("scaler"),
    "LabelBinarizer": _estimator("binarizer"),
    "OneHotEncoder": _estimator("binarizer"),
    "LabelEncoder": _estimator("encoder"),
    "SMOTE": _estimator("sampler"),
    "RandomOverSampler": _estimator("sampler"),
    "ADASYN": _estimator("sampler"),
    "KFold": _estimator("folds"),
    "StratifiedKFold": _estimator("folds"),
    "ShuffleSplit": _estimator("folds"),
    "StratifiedShuffleSplit": _estimator("folds"),
    "ArgumentParser": _estimator("parser"),
}


def method(interpreter: Interpreter, data: Data, name: str, call: Call) -> Any:
    """A method of data: `x.astype("float32")`, `x.mean(axis=0)`, `train.drop("label", axis=1)`."""
    if name in STATISTICS:
        return Statistic(data, STATISTICS[name])
    if name in ("reshape", "view"):
        return reshaped(data, call)
    if name == "astype" and data.part != "labels" and call.args and call.args[0] in ("uint8", "int", "int32"):
        return data
    if name == "drop":
        return replace(data, part="images")
    if name in ("pop",):
        return replace(data, part="labels")
    if name in ("div", "div_", "truediv", "mul", "sub") and (by := number(call.get("other", 0))) is not None:
        op = {"d": ast.Div(), "t": ast.Div(), "m": ast.Mult(), "s": ast.Sub()}[name[0]]
        return data.arithmetic(op, by, call.line)
    if name in ("sum", "any", "all", "count", "value_counts", "unique", "isnull", "info", "describe", "size", "item"):
        return UNKNOWN
    if name in ("argmax", "idxmax"):
        return replace(data, label_kind="integer", label_width=None) if data.part == "labels" else UNKNOWN
    if name in ("map", "batch", "shuffle", "cache", "prefetch", "take", "skip", "repeat"):
        return data
    if name in SAME or name in ("sample", "iterrows", "set_index", "values"):
        return data
    return data.opaque(name)


def reshaped(data: Data, call: Call) -> Data:
    """After reshape: pixels of a table that become square images run from 0 to 255."""
    shape = call.args[0] if call.args and isinstance(call.args[0], tuple | list) else tuple(call.args)
    sizes = [whole(size) for size in shape]
    is_image = any(a == b and a is not None and a >= 16 for a, b in itertools.pairwise(sizes))
    if is_image and data.raw_high is None and data.base in ("read_csv", "loadtxt", "genfromtxt"):
        data = replace(data, raw_high=255.0, part="images")
    known = tuple(size for size in sizes[1:] if size is not None)
    return replace(data, shape=known) if is_image and len(known) == len(sizes) - 1 else data


def column_of(data: Data, index: Any) -> Data:
    """A column or some columns of a table."""
    if isinstance(index, str):
        is_label = index.lower() in _LABEL_COLUMNS
        return replace(data, part="labels", label_kind="integer") if is_label else replace(data, part="images")
    if isinstance(index, tuple) and len(index) > 1 and data.part == "table":
        if index[1] == 0:
            return replace(data, part="labels", label_kind="integer")
        if isinstance(index[1], slice):
            return replace(data, part="images")
    return data

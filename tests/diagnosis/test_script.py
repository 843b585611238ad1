"""The reader of programs: small programs, healthy and faulty, in the spellings of ten years; and what is no program."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from fovea.diagnosis.record import Record
from fovea.diagnosis.script.interpreter import Interpreter
from fovea.diagnosis.script.reader import examine_program, read_program, read_trainings
from fovea.diagnosis.script.repair import parse_text
from fovea.diagnosis.script.values import UNKNOWN, Data, part_of_name, split_of_name
from fovea.errors import DataError
from fovea.evaluation.findings import Finding
from tests.diagnosis import programs_keras, programs_old, programs_real, programs_torch

_GROUPS = (programs_keras, programs_torch, programs_old, programs_real)
HEALTHY = {name: text for group in _GROUPS for name, text in group.HEALTHY.items()}
FAULTY = {name: text for group in _GROUPS for name, text in group.FAULTY.items()}


def examined(folder: Path, text: str, name: str = "program.py") -> tuple[Record, list[Finding]]:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return examine_program(path)


def read(folder: Path, text: str) -> Record:
    path = folder / "program.py"
    path.write_text(text, encoding="utf-8")
    return read_program(path)


def notebook(*cells: str) -> str:
    written = [{"cell_type": "code", "source": cell.splitlines(keepends=True), "outputs": []} for cell in cells]
    written.insert(1, {"cell_type": "markdown", "source": ["# Training ("]})
    return json.dumps({"cells": written, "nbformat": 4, "nbformat_minor": 5, "metadata": {}})


@pytest.mark.parametrize("name", HEALTHY)
def test_healthy_programs_have_no_severe_finding(name: str, tmp_path: Path) -> None:
    record, findings = examined(tmp_path, HEALTHY[name])
    assert [finding.id for finding in findings if finding.severity == "severe"] == []
    known = ("Python 2", "no classifier", "not in this file")
    assert not [note for note in record.unseen if not any(words in note for words in known)]
    if "python 2" not in name:
        assert [finding.id for finding in findings if finding.severity == "warning"] == []


@pytest.mark.parametrize("name", FAULTY)
def test_faulty_programs_have_their_findings_on_their_lines(name: str, tmp_path: Path) -> None:
    text = FAULTY[name]
    wanted = {
        (rule, number) for number, line in enumerate(text.split("\n"), 1) for rule in re.findall(r"#: (\S+)", line)
    }
    _, findings = examined(tmp_path, text)
    assert wanted
    assert wanted <= {(finding.id, finding.line) for finding in findings}
    if len(wanted) == 1:
        assert findings[0].id == next(iter(wanted))[0]


def test_gradients_for_their_own_sake_are_no_training(tmp_path: Path) -> None:
    record, findings = examined(tmp_path, programs_real.GRADIENTS_ALONE)
    assert not findings
    assert any("no fit" in note for note in record.unseen)


def test_a_loop_around_tensorflows_tape(tmp_path: Path) -> None:
    record = read(tmp_path, programs_real.HEALTHY["a tape"])
    training = record.training
    assert (training.framework, training.optimizer, training.learning_rate) == ("tf.keras", "adam", 0.001)
    assert (training.loss, training.from_logits) == ("sparsecategoricalcrossentropy", True)
    assert (training.epochs, training.batch_size, record.splits["train"].maximum) == (5, 32, 1.0)
    assert (record.net.is_complete, record.net.last_activation, record.net.output_units) == (True, "linear", 10)


def test_the_same_softmax_in_three_spellings(tmp_path: Path) -> None:
    for name in ("keras.Input in a list, softmax as a layer", "softmax as an activation layer"):
        record = read(tmp_path, programs_real.HEALTHY[name])
        assert (record.net.is_complete, record.net.last_activation, record.net.output_units) == (True, "softmax", 10)


def test_what_of_a_training_was_not_seen_is_named(tmp_path: Path) -> None:
    outside = "from nets import make\nmodel = make()\nmodel.compile('adam', 'mse')\nmodel.fit(x, y, epochs=3)\n"
    record = read(tmp_path, outside)
    assert [note for note in record.unseen if note.startswith("the net")]


def test_another_librarys_fit_of_the_same_name_is_not_keras(tmp_path: Path) -> None:
    text = "import torch\nfrom poutyne import Model\nModel(torch.nn.Linear(3, 2), 'sgd').fit_generator(a)\n"
    assert not examined(tmp_path, text)[1]


def test_augmentation_as_a_net_is_followed(tmp_path: Path) -> None:
    record = read(tmp_path, programs_real.HEALTHY["augmentation as a net, on the data"])
    assert [record.splits[name].is_augmented for name in ("train", "val")] == [True, False]
    assert record.splits["train"].maximum == pytest.approx(1.0)


def test_there_are_enough_programs() -> None:
    assert len(HEALTHY) + len(FAULTY) >= 60


def test_nothing_of_a_program_is_executed(tmp_path: Path) -> None:
    mark = tmp_path / "executed"
    text = f"open({str(mark)!r}, 'w').write('x')\nimport os\nos.system('touch {mark}')\n__import__('{mark.name}')\n"
    read(tmp_path, text)
    assert not mark.exists()


def test_facts_of_a_program(tmp_path: Path) -> None:
    record = read(tmp_path, HEALTHY["standardised cifar"])
    training, net = record.training, record.net
    assert (training.framework, training.optimizer, training.learning_rate) == ("tf.keras", "sgd", 0.1)
    assert (training.momentum, training.batch_size, training.epochs) == (0.9, 128, 30)
    assert (training.loss, training.from_logits, training.metrics) == ("categoricalcrossentropy", False, ("accuracy",))
    assert training.validation_source == "split"
    assert [layer.units for layer in net.layers if layer.kind == "conv2d"] == [32, 64, 128]
    assert [layer.activation for layer in net.layers if layer.kind == "conv2d"] == ["relu"] * 3
    assert (net.is_complete, net.output_units, net.last_activation) == (True, 10, "softmax")
    train, test = record.splits["train"], record.splits["test"]
    assert train.preprocessing == test.preprocessing == ("minus the mean", "divided by the std")
    assert (train.label_kind, train.label_width, train.num_classes) == ("one_hot", 10, 10)
    assert record.dataset == "cifar10"


def test_scales_of_known_data_are_computed(tmp_path: Path) -> None:
    record = read(tmp_path, HEALTHY["plain loop"])
    train = record.splits["train"]
    assert train.minimum == pytest.approx(-0.1307 / 0.3081)
    assert train.maximum == pytest.approx((1 - 0.1307) / 0.3081)
    assert train.mean == pytest.approx(0, abs=0.01)
    assert train.std == pytest.approx(1, abs=0.01)
    assert (record.training.epochs, record.training.batch_size, train.is_shuffled) == (5, 64, True)
    assert (record.training.optimizer, record.training.learning_rate, record.training.momentum) == ("sgd", 0.05, 0.9)


def test_a_loop_in_functions_with_arguments_of_the_command_line(tmp_path: Path) -> None:
    record = read(tmp_path, HEALTHY["functions and arguments"])
    training = record.training
    assert (training.optimizer, training.learning_rate, training.batch_size, training.epochs) == (
        "adadelta",
        1.0,
        64,
        14,
    )
    assert (training.loss, record.net.last_activation, record.net.output_units) == ("nll", "logsoftmax", 10)
    assert record.splits["test"].count == 10_000


def test_blocks_lists_and_transforms(tmp_path: Path) -> None:
    record = read(tmp_path, HEALTHY["residual blocks, crops on training only"])
    assert [layer.kind for layer in record.net.layers].count("batchnormalization") == 3
    assert record.net.is_complete
    assert record.training.augmentation == {"horizontal_flip": True}
    assert (record.splits["train"].is_augmented, record.splits["test"].is_augmented) == (True, False)
    assert record.training.weight_decay == 5e-4


def test_frozen_and_continued_on_purpose(tmp_path: Path) -> None:
    record = read(tmp_path, HEALTHY["transfer with frozen layers, then fine-tuning"])
    assert record.training.is_continued
    assert record.training.num_fits == 2
    assert record.net.layers[0].kind == "application"
    assert record.net.is_complete is False
    torch_record = read(tmp_path, HEALTHY["transfer, phases in a dictionary"])
    assert [layer.is_trainable for layer in torch_record.net.layers] == [False, True]


def test_lightning_and_skorch(tmp_path: Path) -> None:
    lit = read(tmp_path, HEALTHY["lightning"])
    assert (lit.training.loss, lit.training.optimizer, lit.training.epochs) == ("crossentropy", "adam", 3)
    assert [layer.units for layer in lit.net.layers if layer.kind == "dense"] == [64, 10]
    skorch = read(tmp_path, HEALTHY["skorch"])
    assert (skorch.training.epochs, skorch.training.learning_rate, skorch.net.last_activation) == (10, 0.1, "softmax")


def test_several_trainings_are_several_records(tmp_path: Path) -> None:
    path = tmp_path / "p4.py"
    path.write_text(programs_old.FAULTY["P4"], encoding="utf-8")
    dense, conv = read_trainings(path)
    assert (dense.splits["train"].maximum, dense.splits["test"].maximum) == (255, 1)
    assert (conv.splits["train"].maximum, conv.splits["test"].maximum) == (1, 1)
    assert [layer.kind for layer in read_program(path).net.layers] == ["flatten", "dense", "dense"]


def test_notebooks_with_magics(tmp_path: Path) -> None:
    cells = (
        "%matplotlib inline\n!pip install keras\nimport keras\nfrom keras import Sequential, layers\nkeras?\n",
        "%%bash\nls -l (\n",
        "files = !ls\n(x, y), _ = keras.datasets.mnist.load_data()\nx[:3]",
        "model = Sequential([layers.Flatten(),\n    layers.Dense(10, activation='relu')])\n"
        "model.compile('adam', 'sparse_categorical_crossentropy')\n%time model.fit(x / 255, y, epochs=2)\n"
        "%timeit -n 1 print(1)",
    )
    record, findings = examined(tmp_path, notebook(*cells), "book.ipynb")
    assert [finding.id for finding in findings] == ["wrong-last-activation"]
    assert findings[0].line is not None
    assert record.place_of(findings[0].line) == "code cell 4, line 2"
    assert record.unseen == ()


def test_notebooks_of_format_3(tmp_path: Path) -> None:
    cells = [{"cell_type": "code", "input": ["from keras.models import Sequential\n", "m = Sequential()\n"]}]
    cells.append({"cell_type": "code", "input": ["m.compile('adam', 'mse')\nm.fit(x, y, nb_epoch=3)"]})
    record, _ = examined(tmp_path, json.dumps({"worksheets": [{"cells": cells}], "nbformat": 3}), "old.ipynb")
    assert (record.training.epochs, record.training.loss) == (3, "meansquarederror")


@pytest.mark.parametrize("text", ["", "# nothing\n", "print('hello')\n", "def f(x):\n    return f(x)\nf(1)\n"])
def test_programs_without_training_say_so(text: str, tmp_path: Path) -> None:
    record, findings = examined(tmp_path, text)
    assert findings == []
    assert "a training" in record.unseen[0]


def test_what_is_no_program_is_one_message(tmp_path: Path) -> None:
    binary = tmp_path / "weights.py"
    binary.write_bytes(b"\x89HDF\r\n\x00\x00" + bytes(range(256)))
    with pytest.raises(DataError, match="no text"):
        read_program(binary)
    broken = tmp_path / "book.ipynb"
    for content in ("{", "[]", '{"cells": 3}', '"x"', '{"cells": [1]}'):
        broken.write_text(content)
        with pytest.raises(DataError, match="no notebook"):
            read_program(broken)
    with pytest.raises(DataError, match="cannot be read"):
        read_program(tmp_path / "absent.py")


def test_a_program_of_five_megabytes_is_read_in_part(tmp_path: Path) -> None:
    text = HEALTHY["functional mnist"] + "x = [1, 2, 3]\n" * 400_000
    record, findings = examined(tmp_path, text)
    assert record.training.epochs == 12
    assert findings == []
    assert "long" in record.unseen[0]


def test_syntax_errors_leave_the_rest(tmp_path: Path) -> None:
    lines = FAULTY["raw pixels"].split("\n")
    for place in range(1, len(lines)):
        broken = [*lines[:place], "x = = (", *lines[place:]]
        record, findings = examined(tmp_path, "\n".join(broken))
        assert f"line {place + 1}: no valid Python" in record.unseen
        assert "inputs-not-scaled" in [finding.id for finding in findings], place


def test_absences_are_not_claimed_where_lines_could_not_be_read(tmp_path: Path) -> None:
    text = FAULTY["gradients kept"].replace(
        "        loss = criterion", "        optimizer.zero_grad(\n        loss = criterion"
    )
    record, findings = examined(tmp_path, text)
    assert record.unseen
    assert "gradients-never-cleared" not in [finding.id for finding in findings]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("print 'a', 1", "print('a', 1)"),
        ("print", "print()"),
        ("print >>f, 'a'", "print( 'a')"),
        ("if x: print 'a'", "if x: print('a')"),
        ("raise ValueError, 'bad'", "raise ValueError('bad')"),
        ("x = 0777 + 10L", "x = 0o777 + 10"),
        ("if a <> b: pass", "if a != b: pass"),
        ("s = `x`", "s = repr(x)"),
    ],
)
def test_python_2_lines(old: str, new: str) -> None:
    tree, left_out, _ = parse_text(f"print 'python 2'\n{old}\n")
    wanted = ast.parse(f"print('python 2')\n{new}\n")
    assert ast.dump(tree) == ast.dump(wanted)
    assert not [note for note in left_out if "no valid" in note]


def test_mixed_tabs_and_blocks_of_python_2() -> None:
    text = "class A:\n\tdef f(self):\n        \tprint 'x'\n\ttry:\n\t\tpass\n\texcept E, e:\n\t\tprint e\n"
    tree, left_out, is_old = parse_text(text)
    assert is_old
    assert isinstance(tree.body[0], ast.ClassDef)
    assert not [note for note in left_out if "no valid" in note]


@pytest.mark.parametrize(
    ("name", "split", "part"),
    [
        ("x_train", "train", "images"),
        ("X_test", "test", "images"),
        ("trainX", "train", "images"),
        ("ytest", "test", "labels"),
        ("train_labels", "train", "labels"),
        ("validation_images", "val", "images"),
        ("X_val", "val", "images"),
        ("contest", None, None),
        ("retrained", None, None),
        ("latest_value", None, None),
        ("train_test", None, None),
    ],
)
def test_what_names_tell(name: str, split: str | None, part: str | None) -> None:
    assert (split_of_name(name), part_of_name(name)) == (split, part)


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("2 * 3 + 1", 7),
        ("1. / 255", 1 / 255),
        ("(1, 2) + (3,)", (1, 2, 3)),
        ("-2 ** 2", -4),
        ("10 ** -3", 0.001),
        ("[1, 2][1]", 2),
        ("'a' + 'b'", "ab"),
        ("1 if True else 2", 1),
        ("1 if unknown else 2", UNKNOWN),
        ("{'lr': .1}['lr']", 0.1),
        ("[x * 2 for x in (1, 2)]", [2, 4]),
        ("9 ** 9 ** 9", UNKNOWN),
        ("'x' * 10 ** 9", UNKNOWN),
        ("1 / 0", UNKNOWN),
        ("float('1e-3')", 0.001),
        ("not 0", True),
        ("3 in (1, 2)", False),
        ("None is None", True),
        ("(lambda a, b=2: a * b)(4)", 8),
        ("f'{1}-{x}'", "1-?"),
    ],
)
def test_constants(expression: str, value: object) -> None:
    found = Interpreter().evaluate(ast.parse(expression, mode="eval").body)
    assert found is UNKNOWN if value is UNKNOWN else found == value


@pytest.mark.parametrize(
    ("program", "factor", "offset"),
    [
        ("x = x / 255", 1 / 255, 0),
        ("x = x * (1. / 255)", 1 / 255, 0),
        ("x /= 255.0", 1 / 255, 0),
        ("x = (x - 127.5) / 127.5", 1 / 127.5, -1),
        ("x = x.astype('float32') / 255; x = x * 2 - 1", 2 / 255, -1),
        ("x = 255 - x", -1, 255),
        ("x = np.divide(x, 255.)", 1 / 255, 0),
        ("def f(a):\n    a = a / 255\n    return a\nx = f(x)", 1 / 255, 0),
        ("for i in range(3):\n    y = 1\nx = x / 255", 1 / 255, 0),
        ("if True:\n    x = x / 255\nelse:\n    x = x / 9", 1 / 255, 0),
        ("if unknown:\n    x = x.reshape(3, 1)\nelse:\n    x = x.reshape(1, 3)\nx = x / 255", 1 / 255, 0),
        ("x, y = x / 255, 1", 1 / 255, 0),
        ("x = np.array([x])[0]; x = np.expand_dims(x / 255, -1)", 1 / 255, 0),
    ],
)
def test_arithmetic_on_data(program: str, factor: float, offset: float) -> None:
    interpreter = Interpreter()
    interpreter.run(ast.parse("import numpy as np").body)
    interpreter.scope.names["x"] = Data("train", "images", "test", raw_high=255.0)
    interpreter.run(ast.parse(program).body)
    found = interpreter.scope.names["x"]
    assert isinstance(found, Data)
    assert not found.is_opaque
    assert (found.factor, found.offset) == (pytest.approx(factor), pytest.approx(offset))


def test_what_depends_on_an_unknown_condition_is_not_known() -> None:
    interpreter = Interpreter()
    interpreter.scope.names["x"] = Data("train", "images", "test", raw_high=255.0)
    interpreter.run(ast.parse("if unknown:\n    x = x / 255\n").body)
    assert interpreter.scope.names["x"].is_opaque


def test_old_and_new_spellings_say_the_same(tmp_path: Path) -> None:
    old = """
from keras.models import Sequential
from keras.layers import Dense, Dropout
model = Sequential()
model.add(Dense(output_dim=64, input_dim=784, init='he_normal', activation='relu'))
model.add(Dropout(p=0.3))
model.add(Dense(10, activation='softmax'))
model.compile(loss='categorical_crossentropy', optimizer='adam')
model.fit(x_train, y_train, nb_epoch=7, batch_size=16)
"""
    new = """
from keras import layers, models
model = models.Sequential([layers.Dense(units=64, kernel_initializer='he_normal', activation='relu'),
                           layers.Dropout(rate=0.3), layers.Dense(10, activation='softmax')])
model.compile(loss='categorical_crossentropy', optimizer='adam')
model.fit(x_train, y_train, epochs=7, batch_size=16)
"""
    first, second = read(tmp_path, old), read(tmp_path, new)
    assert [layer.units for layer in first.net.layers] == [layer.units for layer in second.net.layers]
    assert first.net.layers[0].initializer == second.net.layers[0].initializer == "henormal"
    assert first.net.layers[1].rate == second.net.layers[1].rate == 0.3
    assert first.training.epochs == second.training.epochs == 7
    removed = {mention.what for mention in first.mentions}
    assert {"removed-argument:init", "removed-argument:p", "removed-argument:output_dim"} <= removed
    assert "removed-argument:nb_epoch" in removed
    assert second.mentions == ()


def test_500_lines_take_little_work() -> None:
    """The work, counted in nodes of the tree: it must grow with the length of a program, not with its square."""
    text = HEALTHY["functional mnist"]
    counts = []
    for times in (5, 25):
        interpreter = Interpreter()
        interpreter.run(ast.parse(text * times).body)
        counts.append(interpreter.nodes)
    assert counts[1] == pytest.approx(5 * counts[0], rel=0.05)


def test_reading_a_program_loads_nothing_heavy() -> None:
    code = "import sys, fovea.diagnosis.script.reader\nprint({'torch', 'sklearn', 'scipy'} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"

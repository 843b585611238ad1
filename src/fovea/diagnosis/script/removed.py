"""What today's libraries refuse or ignore, and what to write instead: Keras 3, NumPy 2, pandas 2, TensorFlow 2.

The rows on Keras are from its history: 1.x to 2.0 (March 2017) renamed arguments, 2.3 (September 2019) renamed metrics,
3.0 (November 2023) took out what had been kept for old programs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fovea.diagnosis.record import Mention
from fovea.diagnosis.script.call import Call
from fovea.diagnosis.script.names import CALLBACKS, KERAS_LAYERS, OPTIMIZERS, plain
from fovea.diagnosis.script.values import Ref, whole

if TYPE_CHECKING:
    from fovea.diagnosis.script.interpreter import Interpreter

OPTIMIZER_ARGUMENTS = {"lr": "learning_rate="}
IGNORED_OPTIMIZER_ARGUMENTS = {"decay": "learning_rate=keras.optimizers.schedules.InverseTimeDecay(...)"}
LAYER_ARGUMENTS = {
    "init": "kernel_initializer=",
    "border_mode": "padding=",
    "subsample": "strides=",
    "nb_filter": "filters=",
    "nb_row": "kernel_size=",
    "nb_col": "kernel_size=",
    "dim_ordering": "data_format=",
    "W_regularizer": "kernel_regularizer=",
    "b_regularizer": "bias_regularizer=",
    "W_constraint": "kernel_constraint=",
    "bias": "use_bias=",
    "p": "rate=",
    "output_dim": "units=",
    "mode": "nothing (batch normalization has one mode)",
    "inner_activation": "recurrent_activation=",
}
MODEL_ARGUMENTS = {"input": "inputs=", "output": "outputs="}
FIT_ARGUMENTS = {
    "nb_epoch": "epochs=",
    "samples_per_epoch": "steps_per_epoch= (batches, not images)",
    "nb_val_samples": "validation_steps= (batches, not images)",
    "show_accuracy": 'metrics=["accuracy"] in compile',
    "nb_worker": "workers= of the PyDataset",
    "workers": "workers= of the PyDataset",
    "use_multiprocessing": "use_multiprocessing= of the PyDataset",
    "max_queue_size": "max_queue_size= of the PyDataset",
    "max_q_size": "max_queue_size= of the PyDataset",
    "pickle_safe": "use_multiprocessing= of the PyDataset",
}
CALLBACK_ARGUMENTS = {"period": "save_freq=", "epsilon": "min_delta="}
METHODS = {
    "fit_generator": "fit",
    "evaluate_generator": "evaluate",
    "predict_generator": "predict",
    "predict_classes": "numpy.argmax(model.predict(x), axis=-1)",
    "predict_proba": "predict",
    "to_yaml": "to_json",
}
# beginnings of imported names -> what to import
IMPORTS = {
    "keras.utils.np_utils": "keras.utils.to_categorical",
    "keras.utils.vis_utils": "keras.utils.plot_model",
    "keras.utils.generic_utils": "keras.utils",
    "keras.utils.multi_gpu_model": "keras.distribution",
    "keras.utils.training_utils": "keras.distribution",
    "keras.utils.visualize_util": "keras.utils.plot_model",
    "keras.layers.core": "keras.layers",
    "keras.layers.convolutional": "keras.layers",
    "keras.layers.normalization": "keras.layers",
    "keras.layers.pooling": "keras.layers",
    "keras.layers.advanced_activations": "keras.layers",
    "keras.layers.merge": "keras.layers",
    "keras.layers.noise": "keras.layers",
    "keras.layers.embeddings": "keras.layers",
    "keras.layers.recurrent": "keras.layers",
    "keras.layers.wrappers": "keras.layers",
    "keras.layers.local": "keras.layers",
    "keras.layers.containers": "keras.Sequential",
    "keras.layers.Merge": "keras.layers.Concatenate",
    "keras.layers.merge.": "keras.layers",
    "keras.layers.MaxoutDense": "keras.layers.Dense",
    "keras.layers.LocallyConnected2D": "keras.layers.Conv2D",
    "keras.layers.CuDNNLSTM": "keras.layers.LSTM",
    "keras.layers.experimental": "keras.layers",
    "keras.preprocessing.image.ImageDataGenerator": "keras.layers.RandomRotation and its like, or tf.keras",
    "keras.preprocessing.image.NumpyArrayIterator": "keras.utils.PyDataset",
    "keras.preprocessing.image": "keras.utils",
    "keras.engine": "keras",
    "keras.wrappers.scikit_learn": "scikeras.wrappers",
    "keras.optimizers.legacy": "keras.optimizers",
    "keras.legacy.interfaces": "keras",
    "keras.callbacks.callbacks": "keras.callbacks",
    "keras.applications.imagenet_utils.decode_predictions": "",
    "keras.backend.tensorflow_backend": "keras.backend",
    "keras_contrib": "keras.layers",
    "tensorflow.contrib": "keras",
    "tensorflow.examples.tutorials": "keras.datasets",
    "scipy.misc.imread": "PIL.Image.open",
    "scipy.misc.imresize": "PIL.Image.resize",
    "scipy.misc.imsave": "PIL.Image.save",
    "scipy.misc.toimage": "PIL.Image.fromarray",
    "sklearn.cross_validation": "sklearn.model_selection",
    "sklearn.grid_search": "sklearn.model_selection",
    "sklearn.externals": "joblib",
    "sklearn.datasets.fetch_mldata": "sklearn.datasets.fetch_openml",
}
_STILL_THERE = {"load_img", "img_to_array", "array_to_img", "save_img", "smart_resize", "image", "*"}
TENSORFLOW_1 = {
    *("Session", "placeholder", "ConfigProto", "GPUOptions", "set_random_seed", "global_variables_initializer"),
    *("InteractiveSession", "get_default_graph", "reset_default_graph", "GraphDef", "app", "flags"),
}
DATA_METHODS = {"as_matrix": "to_numpy()", "get_value": "loc", "ix": "loc or iloc"}
NUMPY_NAMES = {"float": "float", "int": "int", "bool": "bool", "object": "object", "str": "str"}
OLD_BACKEND = {"set_image_dim_ordering": "set_image_data_format", "image_dim_ordering": "image_data_format"}


def say(interpreter: Interpreter, what: str, line: int, detail: str, instead: str = "") -> None:
    """Note something that the program says literally, once a line."""
    mention = Mention(what, line, detail, instead)
    if mention not in interpreter.mentions:
        interpreter.mentions.append(mention)


def check_call(interpreter: Interpreter, ref: Ref, call: Call) -> None:
    """Arguments and functions of Keras that are gone."""
    name = ref.name
    if ref.root == "tensorflow" and ref.path.split(".")[1:2] and name in TENSORFLOW_1 and ".compat" not in ref.path:
        say(
            interpreter,
            f"removed-call:{name}",
            call.line,
            f"tf.{name}",
            "TensorFlow 2 without sessions, or tf.compat.v1",
        )
    if ref.root != "keras":
        return
    if plain(name) in OPTIMIZERS:
        _arguments(interpreter, call, name, OPTIMIZER_ARGUMENTS, "removed")
        _arguments(interpreter, call, name, IGNORED_OPTIMIZER_ARGUMENTS, "ignored")
    elif name in KERAS_LAYERS:
        table = {key: value for key, value in LAYER_ARGUMENTS.items() if name != "Embedding" or key != "output_dim"}
        table = table if name == "BatchNormalization" else {key: value for key, value in table.items() if key != "mode"}
        _arguments(interpreter, call, name, table, "removed")
        _positional_kernel(interpreter, call, name)
    elif name in CALLBACKS:
        kind = "ignored" if name == "ReduceLROnPlateau" else "removed"  # that one takes anything
        _arguments(interpreter, call, name, CALLBACK_ARGUMENTS, kind)
        _checkpoint_name(interpreter, call, name)
    elif name == "Model":
        _arguments(interpreter, call, name, MODEL_ARGUMENTS, "removed")
    elif name in OLD_BACKEND:
        say(interpreter, f"removed-call:{name}", call.line, name, OLD_BACKEND[name])


def _arguments(interpreter: Interpreter, call: Call, name: str, table: dict[str, str], kind: str) -> None:
    for argument, instead in table.items():
        if argument in call.keywords:
            line = call.line_of(argument)
            say(interpreter, f"{kind}-argument:{argument}", line, f"{name}({argument}=...)", instead)


def _positional_kernel(interpreter: Interpreter, call: Call, name: str) -> None:
    """`Convolution2D(32, 3, 3)`: rows and columns of the kernel once, kernel and stride today."""
    sizes = [whole(value) for value in call.args[1:3]]
    if name in ("Conv2D", "Convolution2D") and len(sizes) == 2 and None not in sizes and sizes[0] == sizes[1] != 1:
        detail = f"{name}({', '.join(['...', *map(str, sizes)])}): the third number is the stride today"
        instead = f"{name}(..., ({sizes[0]}, {sizes[1]}))"
        say(interpreter, "changed-argument:stride", call.line, detail, instead)


def _checkpoint_name(interpreter: Interpreter, call: Call, name: str) -> None:
    path = call.get("filepath", 0)
    if name != "ModelCheckpoint" or not isinstance(path, str) or path.endswith("?"):
        return
    only_weights = call.get("save_weights_only") is True
    ends = (".weights.h5",) if only_weights else (".keras", ".h5")
    if not path.endswith(ends):
        say(
            interpreter,
            "removed-argument:filepath",
            call.line,
            f"ModelCheckpoint({path!r})",
            f"a name ending in {ends[0]}",
        )


def check_method(interpreter: Interpreter, name: str, call: Call) -> None:
    """Methods of Keras' models that are gone, and their arguments."""
    if name in METHODS:
        say(interpreter, f"removed-call:{name}", call.line, f"{name}()", METHODS[name])
    if name in ("fit", "fit_generator", "evaluate", "predict", "evaluate_generator", "predict_generator"):
        _arguments(interpreter, call, name, FIT_ARGUMENTS, "removed")
    path = call.get("filepath", 0)
    if name == "save_weights" and isinstance(path, str) and not path.endswith((".weights.h5", "?")):
        detail = f"save_weights({path!r})"
        say(interpreter, "removed-argument:filepath", call.line, detail, "a name ending in .weights.h5")


def check_imports(interpreter: Interpreter) -> None:
    """Modules that are gone. tf.keras of TensorFlow 2.16 and later is Keras 3; its legacy generator is still there."""
    for name, line in interpreter.imports:
        path = name.replace("tensorflow.keras", "keras").replace("tensorflow.python.keras", "keras")
        is_tf = path != name
        for start, instead in IMPORTS.items():
            if not (path == start or path.startswith(start + ".")):
                continue
            last = path.rsplit(".", 1)[-1]
            kept = start == "keras.preprocessing.image" and (is_tf or last in _STILL_THERE or path == start)
            if instead and not kept and not (is_tf and "ImageDataGenerator" in path):
                say(interpreter, f"removed-import:{start}", line, name, instead)
            break


def check_attribute(interpreter: Interpreter, path: str, line: int) -> None:
    """Names of a library that are gone: `np.float`, `keras.utils.np_utils`."""
    root, _, name = path.rpartition(".")
    if root == "numpy" and name in NUMPY_NAMES:
        say(interpreter, f"removed-name:np.{name}", line, f"np.{name}", NUMPY_NAMES[name])
    elif path in ("keras.utils.np_utils", "keras.layers.normalization", "keras.layers.convolutional"):
        say(interpreter, f"removed-import:{path}", line, path, IMPORTS[path])
    elif root == "sklearn" and name == "cross_validation":
        say(interpreter, "removed-import:sklearn.cross_validation", line, path, "sklearn.model_selection")


def check_data_method(interpreter: Interpreter, name: str, line: int) -> Any:
    """Methods of tables that are gone."""
    if name in DATA_METHODS:
        say(interpreter, f"removed-call:{name}", line, f"{name}", DATA_METHODS[name])

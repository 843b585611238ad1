"""What PyTorch, torchvision, Lightning and skorch make and do: modules, transforms, loaders, and the loop's calls."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fovea.diagnosis.script import arrays, torch_data
from fovea.diagnosis.script.call import Call
from fovea.diagnosis.script.keras import after
from fovea.diagnosis.script.loops import elements
from fovea.diagnosis.script.names import ACTIVATIONS, LOSSES, OPTIMIZERS, TORCH_LAYERS, loss_word, plain
from fovea.diagnosis.script.nets import escape, joined, layers_in, output_of, tensor_in
from fovea.diagnosis.script.values import (
    NOT_MINE,
    UNKNOWN,
    Function,
    Loop,
    Method,
    Ref,
    Tensor,
    Thing,
    number,
    whole,
)

if TYPE_CHECKING:
    from fovea.diagnosis.script.interpreter import Interpreter

_CONTEXTS = {"no_grad", "inference_mode", "set_grad_enabled", "enable_grad"}
_SAME_NETS = {
    "to",
    "cuda",
    "cpu",
    "half",
    "float",
    "double",
    "compile",
    "DataParallel",
    "DistributedDataParallel",
    "type",
    "auto_model",
    "auto_optim",
}
_ROOTS = {"torch", "torchvision", "pytorch_lightning", "lightning", "skorch", "timm", "apex", "accelerate", "ignite"}


def call(interpreter: Interpreter, ref: Ref, call: Call) -> Any:
    """A call of something of PyTorch's family."""
    if ref.root not in _ROOTS:
        return NOT_MINE
    tensor = tensor_in(call.args[0]) if call.args else None
    if tensor is not None:
        return _on_tensor(interpreter, ref, call, tensor)
    for known in (_module, _setting, torch_data.call):
        value = known(interpreter, ref, call)
        if value is not NOT_MINE:
            return value
    data = arrays.find_data(call.args)
    return arrays.call(interpreter, ref, call) if data is not None else NOT_MINE


def _on_tensor(interpreter: Interpreter, ref: Ref, call: Call, tensor: Tensor) -> Any:
    word = plain(ref.name)
    if word in ACTIVATIONS:
        return after(interpreter, tensor, word, call.line)
    if loss_word(word) in LOSSES:
        facts = _loss_facts(word)
        loss = Thing("loss", ref.path, call.line, facts)
        interpreter.note("loss", call.line, loss=loss, output=tensor, args=call.args)
        return UNKNOWN
    kinds = {"maxpool2d": "maxpooling2d", "avgpool2d": "averagepooling2d", "flatten": "flatten", "dropout": "dropout"}
    kinds |= {"dropout2d": "spatialdropout2d", "adaptiveavgpool2d": "globalaveragepooling2d", "batchnorm": "other"}
    if word in kinds:
        layer = interpreter.make("layer", ref.path, call.line, layer_kind=kinds[word])
        layer.is_connected = True
        if word.startswith("dropout"):
            layer.values |= {"rate": call.first(("p",), 1, 0.5), "training": call.get("training", 2)}
        return Tensor((*tensor.layers, layer), tensor.is_complete, tensor.source)
    if word in ("log", "exp"):
        ends = [layer.values.get("layer_kind") for layer in tensor.layers[-1:]]
        ends += [layer.values.get("activation") for layer in tensor.layers[-1:]]
        if word == "log" and "softmax" in ends:
            return after(interpreter, tensor, "logsoftmax", call.line)
        return Tensor(tensor.layers, False, tensor.source, is_tail_known=False)
    same = {"cat", "concat", "stack", "squeeze", "unsqueeze", "reshape", "pad", "interpolate", "add", "mul", "mean"}
    if word in same:
        return joined(call.args[0]) if isinstance(call.args[0], list | tuple) else tensor
    if word in ("max", "argmax", "topk", "sum"):
        return UNKNOWN
    return Tensor(tensor.layers, False, tensor.source, is_tail_known=False)


def _module(interpreter: Interpreter, ref: Ref, call: Call) -> Any:
    name = ref.name
    is_hub = ref.path == "torch.hub.load"
    if is_hub or (ref.root in ("torchvision", "timm") and (".models" in ref.path or ref.root == "timm")):
        if not name.islower() or name.startswith("list"):
            return NOT_MINE
        net = interpreter.make("net", "torch.application", call.line, framework="torch", application=name)
        body = interpreter.make("layer", ref.path, call.line, layer_kind="application", name=name)
        given = [call.get(word) for word in ("pretrained", "weights") if word in call.keywords]
        body.values["has_weights"] = bool(given) and given[0] not in (False, None)
        body.is_used = True
        net.items, net.is_complete = [body], False
        return net
    if name in _SAME_NETS and call.args:
        return call.args[0]
    if not ref.path.startswith("torch.nn"):
        return NOT_MINE
    if ref.path.startswith("torch.nn.init") and call.args and isinstance(call.args[0], Method):
        weights = call.args[0]
        if weights.name == "weight" and isinstance(weights.owner, Thing) and weights.owner.kind == "layer":
            weights.owner.values["kernel_initializer"] = name.rstrip("_")
        return None
    if name in ("Sequential", "ModuleList"):
        net = interpreter.make("net", f"torch.{name}", call.line, framework="torch")
        items = call.args[0] if len(call.args) == 1 and isinstance(call.args[0], list | tuple) else call.args
        net.items = list(items.values()) if isinstance(items, dict) else list(items)
        if len(net.items) == 1 and isinstance(net.items[0], dict):
            net.items = list(net.items[0].values())
        net.is_complete = all(isinstance(item, Thing) for item in net.items)
        for item in net.items:
            escape(item, deep=False)
        return net
    if name in TORCH_LAYERS:
        kind, arguments = TORCH_LAYERS[name]
        values = dict(zip(arguments, call.args, strict=False))
        values |= {{"out_features": "units", "out_channels": "filters", "p": "rate"}.get(key, key): value
                   for key, value in call.keywords.items()}  # fmt: skip
        if kind.endswith("dropout2d") or kind == "dropout":
            values.setdefault("rate", 0.5)
        return interpreter.make("layer", ref.path, call.line, layer_kind=kind, **values)
    if loss_word(name) in LOSSES and ".functional" not in ref.path:
        facts = _loss_facts(plain(name))
        facts |= {"label_smoothing": call.get("label_smoothing"), "weight": call.get("weight", 0)}
        return interpreter.make("loss", ref.path, call.line, **facts)
    if loss_word(name) in LOSSES:
        loss = Thing("loss", ref.path, call.line, _loss_facts(plain(name)))
        interpreter.note("loss", call.line, loss=loss, output=None, args=call.args)
        return UNKNOWN
    return NOT_MINE


def _loss_facts(word: str) -> dict[str, Any]:
    loss = loss_word(word)
    return {"loss": loss, "from_logits": loss == "crossentropy" or "withlogits" in word}


def _setting(interpreter: Interpreter, ref: Ref, call: Call) -> Any:
    name, word = ref.name, plain(ref.name)
    if name in _CONTEXTS:
        is_off = name == "enable_grad" or (name == "set_grad_enabled" and call.get("mode", 0) is True)
        return Thing("context", "grad" if is_off else "no_grad", call.line)
    if ".lr_scheduler" in ref.path:
        optimizer = call.get("optimizer", 0)
        return interpreter.make("schedule", ref.path, call.line, optimizer=optimizer)
    if ".optim" in ref.path and word in OPTIMIZERS:
        rate = call.get("lr", 1)
        facts = {
            "optimizer": word,
            "learning_rate": number(rate),
            "is_default_rate": rate is UNKNOWN and len(call.args) < 2,
        }
        facts["is_default_rate"] = facts["is_default_rate"] and "lr" not in call.keywords
        facts |= {"momentum": number(call.get("momentum", 2 if word == "sgd" else None))}
        facts |= {"weight_decay": number(call.get("weight_decay")), "parameters": call.get("params", 0)}
        return interpreter.make("optimizer", ref.path, call.line, call=call, **facts)
    if ref.root == "skorch" and name.startswith("NeuralNet"):
        return _skorch(interpreter, ref, call)
    if ref.root == "ignite" and name in ("create_supervised_trainer", "Engine"):
        return interpreter.make("trainer", ref.path, call.line, call=call, process=call.get("process_function", 0))
    if name == "Trainer":
        return interpreter.make("trainer", ref.path, call.line, call=call)
    return NOT_MINE


def _skorch(interpreter: Interpreter, ref: Ref, call: Call) -> Thing:
    trainer = interpreter.make("trainer", ref.path, call.line, call=call, is_skorch=True)
    trainer.values["module"] = call.get("module", 0)
    return trainer


def method(interpreter: Interpreter, owner: Any, name: str, call: Call) -> Any:
    """A method that a PyTorch program calls: on nets, optimizers, losses, tensors and unknown things."""
    if isinstance(owner, Tensor):
        return _tensor_method(interpreter, owner, name, call)
    kind = owner.kind if isinstance(owner, Thing) else None
    if name in ("backward", "zero_grad", "step", "eval", "train") and kind not in ("list", "feed", "context"):
        return _loop_call(interpreter, owner, kind, name, call)
    if kind == "net" and isinstance(owner, Thing):
        if name in ("parameters", "named_parameters", "modules", "children", "named_modules", "named_children"):
            return Thing("parameters", owner.path, call.line, {"owner": owner})
        if name in ("load_state_dict", "load_from_checkpoint"):
            interpreter.note("load_weights", call.line, net=owner)
            return owner
        if name == "append":
            owner.items.append(call.get("module", 0))
            return owner
        if name == "add_module" and len(call.args) == 2:
            owner.items.append(call.args[1])
            return None
        if name in ("requires_grad_",):
            for layer in layers_in(owner):
                layer.is_trainable = call.get("requires_grad", 0, True) is not False
            return owner
        if name in ("apply", *_SAME_NETS):
            return owner
    if kind == "trainer" and isinstance(owner, Thing) and owner.root == "ignite":
        return _run_engine(interpreter, owner, call) if name == "run" else UNKNOWN
    if name == "prepare" and owner is UNKNOWN and any(isinstance(value, Thing) for value in call.args):
        return tuple(call.args) if len(call.args) > 1 else call.args[0]  # accelerate's
    if kind == "trainer" and isinstance(owner, Thing) and name in ("fit", "partial_fit"):
        interpreter.note("trainer_fit", call.line, trainer=owner, args=call.args, keywords=call.keywords)
        return owner
    return NOT_MINE


def _run_engine(interpreter: Interpreter, engine: Thing, call: Call) -> Any:
    """Ignite's loops: the program's own step, or the one that is made of a net, an optimizer and a loss."""
    feed, epochs = call.get("data", 0), whole(call.get("max_epochs", 1))
    batch, process = elements(feed)[0], engine.values["process"]
    outer = Loop(call.line, range(epochs) if epochs else None, True)
    with interpreter.inside(outer), interpreter.inside(Loop(call.line, feed)):
        if isinstance(process, Function):
            return interpreter.follow(process, [UNKNOWN, batch], {})
        made = engine.values["call"]
        net, loss = made.get("model", 0), made.get("loss_fn", 2)
        if not isinstance(net, Thing) or net.kind != "net":
            return UNKNOWN
        if isinstance(loss, Ref) and loss_word(loss.name) in LOSSES:
            loss = Thing("loss", loss.path, made.line, _loss_facts(plain(loss.name)))
        images = batch.values.get("images") if isinstance(batch, Thing) else UNKNOWN
        interpreter.note("forward", call.line, net=net, data=images)
        interpreter.note("loss", made.line, loss=loss, output=output_of(interpreter, net), args=[])
        for kind, values in (("zero_grad", {}), ("backward", {}), ("step", {"optimizer": made.get("optimizer", 1)})):
            interpreter.note(kind, call.line, **{"owner": UNKNOWN, **values})
    return UNKNOWN


def _loop_call(interpreter: Interpreter, owner: Any, kind: str | None, name: str, call: Call) -> Any:
    """The calls that make a training loop."""
    if name == "backward" and call.args and kind is None:
        name = "backward"
    if name == "step":
        optimizer = owner if kind == "optimizer" else next(
            (value for value in call.args if isinstance(value, Thing) and value.kind == "optimizer"), None
        )  # fmt: skip
        if kind == "schedule":
            interpreter.note("schedule_step", call.line)
            return None
        interpreter.note("step", call.line, optimizer=optimizer)
        return UNKNOWN
    if name in ("eval", "train"):
        if kind not in ("net", None):
            return NOT_MINE
        is_training = name == "train" and call.get("mode", 0, True) is not False
        interpreter.note("mode", call.line, net=owner, is_training=is_training)
        return owner
    interpreter.note(name, call.line, owner=owner)
    return None


def _tensor_method(interpreter: Interpreter, tensor: Tensor, name: str, call: Call) -> Any:
    word = plain(name).rstrip("_")
    if word in ACTIVATIONS:
        return after(interpreter, tensor, word, call.line)
    if name in ("view", "reshape", "flatten") and tensor.layers:
        layer = interpreter.make("layer", "flatten", call.line, layer_kind="flatten")
        layer.is_connected = True
        return Tensor((*tensor.layers, layer), tensor.is_complete, tensor.source)
    if name in ("size", "dim", "backward", "item", "max", "argmax", "sum", "topk", "numpy", "tolist"):
        if name == "backward":
            interpreter.note("backward", call.line, owner=tensor)
        return UNKNOWN
    return tensor

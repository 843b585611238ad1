"""Small PyTorch trainings that the doctor is tried on: a setting describes one, `train` runs it under fovea.watch."""

from __future__ import annotations

import functools
import math
import os
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

Split = tuple[torch.Tensor, torch.Tensor]
NUM_TRAIN, NUM_VAL, NUM_TEST = 1200, 400, 1000


@dataclass(frozen=True)
class Patient:
    """One training. The values given here are healthy; a fault changes some of them.

    Attributes:
        scale: of the uint8 pixels of training and test; val_scale: of those it is judged on, None: the same.
        init: "default", "zero", "constant", "he" or a factor on the default weights.
        end: what follows the last layer: "none", "softmax", "relu", "sigmoid".
        loss: "cross_entropy" (of logits), "nll" (of log-softmax) or "sum" (cross-entropy, summed).
        order: "shuffled", "fixed" or "sorted".
        frozen: how many layers with weights, from the first on, are not trained.
        left_out: whether the optimizer gets the last layer alone.
        labels: "right", "permuted" (of training images).
        keep_class_fraction: share of the images of half of the classes that is kept.
    """

    data: str = "digits"
    net: str = "conv"
    optimizer: str = "adam"
    lr: float = 0.002
    batch: int = 32
    epochs: int = 8
    scale: float = 1 / 255
    offset: float = 0.0
    val_scale: float | None = None
    val_offset: float | None = None
    init: str | float = "default"
    activation: str = "relu"
    depth: int = 2
    end: str = "none"
    extra_outputs: int = 0
    loss: str = "cross_entropy"
    label_smoothing: float = 0.0
    weight_decay: float = 0.0
    momentum: float = 0.9
    dropout: float = 0.0
    order: str = "shuffled"
    clear: bool = True
    eval_mode: bool = True
    frozen: int = 0
    left_out: bool = False
    bias: float = 0.0
    labels: str = "right"
    train_images: int = NUM_TRAIN
    keep_class_fraction: float = 1.0
    eval_batch: int = 200


@dataclass(frozen=True)
class Result:
    """What a training reached: accuracy on test images that nothing was chosen by, and what the doctor said."""

    accuracy: float
    findings: tuple[Any, ...]
    seconds: float
    record: Any = None


@functools.cache
def images_of(name: str) -> tuple[np.ndarray, np.ndarray]:
    """uint8 [N, C, H, W] and labels of one of the data sets, in a fixed random order; at most 3,000."""
    rng = np.random.default_rng(0)
    if name == "digits":
        from sklearn.datasets import load_digits

        found = load_digits()
        images, labels = (found.images[:, None] * (255 / 16)).round().astype(np.uint8), found.target
    elif name == "shapes":
        images, labels = _shapes(3000, rng)
    else:
        from fovea.data.load import read_raw
        from fovea.data.options import ReadOptions

        place = {"mnist": "mnist", "fashion": "fashion-mnist"}[name]
        train = read_raw(str(Path(os.environ["FOVEA_DATA"]) / place), ReadOptions()).parts["train"]
        rows = np.sort(rng.permutation(len(train.images))[:3000])
        images, labels = np.asarray(train.images[rows]), np.asarray(train.labels)[rows].astype(np.int64)
        images = images[..., None] if images.ndim == 3 else images
        images = images[:, ::2, ::2]  # 14x14: a training has five seconds
        images = np.ascontiguousarray(images.transpose(0, 3, 1, 2))
    order = rng.permutation(len(images))
    return images[order], labels[order].astype(np.int64)


def _shapes(count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Four kinds of strokes at random places in noise, 16x16: a linear model does badly on them."""
    labels = rng.integers(0, 4, count)
    images = rng.integers(0, 90, (count, 1, 16, 16))
    for image, label in zip(images, labels, strict=True):
        row, column = rng.integers(2, 9, 2)
        steps = np.arange(6)
        rows = row + (steps if label in (1, 2, 3) else 0 * steps)
        columns = column + (steps if label in (0, 2) else steps[::-1] if label == 3 else 0 * steps)
        image[0, rows, columns] = rng.integers(170, 255)
    return images.astype(np.uint8), labels


def available() -> list[str]:
    """Data sets that are here."""
    folder = Path(os.environ.get("FOVEA_DATA", "nowhere"))
    names = {"mnist": "mnist", "fashion": "fashion-mnist"}
    return ["digits", "shapes", *(name for name, place in names.items() if (folder / place).is_dir())]


def splits_of(patient: Patient, seed: int) -> tuple[Split, Split, Split]:
    """Train, validation and test of a patient; test images are prepared as those of validation are."""
    images, labels = images_of(patient.data)
    order = np.random.default_rng(seed).permutation(len(images))
    num_test, num_val = min(NUM_TEST, len(images) // 5), min(NUM_VAL, len(images) // 8)
    test, val, train = np.split(order, [num_test, num_test + num_val])
    train = _chosen(patient, train, labels, seed)
    val_scale = patient.scale if patient.val_scale is None else patient.val_scale
    val_offset = patient.offset if patient.val_offset is None else patient.val_offset
    judged = [_tensors(images[rows], labels[rows], val_scale, val_offset) for rows in (val, test)]
    trained = _tensors(images[train], labels[train], patient.scale, patient.offset)
    if patient.labels == "permuted":
        trained = trained[0], trained[1][torch.randperm(len(train), generator=torch.Generator().manual_seed(seed))]
    return trained, judged[0], judged[1]


def _chosen(patient: Patient, rows: np.ndarray, labels: np.ndarray, seed: int) -> np.ndarray:
    if patient.keep_class_fraction < 1:
        rare = labels[rows] < (labels.max() + 1) // 2
        keep = ~rare | (np.random.default_rng(seed).random(len(rows)) < patient.keep_class_fraction)
        rows = rows[keep]
    rows = rows[: patient.train_images]
    return rows[np.argsort(labels[rows], kind="stable")] if patient.order == "sorted" else rows


def _tensors(images: np.ndarray, labels: np.ndarray, scale: float, offset: float) -> Split:
    return torch.from_numpy(images.astype(np.float32) * scale + offset), torch.from_numpy(labels)


_ACTIVATIONS = {"relu": nn.ReLU, "sigmoid": nn.Sigmoid, "tanh": nn.Tanh, "none": nn.Identity, "softmax": nn.Softmax}
_ENDS = {"none": nn.Identity, "softmax": lambda: nn.Softmax(dim=1), "relu": nn.ReLU, "sigmoid": nn.Sigmoid}


def net_of(patient: Patient, shape: tuple[int, int, int], num_classes: int) -> nn.Module:
    """The net of a patient: "mlp", "conv" (convolutions and pools) or "convbn" (with batch norms)."""
    channels, height, width = shape

    def activation() -> nn.Module:
        return nn.Softmax(dim=1) if patient.activation == "softmax" else _ACTIVATIONS[patient.activation]()

    layers: list[nn.Module] = []
    if patient.net == "mlp":
        layers.append(nn.Flatten())
        size = channels * height * width
        for _ in range(patient.depth):
            layers += [nn.Linear(size, 64), activation(), *_dropout(patient)]
            size = 64
    else:
        size, side = channels, (height, width)
        for number in range(patient.depth):
            layers.append(nn.Conv2d(size, 16, 3, padding=1))
            layers += [nn.BatchNorm2d(16)] if patient.net == "convbn" else []
            layers.append(activation())
            if number < 2:
                layers.append(nn.MaxPool2d(2))
                side = (side[0] // 2, side[1] // 2)
            layers += _dropout(patient)
            size = 16
        layers.append(nn.Flatten())
        size = 16 * side[0] * side[1]
    head = nn.Linear(size, num_classes + patient.extra_outputs)
    end = [nn.LogSoftmax(dim=1)] if patient.loss == "nll" else [_ENDS[patient.end]()] if patient.end != "none" else []
    net = nn.Sequential(*[layer for layer in layers if not isinstance(layer, nn.Identity)], head, *end)
    _initialise(net, patient)
    return net


def _dropout(patient: Patient) -> list[nn.Module]:
    return [nn.Dropout(patient.dropout)] if patient.dropout else []


@torch.no_grad()
def _initialise(net: nn.Module, patient: Patient) -> None:
    weighted = [module for module in net if isinstance(module, nn.Linear | nn.Conv2d)]  # type: ignore[attr-defined]
    for module in weighted:
        if patient.init == "zero":
            module.weight.zero_()
        elif patient.init == "constant":
            module.weight.fill_(0.05)
        elif patient.init == "he":
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        elif isinstance(patient.init, float):
            module.weight.mul_(patient.init)
    for module in weighted[:-1]:
        if patient.bias:
            module.bias.fill_(patient.bias)
    for module in weighted[: patient.frozen]:
        module.requires_grad_(False)


def _optimizer(net: nn.Module, patient: Patient) -> torch.optim.Optimizer:
    parameters = [p for p in (net[-1] if patient.left_out else net).parameters() if p.requires_grad]  # type: ignore[index]
    options = {"lr": patient.lr, "weight_decay": patient.weight_decay}
    if patient.optimizer == "sgd":
        return torch.optim.SGD(parameters, momentum=patient.momentum, **options)
    kinds = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "rmsprop": torch.optim.RMSprop}
    kinds |= {"adadelta": torch.optim.Adadelta}
    return kinds[patient.optimizer](parameters, **options)


def _loss(patient: Patient) -> nn.Module:
    if patient.loss == "nll":
        return nn.NLLLoss()
    reduction = "sum" if patient.loss == "sum" else "mean"
    return nn.CrossEntropyLoss(reduction=reduction, label_smoothing=patient.label_smoothing)


def train(patient: Patient, seed: int, *, watched: bool = True) -> Result:
    """Train a patient as a plain loop would, and judge it on its test images."""
    import fovea

    torch.manual_seed(seed)
    (images, labels), val, test = splits_of(patient, seed)
    net = net_of(patient, tuple(images.shape[1:]), int(images_of(patient.data)[1].max()) + 1)  # type: ignore[arg-type]
    optimizer, loss_fn = _optimizer(net, patient), _loss(patient)
    loader = DataLoader(TensorDataset(images, labels), patient.batch, shuffle=patient.order == "shuffled")
    judged = DataLoader(TensorDataset(*val), patient.eval_batch)
    began = time.perf_counter()

    def loop() -> None:
        for _ in range(patient.epochs):
            net.train()
            for batch, target in loader:
                if patient.clear:
                    optimizer.zero_grad()
                loss = loss_fn(net(batch), target)
                loss.backward()
                optimizer.step()
            net.train(not patient.eval_mode)
            with torch.no_grad():
                for batch, target in judged:
                    loss_fn(net(batch), target)

    findings: tuple[Any, ...] = ()
    record = None
    if watched:
        with fovea.watch(net, optimizer, verbose=False) as seen:
            loop()
        findings, record = tuple(seen.findings), seen.record
    else:
        loop()
    seconds = time.perf_counter() - began
    net.train(not patient.eval_mode)
    with torch.no_grad():
        parts = [net(part) for part in test[0].split(patient.eval_batch)]
    accuracy = float((torch.cat(parts).argmax(dim=1) == test[1]).float().mean())
    return Result(accuracy if math.isfinite(accuracy) else 0.0, findings, seconds, record)


BASES = (
    Patient("digits", "mlp", epochs=12),
    Patient("mnist", "conv", epochs=6),
    Patient("fashion", "convbn", epochs=5),
    Patient("shapes", "conv", epochs=10),
)


def bases() -> list[Patient]:
    """The healthy patients of the data sets that are here."""
    here = available()
    return [base for base in BASES if base.data in here]


def changed(patient: Patient, **changes: Any) -> Patient:
    """A patient with some values changed."""
    return replace(patient, **changes)

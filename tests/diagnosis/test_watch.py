"""fovea.watch: what a plain PyTorch loop shows of itself, and that watching changes nothing."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import fovea
from fovea.diagnosis.record import Record

Batch = tuple[torch.Tensor, torch.Tensor]


def make_images(count: int = 96, seed: int = 0) -> Batch:
    """One bright row a class, float32 [N, 1, 8, 8]."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(count) % 3)
    images = rng.uniform(0, 0.2, (count, 1, 8, 8)).astype(np.float32)
    images[np.arange(count), 0, 1 + labels * 2] += 0.8
    return torch.from_numpy(images), torch.from_numpy(labels)


class Net(nn.Module):
    """A convolution, a functional relu, a batch norm that nobody calls, dropout, a linear end."""

    def __init__(self, end: nn.Module | None = None) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3)
        self.unused = nn.BatchNorm2d(4)
        self.drop = nn.Dropout(0.2)
        self.head = nn.Linear(4 * 36, 3)
        self.end = end

    def forward(self, images: torch.Tensor) -> Any:
        sums = self.head(self.drop(torch.flatten(F.relu(self.conv(images)), 1)))
        return sums if self.end is None else self.end(sums)


def batches(shuffle: bool = True) -> tuple[DataLoader[Any], DataLoader[Any]]:
    train, val = TensorDataset(*make_images()), TensorDataset(*make_images(40, 1))
    return DataLoader(train, 16, shuffle=shuffle), DataLoader(val, 16)


def loop(
    net: nn.Module,
    optimizer: torch.optim.Optimizer,
    epochs: int = 2,
    loss_of: Callable[..., torch.Tensor] = F.cross_entropy,
    *,
    clear: bool = True,
    evaluates: bool = True,
    shuffle: bool = True,
    answers_of: Callable[[Any], torch.Tensor] = lambda answers: answers,
) -> None:
    train, val = batches(shuffle)
    for _ in range(epochs):
        net.train()
        for images, labels in train:
            if clear:
                optimizer.zero_grad()
            loss_of(net(images), labels).backward()
            optimizer.step()
        if evaluates:
            net.eval()
        with torch.no_grad():
            for images, labels in val:
                (answers_of(net(images)).argmax(dim=1) == labels).sum().item()


def watched(net: nn.Module, rate: float = 0.1, **options: Any) -> Record:
    optimizer = torch.optim.SGD(net.parameters(), lr=rate, momentum=0.9)
    with fovea.watch(net, optimizer, verbose=False) as patient:
        loop(net, optimizer, **options)
    assert patient.record is not None
    assert patient.record.unseen == ()
    return patient.record


def test_a_loop_fills_the_record() -> None:
    record = watched(Net(), epochs=3)
    train, val = record.splits["train"], record.splits["val"]
    assert (train.count, train.shape, train.class_counts, train.is_shuffled) == (96, (8, 8, 1), (32, 32, 32), True)
    assert (val.count, val.num_classes, train.label_kind) == (40, 3, "integer")
    assert train.maximum is not None
    assert train.maximum <= 1
    training = record.training
    assert (training.optimizer, training.learning_rate, training.momentum) == ("sgd", 0.1, 0.9)
    assert (training.batch_size, training.epochs, training.steps_per_epoch) == (16, 3, 6)
    assert (training.loss, training.from_logits, training.loss_reduction) == ("crossentropy", True, "mean")
    assert (training.gradients_cleared, training.evaluates_in_training_mode) == (True, False)
    assert record.curves.steps == 18
    assert len(record.curves.running_loss) == len(record.curves.val_accuracy) == 3
    assert record.evaluation.count == 40
    assert record.batch.initial_loss == pytest.approx(math.log(3), abs=0.5)
    assert record.net.last_activation == "linear"


def test_layers_stand_in_the_order_of_the_pass_with_their_functional_activations() -> None:
    layers = watched(Net()).net.layers
    assert [layer.name for layer in layers] == ["conv", "drop", "head", "unused"]
    assert [layer.kind for layer in layers] == ["conv2d", "dropout", "dense", "batchnormalization"]
    assert layers[0].activation == "relu"
    assert [layer.is_connected for layer in layers] == [True, True, True, False]


def test_signals_agree_with_what_the_net_does() -> None:
    net = Net()
    with torch.no_grad():
        net.conv.weight.abs_()
        net.conv.weight[0] = 0
        net.conv.bias[0] = -5.0  # type: ignore[index]
    before = net.conv.weight.detach().norm().item()
    record = watched(net, rate=1e-6)
    first, last = record.batch.first[0], record.batch.last[0]
    assert first.name == "conv"
    assert first.dead_fraction == last.dead_fraction == 0.25
    assert first.weight_norm == pytest.approx(before, rel=1e-3)
    assert first.gradient_norm is not None
    assert first.update_ratio is not None
    assert 0 < first.update_ratio < 1e-4


def test_watching_changes_no_weight_and_leaves_nothing_behind() -> None:
    ends = []
    originals = (torch._C._nn.cross_entropy_loss, DataLoader.__iter__)
    for is_watched in (True, False):
        torch.manual_seed(0)
        net = Net()
        optimizer = torch.optim.Adam(net.parameters())
        if is_watched:
            with fovea.watch(net, verbose=False):
                loop(net, optimizer)
        else:
            loop(net, optimizer)
        ends.append([parameter.detach().clone() for parameter in net.parameters()])
    assert all(torch.equal(one, other) for one, other in zip(*ends, strict=True))
    assert (torch._C._nn.cross_entropy_loss, DataLoader.__iter__) == originals
    assert not net._forward_hooks


def test_the_end_of_the_net_is_told_from_its_answers() -> None:
    assert watched(Net(nn.Softmax(dim=1))).net.last_activation == "softmax"
    record = watched(Net(nn.LogSoftmax(dim=1)), loss_of=F.nll_loss)
    assert (record.net.last_activation, record.training.loss) == ("logsoftmax", "nll")


def test_gradients_that_nobody_clears_are_seen() -> None:
    assert watched(Net(), 0.001, clear=False).training.gradients_cleared is False


def test_gradients_gathered_over_several_batches_are_no_fault() -> None:
    net = Net()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    with fovea.watch(net, optimizer, verbose=False) as patient:
        for number, (images, labels) in enumerate(batches()[0]):
            F.cross_entropy(net(images), labels).backward()
            if number % 2:
                optimizer.step()
                optimizer.zero_grad()
        for images, labels in batches()[0]:
            optimizer.zero_grad()
            F.cross_entropy(net(images), labels).backward()
            F.cross_entropy(net(images), labels).backward()
            optimizer.step()
    assert patient.record is not None
    assert patient.record.training.gradients_cleared is True


def test_a_missing_eval_is_seen() -> None:
    assert watched(Net(), evaluates=False).training.evaluates_in_training_mode is True


def test_a_fixed_order_is_seen() -> None:
    assert watched(Net(), shuffle=False).splits["train"].is_shuffled is False


def test_layers_left_out_of_the_optimizer_are_seen() -> None:
    net = Net()
    optimizer = torch.optim.SGD(net.head.parameters(), lr=0.1)
    with fovea.watch(net, verbose=False) as patient:
        loop(net, optimizer)
    assert patient.record is not None
    found = {layer.name: layer.in_optimizer for layer in patient.record.net.layers}
    assert found == {"conv": False, "drop": None, "head": True, "unused": False}


def test_frozen_layers_with_fresh_weights_are_told_from_trained_ones() -> None:
    def first_of(net: Net) -> Any:
        net.conv.requires_grad_(False)
        return watched(net).net.layers[0]

    torch.manual_seed(0)
    net = Net()
    net.conv = nn.Conv2d(1, 16, 3)
    net.head = nn.Linear(16 * 36, 3)
    layer = first_of(net)
    assert (layer.is_trainable, layer.is_fresh) == (False, True)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    net.conv.requires_grad_(True)
    loop(net, optimizer)
    assert first_of(net).is_fresh is False


def test_a_loop_without_loaders_and_with_tensors_alone() -> None:
    images, labels = make_images()
    net = Net()
    optimizer = torch.optim.Adam(net.parameters())
    with fovea.watch(net, optimizer, data=(images, labels), verbose=False) as patient:
        for _ in range(5):
            optimizer.zero_grad()
            F.cross_entropy(net(images), labels).backward()
            optimizer.step()
    record = patient.record
    assert record is not None
    assert record.curves.steps == 5
    assert record.splits["train"].class_counts == (32, 32, 32)
    assert record.curves.val_accuracy == ()


def test_an_error_in_the_block_is_the_users_and_what_was_seen_is_kept() -> None:
    net = Net()
    patient = fovea.watch(net, verbose=False)

    def broken_off() -> None:
        with patient:
            loop(net, torch.optim.SGD(net.parameters(), lr=0.1), epochs=1)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        broken_off()
    assert patient.record is not None
    assert patient.record.curves.steps == 6
    assert any("ZeroDivisionError" in note for note in patient.record.unseen)


def test_nothing_trained_is_said_and_no_finding_made_up() -> None:
    with fovea.watch(Net(), verbose=False) as patient:
        pass
    assert patient.record is not None
    assert any("no step" in note for note in patient.record.unseen)


class Failing(nn.Module):
    """A net that refuses images in evaluation mode."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(64, 3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if not self.training:
            raise RuntimeError("not now")
        return self.head(images.flatten(1))


def test_a_net_that_refuses_the_doctors_own_passes_trains_on() -> None:
    net = Failing()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    images, labels = make_images()
    with fovea.watch(net, optimizer, verbose=False) as patient:
        for _ in range(4):
            optimizer.zero_grad()
            F.cross_entropy(net(images), labels).backward()
            optimizer.step()
    assert patient.record is not None
    assert patient.record.curves.steps == 4
    assert any("not now" in note for note in patient.record.unseen)


def test_a_healthy_loop_gives_nothing_severe_and_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 3))
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    with fovea.watch(net, optimizer) as patient:
        loop(net, optimizer, epochs=12)
    assert [finding.id for finding in patient.findings if finding.severity == "severe"] == []
    said = capsys.readouterr()
    assert "Sequential" in said.err
    assert said.out == ""

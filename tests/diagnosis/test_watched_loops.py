"""fovea.watch around loops of many kinds: none is broken, none ends in other bytes, none draws a false alarm."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import fovea
from fovea.diagnosis.record import Record
from fovea.diagnosis.watching import TorchPatient
from tests.diagnosis.test_watch import batches, loop, make_images

Step = Callable[[nn.Module, torch.Tensor, torch.Tensor, int], None]


def plain_net() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Dropout(0.2), nn.Linear(4 * 36, 3))


class WithTuple(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = plain_net()

    def forward(self, images: torch.Tensor) -> Any:
        return self.net(images), images.mean()


class WithDict(WithTuple):
    def forward(self, images: torch.Tensor) -> Any:
        return {"logits": self.net(images)}


class WithoutForward(nn.Module):
    """Its parts are called one by one, as in a training_step."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten())
        self.head = nn.Linear(4 * 36, 3)


class Shared(nn.Module):
    """One activation module at three places, of maps of other sizes."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.act = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 3), nn.ReLU()
        self.hidden, self.head = nn.Linear(4 * 16, 12), nn.Linear(12, 3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        maps = self.act(self.two(self.act(self.one(images))))
        return self.head(self.act(self.hidden(maps.flatten(1))))  # type: ignore[no-any-return]


class Residual(nn.Module):
    """A branch that begins at zero and is added before a functional relu."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        nn.init.zeros_(self.norm.weight)
        self.head = nn.Linear(4 * 64, 3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        maps = F.relu(self.one(images))
        return self.head(F.relu(maps + self.norm(self.two(maps))).flatten(1))  # type: ignore[no-any-return]


class Smooth(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.head = nn.Linear(64, 16), nn.Linear(16, 16), nn.Linear(16, 3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(torch.tanh(self.two(F.gelu(self.one(images.flatten(1))))))  # type: ignore[no-any-return]


def adam(net: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.Adam(net.parameters(), lr=0.01)


def usual(net: nn.Module, **options: Any) -> None:
    loop(net, adam(net), 6, **options)


def stepping(net: nn.Module, step: Step, epochs: int = 6) -> None:
    train, val = batches()
    for _ in range(epochs):
        net.train()
        for number, (images, labels) in enumerate(train):
            step(net, images, labels, number)
        net.eval()
        with torch.no_grad():
            for images, labels in val:
                (net(images).argmax(dim=1) == labels).sum().item()


def accumulating(net: nn.Module) -> None:
    optimizer = adam(net)

    def step(net: nn.Module, images: torch.Tensor, labels: torch.Tensor, number: int) -> None:
        (F.cross_entropy(net(images), labels) / 2).backward()  # type: ignore[no-untyped-call]
        if number % 2:
            optimizer.step()
            optimizer.zero_grad()

    stepping(net, step, 10)


def mixed_precision(net: nn.Module) -> None:
    optimizer, scaler = adam(net), torch.amp.GradScaler("cpu")  # type: ignore[attr-defined]

    def step(net: nn.Module, images: torch.Tensor, labels: torch.Tensor, number: int) -> None:
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = F.cross_entropy(net(images), labels)
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()

    stepping(net, step)


def two_optimizers(net: nn.Module) -> None:
    parts = list(net.parameters())
    optimizers = [torch.optim.SGD(parts[:2], lr=0.1), torch.optim.Adam(parts[2:], lr=0.01)]

    def step(net: nn.Module, images: torch.Tensor, labels: torch.Tensor, number: int) -> None:
        net.zero_grad()
        F.cross_entropy(net(images), labels).backward()  # type: ignore[no-untyped-call]
        for optimizer in optimizers:
            optimizer.step()

    stepping(net, step)


def scheduled(net: nn.Module) -> None:
    optimizer = adam(net)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.02, total_steps=36)

    def step(net: nn.Module, images: torch.Tensor, labels: torch.Tensor, number: int) -> None:
        optimizer.zero_grad()
        F.cross_entropy(net(images), labels).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()

    stepping(net, step)


def channels_last(net: nn.Module) -> None:
    net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = adam(net)

    def step(net: nn.Module, images: torch.Tensor, labels: torch.Tensor, number: int) -> None:
        optimizer.zero_grad()
        F.cross_entropy(net(images.to(memory_format=torch.channels_last)), labels).backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    stepping(net, step)


def mixed_images(net: nn.Module) -> None:
    optimizer = adam(net)

    def step(net: nn.Module, images: torch.Tensor, labels: torch.Tensor, number: int) -> None:
        other = torch.randperm(len(images))
        optimizer.zero_grad()
        answers = net(0.8 * images + 0.2 * images[other])
        loss = 0.8 * F.cross_entropy(answers, labels) + 0.2 * F.cross_entropy(answers, labels[other])
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    stepping(net, step, 8)


def by_parts(net: nn.Module) -> None:
    assert isinstance(net, WithoutForward)
    optimizer = adam(net)
    for _ in range(6):
        for images, labels in batches()[0]:
            optimizer.zero_grad()
            F.cross_entropy(net.head(net.body(images)), labels).backward()  # type: ignore[no-untyped-call]
            optimizer.step()


def by_one_part(net: nn.Module) -> None:
    assert isinstance(net, WithTuple)
    optimizer = adam(net)
    for _ in range(6):
        for images, labels in batches()[0]:
            optimizer.zero_grad()
            F.cross_entropy(net.net(images), labels).backward()  # type: ignore[no-untyped-call]
            optimizer.step()


def by_hand(answers: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return -answers.log_softmax(dim=1)[torch.arange(len(labels)), labels].mean()


LOOPS: dict[str, tuple[Callable[[], nn.Module], Callable[[Any], None]]] = {
    "as usual": (plain_net, usual),
    "gradients gathered": (plain_net, accumulating),
    "GradScaler and autocast": (plain_net, mixed_precision),
    "two optimizers": (plain_net, two_optimizers),
    "a schedule": (plain_net, scheduled),
    "channels last": (plain_net, channels_last),
    "mixed images": (plain_net, mixed_images),
    "a loss of torch.nn": (plain_net, lambda net: usual(net, loss_of=nn.CrossEntropyLoss())),
    "a loss by hand": (plain_net, lambda net: usual(net, loss_of=by_hand)),
    "a tuple": (WithTuple, lambda net: usual(net, loss_of=lambda answers, y: F.cross_entropy(answers[0], y),
                                             evaluates=True, answers_of=lambda answers: answers[0])),
    "a dict": (WithDict, lambda net: usual(net, loss_of=lambda answers, y: F.cross_entropy(answers["logits"], y),
                                           answers_of=lambda answers: answers["logits"])),
    "parts of a model": (WithoutForward, by_parts),
    "one part of a model": (WithTuple, by_one_part),
    "one activation at many places": (Shared, usual),
    "a residual branch": (Residual, usual),
    "smooth functions": (Smooth, usual),
}  # fmt: skip


def trained(name: str, is_watched: bool) -> tuple[list[torch.Tensor], TorchPatient]:
    torch.manual_seed(0)
    make, run = LOOPS[name]
    net = make()
    patient = fovea.watch(net, verbose=False)
    if is_watched:
        with patient:
            run(net)
    else:
        run(net)
    return [values.detach().clone() for values in net.state_dict().values()], patient


@pytest.mark.parametrize("name", LOOPS)
def test_a_loop_ends_in_the_same_bytes_and_draws_no_false_alarm(name: str) -> None:
    without, _ = trained(name, False)
    watched, patient = trained(name, True)
    assert all(torch.equal(one, other) for one, other in zip(without, watched, strict=True))
    record = patient.record
    assert record is not None
    assert [finding.id for finding in patient.findings if finding.severity != "note"] == []
    assert record.curves.steps == (30 if name == "gradients gathered" else 48 if name == "mixed images" else 36)
    assert record.curves.running_accuracy[-1] > 0.6
    assert not any("Error" in what for what in record.unseen), record.unseen


def record_of(name: str) -> Record:
    record = trained(name, True)[1].record
    assert record is not None
    return record


def test_answers_are_found_in_tuples_and_dicts() -> None:
    for name in ("a tuple", "a dict"):
        assert len(record_of(name).curves.val_accuracy) == 6


def test_the_one_part_that_is_called_is_the_net() -> None:
    record = record_of("one part of a model")
    assert record.splits["train"].shape == (8, 8, 1)
    assert [layer.is_connected for layer in record.net.layers] == [True] * 5
    parts = record_of("parts of a model")
    assert {layer.is_connected for layer in parts.net.layers} == {None}
    assert "the net: no batch of images was seen to enter it" in parts.unseen


def test_all_optimizers_of_a_net_are_seen_and_their_steps_are_one() -> None:
    record = record_of("two optimizers")
    assert {layer.in_optimizer for layer in record.net.layers if layer.parameters} == {True}
    kernels = [signals for signals in record.batch.first if signals.gradient_norm is not None]
    assert [signals.name for signals in kernels] == ["0", "4"]
    assert all(signals.update_ratio for signals in kernels)


def test_activations_that_are_functions_are_seen() -> None:
    smooth = {layer.name: layer.activation for layer in record_of("smooth functions").net.layers}
    assert smooth == {"one": "gelu", "two": "tanh", "head": None}
    shared = [(layer.name, layer.activation) for layer in record_of("one activation at many places").net.layers]
    assert [name for name, _ in shared] == ["one", "act", "two", "act (2)", "hidden", "act (3)", "head"]
    record = record_of("a residual branch")
    assert [layer.name for layer in record.net.layers] == ["one", "two", "norm", "relu behind norm", "head"]
    assert {layer.name: layer.activation for layer in record.net.layers}["one"] == "relu"
    signals = {found.name: found for found in record.batch.first}
    assert signals["norm"].dead_fraction == 1.0  # it begins at zero
    assert signals["relu behind norm"].dead_fraction != 1.0  # what is added does not


def test_dead_units_behind_a_functional_relu_are_told() -> None:
    net = Residual()
    with torch.no_grad():
        net.one.bias -= 9  # type: ignore[operator]
    with fovea.watch(net, verbose=False) as patient:
        loop(net, torch.optim.SGD(net.parameters(), lr=1e-6), 4)
    assert patient.record is not None
    dead = next(found for found in patient.record.batch.last if found.name == "one")
    assert dead.dead_fraction == 1.0
    assert "dying-relu" in {finding.id for finding in patient.findings} or patient.findings[0].severity == "severe"


def test_features_quantities_and_images_are_not_judged_as_classes() -> None:
    head = nn.Sequential(nn.Flatten(), nn.Linear(64, 32))
    triplet = nn.TripletMarginLoss()

    def features(net: nn.Module, images: torch.Tensor, labels: torch.Tensor, number: int) -> None:
        found = net(images)
        triplet(found, found.roll(1, 0), found.roll(2, 0)).backward()
        optimizer.step()
        optimizer.zero_grad()

    def copies(net: nn.Module, images: torch.Tensor, labels: torch.Tensor, number: int) -> None:
        optimizer.zero_grad()
        F.mse_loss(net(images), images.flatten(1)[:, :32]).backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    for step in (features, copies):
        optimizer = adam(head)
        with fovea.watch(head, verbose=False) as patient:
            stepping(head, step)
        assert patient.record is not None
        assert patient.record.curves.running_accuracy == ()
        told = {finding.id for finding in patient.findings}
        assert told <= {"too-few-updates", "too-little-data"}, told  # nothing that rests on an accuracy


def test_several_blocks_are_one_training() -> None:
    net = plain_net()
    optimizer = adam(net)
    patient = fovea.watch(net, verbose=False)
    for _ in range(3):
        with patient:
            loop(net, optimizer, 1)
    assert patient.record is not None
    assert patient.record.curves.steps == 18
    assert len(patient.record.curves.val_accuracy) == 3
    assert not net._forward_hooks


def test_ctrl_c_in_the_block_is_the_users_and_what_was_seen_is_kept() -> None:
    net = plain_net()
    patient = fovea.watch(net, verbose=False)

    def stopped() -> None:
        with patient:
            loop(net, adam(net), 1)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert patient.record is not None
    assert patient.record.curves.steps == 6


def test_hooks_and_judging_that_fail_cost_the_training_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(*_: object, **__: object) -> Any:
        raise RuntimeError("out of order")

    monkeypatch.setattr("fovea.diagnosis.watched.Course.images_given", fails)
    monkeypatch.setattr("fovea.diagnosis.watched.Course.stepped", fails)
    net = plain_net()
    with fovea.watch(net, verbose=False) as patient:
        usual(net)
    assert any("before forward: RuntimeError: out of order" in what for what in patient.unseen)
    monkeypatch.setattr("fovea.diagnosis.watching.course_facts", fails)
    with fovea.watch(net) as patient:
        usual(net)
    assert "could not judge this training (RuntimeError: out of order)" in capsys.readouterr().err
    assert patient.findings == []


def test_hooks_are_gone_before_a_module_compiles_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", lambda function, *_, **__: function)  # what it compiles are other kernels
    for is_compiled_before in (True, False):
        net = plain_net()
        if is_compiled_before:
            net.compile()
        with fovea.watch(net, verbose=False) as patient:
            if not is_compiled_before:
                assert net._forward_hooks
                net[0].compile()
            assert not net._forward_hooks
            assert not net._forward_pre_hooks
            usual(net)
        assert patient.record is not None
        assert patient.record.curves.steps == 36
        assert "the net: no batch of images was seen to enter it" in patient.record.unseen
    assert "compile_itself" not in nn.Module.compile.__code__.co_name


def test_what_is_no_model_is_refused() -> None:
    with pytest.raises(fovea.SettingsError, match="pass the model itself"):
        fovea.watch(make_images())


class _SkorchLike:
    """The one thing that matters of skorch's net: fit makes the module anew."""

    module_: nn.Module

    def initialize(self) -> None:
        self.module_ = plain_net()

    def fit(self) -> None:
        self.initialize()
        usual(self.module_)


def test_a_net_that_makes_its_module_when_it_fits() -> None:
    net = _SkorchLike()
    with fovea.watch(net, verbose=False) as patient:
        net.fit()
    assert patient.record is not None
    assert patient.record.curves.steps == 36
    assert patient.record.batch.initial_loss is not None
    assert [layer.is_connected for layer in patient.record.net.layers] == [True] * 5


@pytest.mark.filterwarnings("ignore")  # skorch's own
def test_skorch_itself() -> None:
    skorch = pytest.importorskip("skorch", reason="skorch is not installed")
    ends = []
    images, labels = make_images()
    for is_watched in (True, False):
        torch.manual_seed(0)
        net = skorch.NeuralNetClassifier(
            plain_net, criterion=nn.CrossEntropyLoss, max_epochs=4, lr=0.1, batch_size=16, verbose=0,
            iterator_train__shuffle=True,
        )  # fmt: skip
        if is_watched:
            with fovea.watch(net, verbose=False) as patient:
                net.fit(images, labels)
        else:
            net.fit(images, labels)
        ends.append([values.clone() for values in net.module_.state_dict().values()])
    assert all(torch.equal(one, other) for one, other in zip(*ends, strict=True))
    assert patient.record is not None
    assert len(patient.record.curves.val_accuracy) == 4
    assert "severe" not in {finding.severity for finding in patient.findings}


@pytest.mark.filterwarnings("ignore")  # Lightning's own
def test_lightning_itself() -> None:
    lightning = pytest.importorskip("lightning", reason="Lightning is not installed")
    ends = []
    for has_forward in (True, False):
        for is_watched in (True, False):
            torch.manual_seed(0)
            net = _lightning_module(lightning, has_forward)
            trainer = lightning.Trainer(
                max_epochs=3, logger=False, enable_checkpointing=False, enable_progress_bar=False,
                enable_model_summary=False, accelerator="cpu",
            )  # fmt: skip
            if is_watched:
                with fovea.watch(net, verbose=False) as patient:
                    trainer.fit(net, *batches())
                assert patient.record is not None
                assert (patient.record.curves.steps, len(patient.record.curves.val_accuracy)) == (18, 3)
                assert "severe" not in {finding.severity for finding in patient.findings}
            else:
                trainer.fit(net, *batches())
            ends.append([values.clone() for values in net.state_dict().values()])
    assert all(torch.equal(one, other) for other_end in ends[1:] for one, other in zip(ends[0], other_end, strict=True))


def _lightning_module(lightning: Any, has_forward: bool) -> Any:
    class Module(lightning.LightningModule):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.net = plain_net()

        def training_step(self, batch: Any, place: int) -> torch.Tensor:
            return F.cross_entropy((self if has_forward else self.net)(batch[0]), batch[1])

        def validation_step(self, batch: Any, place: int) -> None:
            self.log("val_loss", F.cross_entropy((self if has_forward else self.net)(batch[0]), batch[1]))

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return adam(self)

    if has_forward:
        Module.forward = lambda self, images: self.net(images)
    return Module()

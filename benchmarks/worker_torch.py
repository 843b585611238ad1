"""Plain PyTorch as a contender: a DataLoader over float tensors and an eager float32 loop, as in its MNIST example.

python benchmarks/worker_torch.py SPEC    (see workloads.Job.spec; started by the driver)
"""

from __future__ import annotations

import json
import sys
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from chunks import Chunks, own_stdout


def build(spec: dict[str, Any]) -> nn.Module:
    """The workload's layers and ten logits, in PyTorch's own order [B, C, H, W]."""
    height, width, channels = spec["image_shape"]
    made: list[nn.Module] = []
    for kind, *values in spec["layers"]:
        if kind == "conv":
            made += [nn.LazyConv2d(values[0], values[1], padding=values[2]), nn.ReLU()]
        elif kind == "dense":
            made += [nn.LazyLinear(values[0]), nn.ReLU()]
        else:
            simple: dict[str, Any] = {"pool": nn.MaxPool2d, "dropout": nn.Dropout, "flatten": nn.Flatten}
            made.append(simple[kind](*values))
    net = nn.Sequential(*made, nn.LazyLinear(10))
    net(torch.zeros(1, channels, height, width))  # the lazy layers take their sizes
    return net


def main() -> None:
    spec = json.loads(sys.argv[1])
    answers = own_stdout()
    torch.manual_seed(0)
    net, count = build(spec), spec["num_images"]
    height, width, channels = spec["image_shape"]
    images = torch.randint(0, 256, (count, channels, height, width), dtype=torch.uint8).float() / 255
    loader = DataLoader(TensorDataset(images, torch.arange(count) % 10), batch_size=spec["batch_size"], shuffle=True)
    optimizer: torch.optim.Optimizer
    if spec["optimizer"] == "rmsprop":
        optimizer = torch.optim.RMSprop(net.parameters(), lr=spec["lr"], alpha=0.9)
    else:
        optimizer = torch.optim.Adam(net.parameters(), lr=spec["lr"])
    chunks = Chunks(lambda: sum(parameter.numel() for parameter in net.parameters()), answers)
    net.train()
    for inputs, labels in loader:
        optimizer.zero_grad()
        loss = F.cross_entropy(net(inputs), labels)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        chunks.step_done()
    raise SystemExit("the images were used up before the last question")


if __name__ == "__main__":
    main()

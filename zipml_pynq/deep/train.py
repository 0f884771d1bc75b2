"""Caffe's small CIFAR-10 network, trained with weights on few levels; docs/deep.md.

``python -m zipml_pynq.deep`` is this module's command line.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from zipml_pynq.data.checks import check_choice, check_int
from zipml_pynq.deep.data import Pictures
from zipml_pynq.deep.quantizer import (
    MAX_COUNT,
    PARTS,
    ROUNDINGS,
    RULES,
    quantize_weights,
    refresh_levels,
)
from zipml_pynq.errors import ArgumentError, DivergenceError


@dataclass(frozen=True)
class Settings:
    """A run of training.

    Attributes
    ----------
    levels : str
        "full" for full precision, or a name of :data:`zipml_pynq.deep.RULES`.
    count, rounding, per, refresh, first, last
        As for :func:`zipml_pynq.deep.quantize_weights`.
    epochs : int
        1..10,000.
    batch : int
        Pictures a step, 1..65,536; what is left at the end of an epoch is left out.
    rate, momentum, decay : float
        SGD's step at first, Nesterov-free momentum and weight decay; the step falls to 0 along a
        cosine over the run.
    mirror : bool
        Whether every picture is mirrored left to right with probability 1/2.
    bfloat16 : bool
        Products in bfloat16 while training, sums and weights in float32; tests are in float32.
    seed : int
        Of the first weights, of the order of pictures, of mirroring and of stochastic rounding.
    """

    levels: str = "optimal"
    count: int = 5
    rounding: str = "nearest"
    per: str = "layer"
    refresh: int = 50
    first: bool = False
    last: bool = False
    epochs: int = 10
    batch: int = 100
    rate: float = 0.05
    momentum: float = 0.9
    decay: float = 0.0005
    mirror: bool = True
    bfloat16: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        check_choice("levels", self.levels, ("full", *RULES))
        check_int("count", self.count, 2, MAX_COUNT)
        check_choice("rounding", self.rounding, ROUNDINGS)
        check_choice("per", self.per, PARTS)
        check_int("refresh", self.refresh, 1, 1 << 31)
        check_int("epochs", self.epochs, 1, 10_000)
        check_int("batch", self.batch, 1, 1 << 16)
        check_int("seed", self.seed, 0, (1 << 63) - 1)
        for name, low, high in (("rate", 0.0, 1e3), ("momentum", 0.0, 1.0), ("decay", 0.0, 1.0)):
            value = getattr(self, name)
            if not low <= value <= high:
                raise ArgumentError(f"{name} was {value}; allowed is {low:g}..{high:g}")

    @property
    def name(self) -> str:
        """Levels, their number, rounding and part: "optimal5-nearest-layer"; or "full"."""
        if self.levels == "full":
            return self.levels
        return f"{self.levels}{self.count}-{self.rounding}-{self.per}"


def caffe_quick(channels: int = 3, size: int = 32, classes: int = 10) -> nn.Sequential:
    """Caffe's ``cifar10_quick``: three 5 x 5 convolutions of 32, 32 and 64 maps, two dense layers.

    Pooling is 3 x 3 with stride 2: the largest after the first convolution, the mean after the
    others. Weights start as PyTorch's. For pictures (N, channels, size, size); scores (N, classes).
    """

    def pooled(n: int) -> int:
        return -(-(n - 3) // 2) + 1

    side = pooled(pooled(pooled(check_int("size", size, 11, 1024))))
    return nn.Sequential(
        nn.Conv2d(channels, 32, 5, padding=2),
        nn.MaxPool2d(3, 2, ceil_mode=True),
        nn.ReLU(),
        nn.Conv2d(32, 32, 5, padding=2),
        nn.ReLU(),
        nn.AvgPool2d(3, 2, ceil_mode=True),
        nn.Conv2d(32, 64, 5, padding=2),
        nn.ReLU(),
        nn.AvgPool2d(3, 2, ceil_mode=True),
        nn.Flatten(),
        nn.Linear(64 * side * side, 64),
        nn.Linear(64, classes),
    )


@dataclass
class Trained:
    """What a run gave: the net, a :class:`Standardized` one, and a row an epoch.

    Rows have "loss" (mean cross entropy of the epoch's steps), "accuracy" (of the test pictures)
    and "test_loss", both with the weights on levels chosen at the end of the epoch.
    """

    net: nn.Module
    history: list[dict[str, float]]


class Standardized(nn.Module):
    """A net for pictures as they are stored.

    Parameters
    ----------
    net : nn.Module
        For float32 pictures (N, channels, height, width).
    pictures : Tensor, uint8 (N, channels, height, width)
        Their mean picture is subtracted from what comes in, and all is divided by the standard
        deviation of what is left of them. Both are buffers.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, net: nn.Module, pictures: Tensor) -> None:
        super().__init__()
        pixels = pictures.float()
        mean = pixels.mean(0, keepdim=True)
        self.register_buffer("mean", mean)
        self.register_buffer("scale", 1.0 / pixels.sub_(mean).std())
        self.net = net

    def forward(self, pictures: Tensor) -> Tensor:
        """Scores (N, classes) of pictures, uint8 or float32 of 0..255."""
        x = pictures.to(torch.float32, memory_format=torch.channels_last)
        return self.net((x - self.mean) * self.scale)


def evaluate(net: nn.Module, pictures: Tensor, labels: Tensor) -> tuple[float, float]:
    """Share of pictures that ``net`` puts in their class, and mean cross entropy; in float32."""
    net.eval()
    right, loss = 0, 0.0
    with torch.no_grad(), parametrize.cached():
        for x, y in zip(pictures.split(500), labels.split(500), strict=True):
            scores = net(x)
            right += int((scores.argmax(1) == y).sum())
            loss += float(nn.functional.cross_entropy(scores, y, reduction="sum"))
    return right / len(labels), loss / len(labels)


def train(
    pictures: Pictures,
    settings: Settings | None = None,
    checkpoint: str | Path | None = None,
    progress: Callable[[int], Any] | None = None,
    make_net: Callable[[int, int, int], nn.Module] = caffe_quick,
) -> Trained:
    """Train a net on ``pictures``: the same bits from the same settings, machine and threads.

    Parameters
    ----------
    checkpoint : path, optional
        A file that holds the run after every epoch. Where it exists, the run goes on from there,
        with the bits of an uninterrupted one.
    progress : callable, optional
        Called with the number of steps done since the last call.
    make_net : callable
        Of channels, size and classes to a net; :func:`caffe_quick`.

    Raises
    ------
    ArgumentError
        The checkpoint is of another run, or a batch is larger than the data set.
    DivergenceError
        The loss or a weight is not finite any more.
    """
    s = settings or Settings()
    steps = len(pictures.train) // s.batch
    if steps == 0:
        raise ArgumentError(f"batch was {s.batch}; there are {len(pictures.train)} pictures")
    torch.manual_seed(s.seed)
    inner = make_net(pictures.train.shape[1], pictures.train.shape[2], 10)
    inner.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if s.levels != "full":
        quantize_weights(
            inner, s.levels, s.count, s.rounding, s.per, s.refresh, first=s.first, last=s.last
        )
    net = Standardized(inner, pictures.train)
    optimizer = torch.optim.SGD(
        net.parameters(), lr=s.rate, momentum=s.momentum, weight_decay=s.decay
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, s.epochs * steps)
    # of the order of pictures and of mirroring; rounding draws from torch's own
    order = torch.Generator().manual_seed(s.seed)
    history: list[dict[str, float]] = []
    run = {**asdict(s), "pictures": pictures.name, "train": len(pictures.train)}

    path = None if checkpoint is None else Path(checkpoint)
    if path is not None and path.exists():
        state = torch.load(path, weights_only=True)
        if state["run"] != run:
            raise ArgumentError(f"checkpoint {path} was of another run: {state['run']}")
        net.load_state_dict(state["net"])
        optimizer.load_state_dict(state["optimizer"])
        schedule.load_state_dict(state["schedule"])
        order.set_state(state["order"])
        torch.set_rng_state(state["rounding"])
        history = state["history"]

    for epoch in range(len(history), s.epochs):
        net.train()
        total = torch.zeros(())
        for index in torch.randperm(len(pictures.train), generator=order).split(s.batch)[:steps]:
            x = pictures.train[index]
            if s.mirror:
                turned = torch.rand(len(x), generator=order) < 0.5
                x = torch.where(turned[:, None, None, None], x.flip(3), x)
            with torch.autocast("cpu", torch.bfloat16, enabled=s.bfloat16):
                scores = net(x)
            loss = nn.functional.cross_entropy(scores.float(), pictures.train_labels[index])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.detach()
            if progress is not None:
                progress(1)
        if not torch.isfinite(total):
            raise DivergenceError(f"the loss was {float(total)} in epoch {epoch}, rate {s.rate}")
        refresh_levels(net)
        accuracy, test_loss = evaluate(net, pictures.test, pictures.test_labels)
        history.append({"loss": float(total) / steps, "accuracy": accuracy, "test_loss": test_loss})
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            state = {
                "run": run,
                "net": net.state_dict(),
                "optimizer": optimizer.state_dict(),
                "schedule": schedule.state_dict(),
                "order": order.get_state(),
                "rounding": torch.get_rng_state(),
                "history": history,
            }
            # whole or not at all, should the run be stopped here
            new = path.with_suffix(".new")
            torch.save(state, new)
            os.replace(new, path)
    return Trained(net, history)


def plot_curves(
    curves: Mapping[str, Sequence[Sequence[Mapping[str, float]]]], path: str | Path
) -> None:
    """Training loss and test accuracy by epoch, as a picture.

    Parameters
    ----------
    curves : mapping
        Names to histories of runs, as in :class:`Trained`, one a seed, of equal length: the line
        is their mean, the band their range.
    path : path
        Of a PNG file.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(11, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    loss, accuracy = figure.subplots(1, 2)
    for name, runs in curves.items():
        for axis, key, factor in ((loss, "loss", 1.0), (accuracy, "accuracy", 100.0)):
            rows = torch.tensor([[factor * row[key] for row in run] for run in runs])
            epochs = range(1, rows.shape[1] + 1)
            (line,) = axis.plot(epochs, rows.mean(0).numpy(), label=name, marker=".", lw=1.5)
            low, high = rows.min(0).values.numpy(), rows.max(0).values.numpy()
            axis.fill_between(epochs, low, high, color=line.get_color(), alpha=0.15, lw=0)
    loss.set(xlabel="epoch", ylabel="training loss")
    accuracy.set(xlabel="epoch", ylabel="test accuracy, %")
    for axis in (loss, accuracy):
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.grid(alpha=0.3)
    accuracy.legend(fontsize="small")
    figure.savefig(str(path), dpi=110)

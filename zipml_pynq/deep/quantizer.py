"""Weights on few levels while a net is trained: docs/deep.md.

A quantized layer keeps its weight in full precision, the master weight, which the optimizer
changes. What the layer computes with is that weight rounded to levels; the gradient by the rounded
weight is taken for the gradient by the master weight (straight through).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn
from torch.nn.utils import parametrize

from zipml_pynq.data.checks import check_choice, check_int
from zipml_pynq.data.levels import optimal_levels, rounding_variance
from zipml_pynq.errors import ArgumentError

#: Chooses levels: values (N,) and their number k to ascending levels (k,).
Rule = Callable[[NDArray[np.floating], int], ArrayLike]

ROUNDINGS: tuple[str, ...] = ("nearest", "stochastic")
PARTS: tuple[str, ...] = ("layer", "map")
#: Shares of values that :func:`clipped_levels` may leave between its ends.
SHARES: tuple[float, ...] = (0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.98, 0.99, 0.999, 1.0)
#: Codes are bytes.
MAX_COUNT = 256
#: Layers that are quantized; the first dimension of their weight counts the output maps.
LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


def xnor_levels(values: NDArray[np.floating], k: int) -> NDArray[np.float64]:
    """``k`` equidistant levels between -s and s, s being the mean of \\|values\\| (N,).

    For k = 2 this is XNOR-Net's binary weight (arXiv 1603.05279, equation 6), beyond it the k-level
    rounding of its section on k-bit quantization with the same scale: XNOR5 has k = 5.
    """
    scale = float(np.abs(values).mean(dtype=np.float64))
    return np.linspace(-scale, scale, k)


def uniform_levels(values: NDArray[np.floating], k: int) -> NDArray[np.float64]:
    """``k`` equidistant levels from the smallest to the largest of ``values`` (N,)."""
    return np.linspace(float(values.min()), float(values.max()), k)


def clipped_levels(values: NDArray[np.floating], k: int) -> NDArray[np.float64]:
    """``k`` levels of small mean squared error of stochastic rounding, the ends included.

    Optimal levels, but between the ends ±c instead of the smallest and the largest value: values
    beyond become ±c, which is a bias. Of :data:`SHARES`' quantiles of \\|values\\| (N,), c is that
    for which variance and squared bias are the least together.
    """
    v = np.sort(values.astype(np.float64))

    def error(end: float) -> float:
        inside = np.clip(v, -end, end)
        levels = optimal_levels(inside, k, method="histogram")
        return rounding_variance(inside, levels) + float(np.square(v - inside).mean())

    end = min(np.quantile(np.abs(v), SHARES), key=error)
    return optimal_levels(np.clip(v, -end, end), k)


#: Rules by name; "optimal" has the least variance of stochastic rounding (ZipML, section 3).
RULES: dict[str, Rule] = {
    "xnor": xnor_levels,
    "uniform": uniform_levels,
    "optimal": optimal_levels,
    "clipped": clipped_levels,
}


def _codes(weight: Tensor, levels: Tensor, stochastic: bool) -> Tensor:
    """Index of a level for every entry of ``weight`` (rows, n), int64; ``levels`` (rows, k)."""
    upper = torch.searchsorted(levels, weight, right=True).clamp_(1, levels.shape[1] - 1)
    low, high = levels.gather(1, upper - 1), levels.gather(1, upper)
    if stochastic:
        # beyond the ends the nearest end; no division by 0 where levels coincide
        up = torch.rand_like(weight) * (high - low) < weight - low
    else:
        up = high - weight < weight - low
    return upper - 1 + up.long()


class _Rounded(torch.autograd.Function):
    """Weights rounded to levels; the gradient goes straight through."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, levels: Tensor, stochastic: bool) -> Tensor:
        rows = weight.reshape(levels.shape[0], -1)
        return levels.gather(1, _codes(rows, levels, stochastic)).reshape(weight.shape)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        return gradients[0], None, None


class LevelQuantizer(nn.Module):
    """A parametrization (:mod:`torch.nn.utils.parametrize`): a weight, rounded to ``count`` levels.

    In training mode, every ``refresh``-th read of the weight, the first one included, chooses the
    levels anew from the master weight; a layer reads it once a forward pass. In evaluation mode
    the levels stay, and rounding is to the nearest: stochastic rounding draws in training only.

    Parameters
    ----------
    weight : Tensor, (maps, ...)
        Floating point, finite; the levels are chosen from it at first.
    levels : str or callable
        A name in :data:`RULES`, or any function of values (N,) and k to k ascending levels.
    count : int
        Levels k, 2..256.
    rounding : str
        "nearest", ties to the lower level; or "stochastic", without bias between the ends.
    per : str
        "layer": one table for all of the weight. "map": one for each output map.
    refresh : int
        1..2^31.

    Attributes
    ----------
    levels : Tensor, (1 or maps, count)
        Ascending, of the weight's dtype. A buffer, as is ``reads``: both are in the state dict.

    Raises
    ------
    ArgumentError
        An argument is outside what is allowed, or the weight is not finite.
    """

    levels: Tensor
    reads: Tensor

    def __init__(
        self,
        weight: Tensor,
        levels: str | Rule = "optimal",
        count: int = 5,
        rounding: str = "nearest",
        per: str = "layer",
        refresh: int = 50,
    ) -> None:
        super().__init__()
        if not isinstance(weight, Tensor) or not weight.is_floating_point() or weight.numel() == 0:
            raise ArgumentError("weight was not a tensor of floating-point numbers with entries")
        self.rule: Rule = levels if callable(levels) else RULES[_check_rule(levels)]
        self.count = check_int("count", count, 2, MAX_COUNT)
        self.rounding = check_choice("rounding", rounding, ROUNDINGS)
        self.per = check_choice("per", per, PARTS)
        self.refresh = check_int("refresh", refresh, 1, 1 << 31)
        rows = 1 if self.per == "layer" else weight.shape[0]
        self.register_buffer("levels", weight.new_empty(rows, self.count))
        self.register_buffer("reads", torch.zeros((), dtype=torch.int64))
        self.fit(weight)

    def fit(self, weight: Tensor) -> None:
        """Choose the levels anew from ``weight``.

        Raises
        ------
        ArgumentError
            The weight is not finite, or the rule gave something else than ascending levels.
        """
        rows = weight.detach().reshape(self.levels.shape[0], -1)
        values = rows.to("cpu", torch.float32 if weight.dtype != torch.float64 else None).numpy()
        if not np.isfinite(values).all():
            raise ArgumentError("weight was not finite; the training that it comes from diverged")
        table = np.array([self.rule(row, self.count) for row in values], dtype=np.float64)
        if table.shape != self.levels.shape or not (table[:, 1:] >= table[:, :-1]).all():
            raise ArgumentError(
                f"levels gave {table.tolist()}; {self.count} ascending numbers are needed"
            )
        self.levels.copy_(torch.from_numpy(table))

    def forward(self, weight: Tensor) -> Tensor:
        """``weight`` (maps, ...) rounded to its levels, same shape and dtype."""
        if self.training:
            if int(self.reads) % self.refresh == 0:
                self.fit(weight)
            self.reads += 1
        stochastic = self.training and self.rounding == "stochastic"
        return _Rounded.apply(weight, self.levels, stochastic)

    def right_inverse(self, weight: Tensor) -> Tensor:
        """What is assigned to the layer's weight becomes its master weight."""
        return weight

    def extra_repr(self) -> str:
        """For ``print(net)``."""
        return f"count={self.count}, rounding={self.rounding}, per={self.per}"


class LevelTable(nn.Module):
    """A parametrization: a weight kept as codes (uint8, its shape) and levels (rows, count)."""

    def __init__(self, quantizer: LevelQuantizer) -> None:
        super().__init__()
        # not registered: it is only needed while the codes are made
        self._levels = quantizer.levels.detach().clone()

    def forward(self, codes: Tensor, levels: Tensor) -> Tensor:
        """The weight."""
        rows = codes.reshape(levels.shape[0], -1).long()
        return levels.gather(1, rows).reshape(codes.shape)

    def right_inverse(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Codes of the levels nearest to ``weight``, and the levels."""
        rows = weight.reshape(self._levels.shape[0], -1)
        codes = _codes(rows, self._levels, stochastic=False).reshape(weight.shape)
        return codes.to(torch.uint8), self._levels


def _check_rule(levels: object) -> str:
    return check_choice("levels", levels, tuple(RULES))


# Any: what parametrize adds to a layer is unknown to its type
def _quantizer(layer: Any) -> LevelQuantizer | None:
    if not parametrize.is_parametrized(layer, "weight"):
        return None
    last = layer.parametrizations.weight[-1]
    return last if isinstance(last, LevelQuantizer) else None


def quantized_layers(net: nn.Module) -> Iterator[tuple[str, Any, LevelQuantizer]]:
    """Name, layer and quantizer of every quantized layer of ``net``."""
    for name, layer in net.named_modules():
        quantizer = _quantizer(layer)
        if quantizer is not None:
            yield name, layer, quantizer


def quantize_weights(
    net: nn.Module,
    levels: str | Rule = "optimal",
    count: int = 5,
    rounding: str = "nearest",
    per: str = "layer",
    refresh: int = 50,
    first: bool = False,
    last: bool = False,
    layers: Iterable[str] | None = None,
) -> nn.Module:
    """Let the dense and convolutional layers of ``net`` compute with weights on few levels.

    Their parameters become the master weights and stay the same objects, so that an optimizer made
    before or after trains them. Biases and other parameters are left alone.

    Parameters
    ----------
    net : nn.Module
        Changed in place.
    levels, count, rounding, per, refresh
        As for :class:`LevelQuantizer`.
    first, last : bool
        Whether the first and the last such layer, in the order of ``net.named_modules()``, are
        quantized, too; XNOR-Net leaves both in full precision.
    layers : iterable of str, optional
        Names in ``net.named_modules()`` of the layers to quantize, instead of first and last.

    Returns
    -------
    nn.Module
        ``net``.

    Raises
    ------
    ArgumentError
        An argument is outside what is allowed, no layer is left to quantize, or one is quantized
        already. ``net`` is then unchanged.
    """
    found = {name: layer for name, layer in net.named_modules() if isinstance(layer, LAYERS)}
    if layers is None:
        names = list(found)[0 if first else 1 :]
        names = names if last else [name for name in names if name != list(found)[-1]]
    else:
        names = list(layers)
        missing = [name for name in names if name not in found]
        if missing:
            raise ArgumentError(f"layers had {missing}; allowed are {list(found)}")
    if not names:
        raise ArgumentError(
            f"net had {len(found)} dense or convolutional layer(s), none of them to be quantized "
            f"with first={first} and last={last}"
        )
    for name in names:
        if parametrize.is_parametrized(found[name], "weight"):
            raise ArgumentError(f"net has a parametrized weight in {name!r} already")
    made = [
        LevelQuantizer(found[name].weight, levels, count, rounding, per, refresh) for name in names
    ]
    for name, quantizer in zip(names, made, strict=True):
        # unsafe only leaves out a trial read, which would count
        parametrize.register_parametrization(found[name], "weight", quantizer, unsafe=True)
    return net


def refresh_levels(net: nn.Module) -> None:
    """Choose the levels of every quantized layer anew, as for the end of training.

    Raises
    ------
    ArgumentError
        A weight is not finite.
    """
    for _, layer, quantizer in quantized_layers(net):
        quantizer.fit(layer.parametrizations.weight.original)


def remove_quantization(net: nn.Module, keep: str = "levels") -> nn.Module:
    """Make plain parameters of the quantized weights of ``net``, in place; returns ``net``.

    Parameters
    ----------
    keep : str
        "levels": the weights rounded to the nearest level. "master": the master weights.

    Raises
    ------
    ArgumentError
        ``keep`` is neither.
    """
    check_choice("keep", keep, ("levels", "master"))
    for _, layer, quantizer in list(quantized_layers(net)):
        quantizer.eval()
        parametrize.remove_parametrizations(layer, "weight", leave_parametrized=keep == "levels")
    return net


def freeze_weights(net: nn.Module) -> nn.Module:
    """Keep every quantized weight of ``net`` as codes and levels only, in place; returns ``net``.

    The state dict then holds ``...weight.original0`` (codes, uint8) and ``...weight.original1``
    (levels), and so does what torch.export makes of the net. It computes what the net in evaluation
    mode computed, and these weights are trained no more.
    """
    for _, layer, quantizer in list(quantized_layers(net)):
        remove_quantization(layer)
        layer.weight.requires_grad_(False)
        parametrize.register_parametrization(layer, "weight", LevelTable(quantizer))
    return net

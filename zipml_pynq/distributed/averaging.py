"""What shards send, and how it becomes one model: integers whose sum has no order.

A shard sends the change of its model, ``d = x_shard - x``, as integers of few bits: the Q_g of
ZipML (section 4) between machines instead of between samples, spread over groups of entries as QSGD
does (Alistarh et al., NeurIPS 2017, section 3.3). The formulas are in docs/distributed.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zipml_pynq.data.draws import philox
from zipml_pynq.errors import ArgumentError
from zipml_pynq.training.result import LARGEST

#: Bits of an entry that a shard sends; 32 are the model itself, which nothing rounds.
CHANGE_BITS = (2, 4, 8, 16, 32)
EXACT = 32
#: Entries that share a unit: its 32 bits are half a bit an entry.
GROUP = 64
#: Second halves of the keys that changes are rounded with, and that seeds of runs are drawn with.
_CHANGE_KEY, _RUN_KEY = 0x51475F43, 0x51475F52
#: Weights are counted so that their sum is below 2^30; a change is below 2^33, products of both
#: below 2^63.
_WEIGHT_BITS = 30


@dataclass(frozen=True, eq=False)
class Change:
    """A model's change over a round, as it goes over the wire.

    Parameters
    ----------
    bits : int
        One of :data:`CHANGE_BITS`.
    codes : ndarray of uint8
        Signed integers of so many bits, entry behind entry; of 32 bits the model that came out.
    units : ndarray of uint32, shape (models * groups,)
        What one of these integers counts, of every group, in units of the model's fixed point;
        empty at 32 bits.
    shape : tuple of int
        (models, features).
    """

    bits: int
    codes: NDArray[np.uint8]
    units: NDArray[np.uint32]
    shape: tuple[int, int]

    @property
    def nbytes(self) -> int:
        """Bytes that are sent."""
        return self.codes.nbytes + self.units.nbytes

    def decoded(self, model: NDArray[np.int32]) -> NDArray[np.int64]:
        """The change of each entry in fixed point, int64 (models, features)."""
        if self.bits == EXACT:
            return self.codes.view(np.int32).reshape(self.shape).astype(np.int64) - model
        models, features = self.shape
        width = len(self.units) // models * GROUP
        codes = _unpacked(self.codes, self.bits).reshape(models, -1, GROUP)
        scaled = codes * self.units.reshape(models, -1, 1).astype(np.int64)
        return scaled.reshape(models, width)[:, :features]


def check_change_bits(bits: object) -> int:
    """``bits`` of a change, checked."""
    if bits not in CHANGE_BITS or isinstance(bits, bool):
        raise ArgumentError(
            f"change_bits was {bits!r}; allowed are {', '.join(map(str, CHANGE_BITS))}"
        )
    return int(bits)  # type: ignore[call-overload]


def change_of(
    before: NDArray[np.int32],
    after: NDArray[np.int32],
    bits: int,
    seed: int,
    round_number: int,
    shard: int,
) -> Change:
    """The change from one model to another, rounded stochastically to ``bits`` bits.

    An entry d of a group whose largest size is m becomes ``floor(d / u)`` or one more, at random so
    that u times it has the mean d, to within 2^-32 u; ``u = ceil(m / (2^(bits-1) - 1))``. The draw
    depends on nothing but seed, round, shard, and the numbers of model and entry.

    Parameters
    ----------
    before, after : ndarray of int32, shape (models, features)
        In the model's fixed point.
    bits : int
        One of :data:`CHANGE_BITS`; 32 rounds nothing.
    seed, round_number, shard : int
        0..2^32 - 1.
    """
    models, features = before.shape
    if bits == EXACT:
        codes = np.ascontiguousarray(after, dtype=np.int32).view(np.uint8).ravel()
        return Change(bits, codes, np.empty(0, np.uint32), (models, features))
    groups = -(-features // GROUP)
    change = np.zeros((models, groups * GROUP), dtype=np.int64)
    change[:, :features] = after.astype(np.int64) - before
    change = change.reshape(models, groups, GROUP)
    most = (1 << (bits - 1)) - 1
    sizes = np.abs(change).max(axis=2, keepdims=True)
    # at most 2^32 - 2, for models are within +-(2^31 - 1); of a group that does not change any does
    units = np.maximum(-(-sizes // most), 1)
    whole, rest = np.divmod(change, units)
    random = _words(models, groups * GROUP, seed, round_number, shard).reshape(change.shape)
    up = (random * units.astype(np.uint64)) >> np.uint64(32) < rest.astype(np.uint64)
    codes = _packed((whole + up).ravel(), bits)
    return Change(bits, codes, units.ravel().astype(np.uint32), (models, features))


def _words(
    models: int, entries: int, seed: int, round_number: int, shard: int
) -> NDArray[np.uint64]:
    """A random word of 32 bits for every entry, uint64 (models, entries); ``entries`` by 4."""
    number = np.arange(models)[:, None]
    four = np.arange(entries // 4)[None, :]
    words = philox((four, number, round_number, shard), (seed, _CHANGE_KEY))
    return np.stack(words, axis=-1).reshape(models, entries).astype(np.uint64)


def run_seed(seed: int, round_number: int, shard: int) -> int:
    """Seed of the random numbers on chip for one shard's part of a round.

    Rounding that shards had in common would not average out.
    """
    return int(philox((round_number, shard, 0, 0), (seed, _RUN_KEY))[0])


def shard_seed(seed: int, shard: int) -> int:
    """Seed, of 64 bits, that a shard's values are drawn with, for the same reason."""
    low, high, _, _ = philox((0, shard, 1, 0), (seed, _RUN_KEY))
    return int(low) | int(high) << 32


def _packed(codes: NDArray[np.int64], bits: int) -> NDArray[np.uint8]:
    """Signed integers in two's complement of ``bits`` bits, the first in the lowest bits."""
    if bits == 16:
        return codes.astype("<i2").view(np.uint8)
    fields = (codes & ((1 << bits) - 1)).astype(np.uint8).reshape(-1, 8 // bits)
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    return np.bitwise_or.reduce(fields << shifts, axis=1).astype(np.uint8)


def _unpacked(codes: NDArray[np.uint8], bits: int) -> NDArray[np.int64]:
    if bits == 16:
        return codes.view("<i2").astype(np.int64)
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    fields = (codes[:, None] >> shifts & ((1 << bits) - 1)).astype(np.int64).ravel()
    half = 1 << (bits - 1)
    return (fields ^ half) - half


def weights_of(samples: Sequence[int]) -> list[int]:
    """Weights of shards of so many samples each: their numbers, of which high bits alone where the
    sum needs more than 30 bits."""
    shift = max(0, int(sum(samples)).bit_length() - _WEIGHT_BITS)
    return [int(count) >> shift for count in samples]


#: Fraction bits of the momentum.
_MOMENTUM_BITS = 16


#: "auto" of the momentum, for more than one shard (docs/distributed.md).
AUTO_MOMENTUM = 0.5


def check_momentum(momentum: Any, shards: int) -> float:
    """``momentum`` of so many shards, checked: "auto", or 0 to below 1."""
    if isinstance(momentum, str) and momentum == "auto":
        return AUTO_MOMENTUM if shards > 1 else 0.0
    number = isinstance(momentum, int | float | np.number) and not isinstance(momentum, bool)
    if not number or not 0 <= momentum < 1:
        raise ArgumentError(
            f"momentum was {momentum!r}; allowed are 'auto' and numbers from 0 to below 1"
        )
    return float(momentum)


def carried_on(
    model: NDArray[np.int32],
    now: NDArray[np.int32],
    before: NDArray[np.int32],
    momentum: float,
) -> tuple[NDArray[np.int32], int]:
    """A round's mean ``model`` moved by what the round before it moved, times ``momentum``.

    The heavy ball over rounds (SlowMo: Wang, Tantia, Ballas and Rabbat, ICLR 2020), in integers:
    ``momentum`` counts in units of 2^-16, halves are rounded up.

    Parameters
    ----------
    model : ndarray of int32, shape (models, features)
        What the round's :class:`Mean` is.
    now, before : ndarray of int32, shape (models, features)
        What this round, and the one before it, began with.

    Returns
    -------
    The next model, and how many of its entries were clamped.
    """
    factor = round(momentum * (1 << _MOMENTUM_BITS))
    moved = factor * (now.astype(np.int64) - before) + (1 << (_MOMENTUM_BITS - 1))
    exact = model + (moved >> _MOMENTUM_BITS)
    clamped = np.clip(exact, -LARGEST, LARGEST)
    return clamped.astype(np.int32), int((clamped != exact).sum())


class Mean:
    """The model that all shards of a round come to, whatever order they come in.

    ``x + round(sum(w_s d_s) / sum(w_s))``, halves up, in integers.

    Parameters
    ----------
    model : ndarray of int32, shape (models, features)
        What all shards began the round with.
    """

    def __init__(self, model: NDArray[np.int32]) -> None:
        self._model = model
        self._sum = np.zeros(model.shape, dtype=np.int64)
        self._weight = 0

    def add(self, change: Change, weight: int) -> None:
        """Take a shard's change in."""
        self._sum += weight * change.decoded(self._model)
        self._weight += weight

    def result(self) -> tuple[NDArray[np.int32], int]:
        """The next model, int32 (models, features), and how many of its entries were clamped."""
        if self._weight == 0:
            return self._model, 0
        whole, rest = np.divmod(self._sum, self._weight)
        moved = self._model + whole + (2 * rest >= self._weight)
        clamped = np.clip(moved, -LARGEST, LARGEST)
        return clamped.astype(np.int32), int((clamped != moved).sum())

"""Raw samples as what training on draws of them is to end at: sums over all of them, exact."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from zipml_pynq._engine import lib
from zipml_pynq.data.compiled import check_memory
from zipml_pynq.data.normalization import Normalization
from zipml_pynq.data.rows import available_bytes, pointer
from zipml_pynq.errors import ArgumentError

#: Values that are normalized at a time, and the share of the memory that is free that they may take
#: to stay so between passes.
_AT_A_TIME, _KEPT_SHARE = 1 << 20, 0.25
#: Blocks that several threads may work on before what they found is added up.
_TOGETHER = 16

T = TypeVar("T")
#: Calls a function with each of some things, in threads or not, and hands on what it returned.
Each = Callable[[Callable[[Any], Any], Sequence[Any]], Iterable[Any]]
FloatArray = NDArray[np.float64]
SingleArray = NDArray[np.float32]


class ExactRows:
    """The rows of a data set at full precision, for products with all of them.

    Parameters
    ----------
    X : array_like or sparse matrix, (samples, columns)
        Raw samples, in the order of the data set's.
    normalization : Normalization
        The data set's.
    samples : int
        How many the data set has.
    order : ndarray of intp, (samples,), optional
        Which row of ``X`` each of the data set's is, where they have another order.

    Raises
    ------
    ArgumentError
        Other columns or another number of rows than the data set's.
    """

    def __init__(
        self,
        X: Any,
        normalization: Normalization,
        samples: int,
        order: NDArray[np.intp] | None = None,
    ) -> None:
        self.X = normalization.check(X)
        if self.X.shape[0] != samples:
            raise ArgumentError(
                f"refine had {self.X.shape[0]} row(s); this data set has {samples} samples"
            )
        self.normalization, self.order = normalization, order
        self.samples, self.features = samples, normalization.features
        self._values: NDArray[np.float32] | None = None
        self._keeps = self.nbytes <= _KEPT_SHARE * available_bytes()

    def _each_block(
        self, work: Callable[[slice, NDArray[np.float32]], T], each: Each
    ) -> Iterator[tuple[slice, T]]:
        """Blocks of rows, in their order, and what ``work`` makes of each and its values.

        Whatever does some of them at a time, what is made of them is added up in the same order.
        """
        if self._keeps and self._values is None:
            self._values = self.normalization.transform(self.X, self.order)

        def of(rows: slice) -> T:
            return work(rows, self.some(rows))

        step = max(1, _AT_A_TIME // self.features)
        blocks = [
            slice(first, min(first + step, self.samples)) for first in range(0, self.samples, step)
        ]
        for i in range(0, len(blocks), _TOGETHER):
            some = blocks[i : i + _TOGETHER]
            yield from zip(some, each(of, some), strict=True)

    @property
    def nbytes(self) -> int:
        """What a pass reads: four bytes a value, the intercept's included."""
        return 4 * self.samples * self.features

    def some(self, index: NDArray[np.intp] | slice) -> NDArray[np.float32]:
        """Rows of these numbers in normalized units, shape (rows, features)."""
        if self._values is not None:
            return self._values[index]
        return self.normalization.transform(
            self.X[index if self.order is None else self.order[index]]
        )

    def dots(
        self, models: FloatArray, each: Each = map, out: SingleArray | None = None
    ) -> SingleArray:
        """Every row times each of some models, float32 of shape (models, samples): a pass.

        ``each`` calls a function with each of some blocks of rows. ``out`` is an array for them.
        """
        found = np.empty((len(models), self.samples), np.float32) if out is None else out
        x = np.ascontiguousarray(models, np.float32)
        for _ in self._each_block(lambda at, own: row_products(own, x, found[:, at]), each):
            pass
        return found

    def sums(self, factors: NDArray[np.floating], each: Each = map) -> FloatArray:
        """The mean over all rows, each times its factor, for each row of factors: a pass.

        ``factors`` are (models, samples), taken as float32, the means float64 of shape (models,
        features).
        """
        found = np.zeros((len(factors), self.features))
        own = np.ascontiguousarray(factors, np.float32)
        for _, sums in self._each_block(lambda at, rows: row_sums(rows, own[:, at]), each):
            found += sums
        return found / self.samples

    def moment(
        self,
        models: FloatArray,
        labels: FloatArray | None,
        weights: FloatArray | None,
        each: Each = map,
    ) -> tuple[FloatArray, FloatArray]:
        """Mean of weight times row times (row times model - label), and half of that of its square.

        The gradients of least squares, shape (models, features), and the losses of some models; of
        labels of 0, which None stands for, the second moment times vectors: one pass. ``labels``
        and ``weights``, which are 1 for None, have shape (models, samples).
        """

        def of(rows: slice, values: NDArray[np.float32]) -> tuple[FloatArray, list[float]]:
            residual = row_products(values, models).astype(np.float64)
            if labels is not None:
                residual -= labels[:, rows]
            weighted = residual if weights is None else weights[:, rows] * residual
            # one after the other: of several together the sums' order would be another
            losses = [float(w @ r) for w, r in zip(weighted, residual, strict=True)]
            return row_sums(values, weighted), losses

        found, losses = np.zeros((len(models), self.features)), np.zeros(len(models))
        for _, (sums, own) in self._each_block(of, each):
            found += sums
            losses += own
        return found / self.samples, losses / (2 * self.samples)


def row_products(
    values: SingleArray, vectors: NDArray[np.floating], out: SingleArray | None = None
) -> SingleArray:
    """``vectors @ values.T`` in float32, each vector for itself: the same bits on every machine.

    Parameters
    ----------
    values : ndarray of float32, shape (rows, features)
    vectors : ndarray, shape (vectors, features)
    out : ndarray of float32, shape (vectors, rows), optional
        Where they are to go, rows of contiguous numbers.

    Returns
    -------
    ndarray of float32, shape (vectors, rows)
    """
    values, x = (np.ascontiguousarray(a, np.float32) for a in (values, vectors))
    found = np.empty((len(x), len(values)), np.float32) if out is None else out
    lib.zipml_row_products(
        pointer("float *", values),
        *values.shape,
        pointer("float *", x),
        len(x),
        pointer("float *", found),
        _stride(found),
    )
    return found


def row_sums(values: SingleArray, factors: NDArray[np.floating]) -> FloatArray:
    """``factors @ values`` likewise, float64 of shape (vectors, features).

    ``factors`` are (vectors, rows), taken as float32.
    """
    values, own = np.ascontiguousarray(values, np.float32), np.asarray(factors, np.float32)
    if not _side_by_side(own):
        own = np.ascontiguousarray(own)
    found = np.zeros((len(own), values.shape[1]))
    status = lib.zipml_row_sums(
        pointer("float *", values),
        *values.shape,
        pointer("float *", own),
        _stride(own),
        len(own),
        pointer("double *", found),
    )
    check_memory(status)
    return found


def _side_by_side(rows: SingleArray) -> bool:
    """Whether a row's numbers are; of one number the stride tells nothing."""
    return rows.shape[1] <= 1 or rows.strides[1] == rows.itemsize


def _stride(rows: SingleArray) -> int:
    """Numbers from one row to the next."""
    assert _side_by_side(rows)
    return rows.strides[0] // rows.itemsize

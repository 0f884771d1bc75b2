"""Losses of linear models: their values, their derivatives, and how the accelerator gets these.

docs/losses.md derives the approximations and their bounds (ZipML, section 4 and appendix).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.polynomial.chebyshev import chebinterpolate, chebval, chebvander
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import linprog

from zipml_pynq.constants import CONFIG
from zipml_pynq.data.checks import check_choice, check_int
from zipml_pynq.errors import ArgumentError

Function = Callable[[NDArray[np.float64]], NDArray[np.float64]]


@dataclass(frozen=True)
class Loss:
    """A loss as a function of the prediction z and the label y.

    Parameters
    ----------
    name : str
        As :func:`zipml_pynq.training.make_plan.make_plan` takes it.
    margin : bool
        Whether it depends on the margin m = y z alone, y = -1 or 1.
    value : callable
        Of the margin; of the residual z - y where ``margin`` is false.
    size : callable or None
        Minus the derivative by the margin; None for least squares, whose derivative is z - y.
    curvature : float
        Largest second derivative; of the hinge, which has none, that of the squared one.
    jump : float or None
        Margin at which ``size`` falls from 1 to 0 at once.
    """

    name: str
    margin: bool
    value: Function
    size: Function | None
    curvature: float
    jump: float | None = None

    def derivative(self, z: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
        """Exact derivative by the prediction z; of a loss of the margin the sign of y counts."""
        if self.size is None:
            return z - y
        return np.where(y < 0, self.size(-z), -self.size(z))


def _sigmoid(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.exp(-np.logaddexp(0, -x)))


LOSSES: dict[str, Loss] = {
    loss.name: loss
    for loss in (
        Loss("least_squares", False, lambda r: r**2 / 2, None, 1.0),
        Loss(
            "hinge",
            True,
            lambda m: np.maximum(0, 1 - m),
            lambda m: (m < 1).astype(np.float64),
            1.0,
            jump=1.0,
        ),
        Loss(
            "squared_hinge",
            True,
            lambda m: np.maximum(0, 1 - m) ** 2 / 2,
            lambda m: np.maximum(0, 1 - m),
            1.0,
        ),
        Loss("logistic", True, lambda m: np.logaddexp(0, -m), lambda m: _sigmoid(-m), 0.25),
    )
}
#: Ways to evaluate a derivative that is not linear: on one quantized sample, or as a polynomial of
#: independent ones.
APPROXIMATIONS = ("direct", "chebyshev")
#: Log2 of the range R by default, for what is given by a table or a polynomial.
TABLE_RANGE_LOG2, CHEBYSHEV_RANGE_LOG2 = 4, 2
#: Half the width of the gap around a jump in which a polynomial need not be near, by default.
CHEBYSHEV_GAP = 0.5
#: Points at which an approximation's error is taken, for each interval of a table.
_DENSE = 8
#: Points of a side of a gap on which a polynomial is fitted, for each degree and beyond.
_FITTED = (24, 200)


@dataclass(frozen=True, eq=False)
class Derivative:
    """How the accelerator gets a loss's derivative.

    Parameters
    ----------
    code : int
        The ``loss`` register.
    numbers : ndarray of int32
        What the ``derivative`` port reads: 1025 entries of a table, or ``degree + 1`` coefficients
        of the Chebyshev polynomials of ``t = m / R``; ``CONFIG.derivative_fraction_bits`` fraction
        bits.
    degree : int
        Of the polynomial; 0 where there is none.
    range_log2 : int
        Log2 of R.
    error : float
        Largest absolute error on [-R, R] without the gap, on a grid of 8,193 margins; 0 for exact
        derivatives.
    gap : float
        Half the width of the gap around a jump; 0 where there is none.
    """

    code: int
    numbers: NDArray[np.int32]
    degree: int = 0
    range_log2: int = 0
    error: float = 0.0
    gap: float = 0.0


def _fixed(numbers: NDArray[np.float64]) -> NDArray[np.int32]:
    scaled = np.rint(numbers * 2.0**CONFIG.derivative_fraction_bits)
    if np.abs(scaled).max() > 2**31 - 1:
        largest = 2 ** (31 - CONFIG.derivative_fraction_bits)
        raise ArgumentError(
            f"degree gave a coefficient of {np.abs(numbers).max():g}; allowed are degrees whose "
            f"coefficients stay below {largest}"
        )
    return scaled.astype(np.int32)


def _dense(range_log2: int) -> NDArray[np.float64]:
    edge = 2.0**range_log2
    return np.linspace(-edge, edge, _DENSE * CONFIG.derivative_table + 1)


def tabulated(size: Function, range_log2: int) -> Derivative:
    """A table of ``size`` on [-R, R], which the accelerator interpolates linearly."""
    check_int("range_log2", range_log2, 0, CONFIG.max_range_log2)
    dense = _dense(range_log2)
    exact = size(dense)
    numbers = _fixed(exact[::_DENSE])
    found = np.interp(dense, dense[::_DENSE], numbers / 2.0**CONFIG.derivative_fraction_bits)
    error = float(np.abs(found - exact).max())
    return Derivative(CONFIG.loss_table, numbers, range_log2=range_log2, error=error)


def chebyshev(size: Function, degree: int, range_log2: int) -> Derivative:
    """The polynomial that meets ``size`` in the Chebyshev points of [-R, R].

    Parameters
    ----------
    size : callable
        Minus a loss's derivative by the margin.
    degree : int
        1 to 15: each factor takes an independent sample of the data.
    range_log2 : int
        Log2 of R.
    """
    check_int("degree", degree, 1, CONFIG.max_degree)
    check_int("range_log2", range_log2, 0, CONFIG.max_range_log2)
    edge = 2.0**range_log2
    numbers = _fixed(chebinterpolate(lambda t: size(edge * t), degree))
    return _polynomial(numbers, size, range_log2)


def stepped(size: Function, jump: float, degree: int, range_log2: int, gap: float) -> Derivative:
    """The polynomial nearest to a step from 1 to 0, apart from a gap around its jump.

    No polynomial is nearer than 1/2 to a step at its jump. So the largest error is minimized on
    [-R, R] without (jump - gap, jump + gap), where the polynomial must only not leave [0, 1] by
    more than it does elsewhere (ZipML, section 4.2 and appendix, "SVM"). A linear program on a grid
    of points finds it.

    Parameters
    ----------
    size : callable
        The step: 1 below the jump, 0 from it on.
    jump : float
        Where it falls.
    degree : int
        1 to 15.
    range_log2 : int
        Log2 of R.
    gap : float
        Above 0; some of [-R, R] has to remain below it.
    """
    check_int("degree", degree, 1, CONFIG.max_degree)
    check_int("range_log2", range_log2, 0, CONFIG.max_range_log2)
    edge = 2.0**range_log2
    if not 0 < gap < edge + jump:
        raise ArgumentError(
            f"gap was {gap!r}; allowed is above 0 and below {edge + jump:g}, so that some of "
            f"[-{edge:g}, {edge:g}] remains"
        )
    count = _FITTED[0] * degree + _FITTED[1]
    # dense at the ends, as a polynomial's extrema are
    places = (1 + np.cos(np.pi * np.arange(count) / (count - 1))) / 2
    sides = [
        low + (high - low) * places
        for low, high in ((-edge, jump - gap), (jump + gap, edge))
        if low < high
    ]
    margins = np.concatenate(sides)
    inside = np.linspace(jump - gap, min(jump + gap, edge), count // 4)
    near, bounded = (
        np.column_stack([chebvander(m / edge, degree), -np.ones(m.size)]) for m in (margins, inside)
    )
    # variables: the coefficients, and the error that |P - f| and the excess of P stay below
    mirrored = np.append(-np.ones(degree + 1), 1.0)
    exact = size(margins)
    found = linprog(
        np.append(np.zeros(degree + 1), 1.0),
        A_ub=np.concatenate([near, near * mirrored, bounded, bounded * mirrored]),
        b_ub=np.concatenate([exact, -exact, np.ones(inside.size), np.zeros(inside.size)]),
        bounds=[(None, None)] * (degree + 1) + [(0, None)],
        method="highs",
    )
    assert found.success, found.message
    return _polynomial(_fixed(found.x[:-1]), size, range_log2, jump, gap)


def _polynomial(
    numbers: NDArray[np.int32],
    size: Function,
    range_log2: int,
    jump: float = 0.0,
    gap: float = 0.0,
) -> Derivative:
    """A polynomial with its largest error outside of a gap."""
    dense = _dense(range_log2)
    dense = dense[np.abs(dense - jump) >= gap]
    found = chebval(dense / 2.0**range_log2, numbers / 2.0**CONFIG.derivative_fraction_bits)
    error = float(np.abs(found - size(dense)).max())
    degree = len(numbers) - 1
    return Derivative(CONFIG.loss_polynomial, numbers, degree, range_log2, error, gap)


def derivative_of(
    loss: str,
    approximation: str = "direct",
    degree: int | None = None,
    range_log2: int | None = None,
    gap: float | None = None,
) -> Derivative:
    """How the accelerator is to get a loss's derivative.

    Parameters
    ----------
    loss : str
        A key of :data:`LOSSES`.
    approximation : str
        "direct": exact for least squares and the hinges, by a table for the logistic loss, on one
        quantized sample (so biased, unless the derivative is linear). "chebyshev": by a
        polynomial, unbiased through independent samples.
    degree : int, optional
        Of the polynomial, 1 to 15; 5 by default. Only with "chebyshev".
    range_log2 : int, optional
        Log2 of R; by default 4 for tables, 2 for polynomials.
    gap : float, optional
        Half the width of the gap around the hinge's jump, in which its polynomial need not be near;
        0.5 by default. Only for loss "hinge" with "chebyshev".

    Raises
    ------
    ArgumentError
        Unknown names, numbers out of range, or options that do not go together.
    """
    found = LOSSES[check_choice("loss", loss, tuple(LOSSES))]
    check_choice("approximation", approximation, APPROXIMATIONS)
    if approximation == "chebyshev":
        if found.size is None:
            raise ArgumentError(
                "approximation was 'chebyshev' with loss 'least_squares', whose derivative is "
                "linear; allowed is 'direct'"
            )
        degree = 5 if degree is None else degree
        range_log2 = CHEBYSHEV_RANGE_LOG2 if range_log2 is None else range_log2
        if found.jump is not None:
            gap = CHEBYSHEV_GAP if gap is None else gap
            return stepped(found.size, found.jump, degree, range_log2, gap)
    if gap is not None:
        raise ArgumentError(
            f"gap was {gap!r}; it goes with loss 'hinge' and approximation 'chebyshev': leave it "
            "out"
        )
    if approximation == "chebyshev":
        assert found.size is not None
        assert degree is not None
        assert range_log2 is not None
        return chebyshev(found.size, degree, range_log2)
    if degree is not None:
        raise ArgumentError(f"degree was {degree!r}; it goes with approximation 'chebyshev'")
    if loss == "logistic":
        assert found.size is not None
        return tabulated(found.size, TABLE_RANGE_LOG2 if range_log2 is None else range_log2)
    if range_log2 is not None:
        raise ArgumentError(
            f"range_log2 was {range_log2!r}; the derivative of loss {loss!r} is exact: leave it out"
        )
    code = {
        "least_squares": CONFIG.loss_least_squares,
        "hinge": CONFIG.loss_hinge,
        "squared_hinge": CONFIG.loss_squared_hinge,
    }[loss]
    return Derivative(code, np.zeros(0, np.int32))


def objective(
    loss: str,
    values: ArrayLike,
    labels: ArrayLike,
    model: ArrayLike,
    *,
    l2: float = 0.0,
    weights: ArrayLike | None = None,
) -> float:
    """Mean loss and ``l2 / 2 |x|^2``, in normalized units, float64.

    Parameters
    ----------
    loss : str
        A key of :data:`LOSSES`.
    values : array_like, shape (samples, features)
    labels : array_like, shape (samples,)
        Of a loss of the margin the sign counts, 0 as positive.
    model : array_like, shape (features,)
    l2 : float
    weights : array_like, shape (samples,), optional
        The mean is over samples, not over weights, as the accelerator has it.
    """
    found = LOSSES[check_choice("loss", loss, tuple(LOSSES))]
    x = np.asarray(model, dtype=np.float64)
    y = np.asarray(labels, dtype=np.float64)
    z = np.asarray(np.asarray(values) @ x, dtype=np.float64)
    losses = found.value(np.where(y < 0, -z, z) if found.margin else z - y)
    if weights is not None:
        losses = losses * np.asarray(weights, dtype=np.float64)
    return float(losses.mean() + l2 / 2 * (x @ x))

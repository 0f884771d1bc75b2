"""Corollaries 1 to 3 and theorem 4: rates, measured beside what is stated."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from studies.paper.common import Claim
from zipml_pynq.data import datasets
from zipml_pynq.data.grid import sample_variance
from zipml_pynq.data.normalization import Normalization
from zipml_pynq.training.losses import LOSSES, derivative_of, objective
from zipml_pynq.training.variance import gradient_variance

Array = NDArray[np.float64]
LENGTHS = (250, 1_000, 4_000, 16_000)
BITS = (2, 4, 8)
BATCH = 16
SEEDS = 4


def averaged(V: Array, y: Array, bits: int, updates: int, step: float, seed: int) -> Array:
    """The mean of the iterates of SGD with fresh draws of samples, and of rows, in every update."""
    rng = np.random.default_rng(seed)
    half = 2.0 ** (bits - 2) if bits else 0.0
    x, mean = np.zeros(V.shape[1]), np.zeros(V.shape[1])
    for t in range(updates):
        rows = rng.integers(len(V), size=BATCH)
        a, b = V[rows], V[rows]
        if bits:
            a, b = (np.floor((q + 1) * half + rng.random(q.shape)) / half - 1 for q in (a, b))
        r1, r2 = b @ x - y[rows], a @ x - y[rows]
        x = x - step * (r1 @ a + r2 @ b) / (2 * BATCH)
        mean += (x - mean) / (t + 1)
    return mean


def study() -> dict[str, Any]:
    """Excess of the averaged iterate by updates and bits; and what a polynomial's error does."""
    data = datasets.synthetic_regression(20, n_train=5_000, r2=0.7)
    normalization = Normalization.fit(data.X_train, data.y_train)
    V = normalization.transform(data.X_train).astype(np.float64)
    y = normalization.transform_labels(data.y_train).astype(np.float64)
    best = np.linalg.lstsq(V, y, rcond=None)[0]
    least = objective("least_squares", V, y, best)
    curvature = float(np.linalg.eigvalsh(V.T @ V / len(V))[-1])
    far = float(np.linalg.norm(best))
    rows = []
    for bits in (0, *BITS):
        noise = np.var((V @ best - y)[:, None] * V, axis=0).sum() / BATCH
        if bits:
            noise += float(np.mean(gradient_variance(V, y, best, sample_variance(V, bits)))) / BATCH
        for updates in LENGTHS:
            # the step of corollary 1: 1 / (L + sigma sqrt(T) / R), halved for the draws' curvature
            step = 0.5 / (curvature + np.sqrt(noise * updates) / far + V.shape[1] / BATCH)
            found = [
                objective("least_squares", V, y, averaged(V, y, bits, updates, step, seed)) - least
                for seed in range(SEEDS)
            ]
            stated = far**2 / (2 * step * updates) + step * noise
            rows.append(
                {
                    "bits": bits,
                    "updates": updates,
                    "noise": noise,
                    "excess": float(np.mean(found)),
                    "stated": stated,
                }
            )
    return {"rows": rows, "polynomials": polynomials(V, y)}


def polynomials(V: Array, y: Array) -> list[dict[str, Any]]:
    """Where exact gradient descent along a polynomial derivative ends, and the bound on that."""
    sign = np.where(y < 0, -1.0, 1.0)
    size = LOSSES["logistic"].size
    assert size is not None

    def ends(derivative: Any) -> Array:
        x = np.zeros(V.shape[1])
        for _ in range(4_000):
            x = x + 2.0 * ((derivative(sign * (V @ x)) * sign) @ V / len(V) - 1e-3 * x)
        return np.asarray(x)

    exact = ends(size)
    least = objective("logistic", V, sign, exact, l2=1e-3)
    rows = []
    for degree in (3, 7, 11, 15):
        found = derivative_of("logistic", "chebyshev", degree, 3)
        p = found.numbers / 2.0**24
        model = ends(lambda m, p=p: np.polynomial.chebyshev.chebval(m / 8, p))
        apart = np.abs(V @ (model - exact)).mean()
        rows.append(
            {
                "degree": degree,
                "error": found.error,
                "excess": objective("logistic", V, sign, model, l2=1e-3) - least,
                "bound": found.error * float(apart),
            }
        )
    return rows


def slope(rows: list[dict[str, Any]], key: str) -> float:
    """Exponent of a power law in the number of updates."""
    T, v = (np.log([r[name] for r in rows]) for name in ("updates", key))
    return float(np.polyfit(T, v, 1)[0])


def claims(report: dict[str, Any]) -> list[Claim]:
    """Of corollaries 1 to 3, and theorem 4."""
    rows = report["rows"]
    parts, within = [], True
    for bits in (0, *BITS):
        own = [r for r in rows if r["bits"] == bits]
        within &= all(r["excess"] <= r["stated"] for r in own)
        parts.append(
            f"{bits or 32} bits: T^{slope(own, 'excess'):.2f} (stated T^{slope(own, 'stated'):.2f})"
            f", at T = {own[-1]['updates']:,} {own[-1]['excess']:.1e} of {own[-1]['stated']:.1e}"
        )
    chebyshev = report["polynomials"]
    return [
        Claim(
            "Cor. 1 to 3",
            "with double sampling the averaged iterate has SGD's rate, O(L R^2 / T + R sigma / "
            "sqrt(T)), sigma^2 with the noise of the draws in it",
            "least squares, 5,000 x 21, fresh draws, step 1 / (L + sigma sqrt(T) / R), halved, "
            f"means of {SEEDS} seeds",
            "; ".join(parts),
            "yes" if within else "in part",
            "every excess lies below R^2 / (2 step T) + step sigma^2; strong convexity makes it "
            "fall faster than stated",
        ),
        Claim(
            "Thm. 4",
            "a polynomial within epsilon of the derivative ends within O(epsilon) of the optimum",
            "logistic loss, R = 8, exact gradients of the polynomial",
            "; ".join(
                f"degree {r['degree']}: epsilon {r['error']:.1e}, excess {r['excess']:.1e}, "
                f"bound {r['bound']:.1e}"
                for r in chebyshev
            ),
            "yes" if all(r["excess"] <= r["bound"] * 1.01 + 1e-9 for r in chebyshev) else "no",
            "and by far: at the optimum the errors of the samples average out",
        ),
    ]

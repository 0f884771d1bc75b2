"""Appendix A.3: model and gradient scaled by their norms, beside ranges of powers of two.

Row scaling runs on the host, in float64, and so do the ranges here: the same samples, steps and
batches for both. Sample bits are 8, double sampled, drawn once.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from studies.paper.common import BATCH, Claim, Runs, problem, shown
from zipml_pynq.training import host
from zipml_pynq.training.row_scaling import row_scaled

Array = NDArray[np.float64]
SETS = ("Synthetic 100", "cadata", "cod-rna")
BITS = (8, 4)
RELATIVE = (0.125, 0.5, 1.0)


def power_of_two(v: Array, bits: int, edge: float, rng: np.random.Generator) -> Array:
    """As the accelerator rounds: to multiples of a power of two, clipped at the range."""
    unit = 2.0 ** np.ceil(np.log2(edge / ((1 << (bits - 1)) - 1)))
    top = (1 << (bits - 1)) - 1
    level = np.clip(np.floor(v / unit + rng.random(v.size)), -top, top)
    return np.asarray(level * unit)


def scaler(kind: str, bits: int, edge: float, rng: np.random.Generator) -> host.Quantizer:
    """Of one kind; ``edge`` is the range of powers of two."""
    if kind == "powers of two":
        return lambda v: power_of_two(v, bits, edge, rng)
    return lambda v: row_scaled(v, bits, rng, kind)


def study() -> dict[str, Any]:
    """Losses above float32's by bits of model and gradient, and how both are scaled."""
    rows = []
    for name in SETS:
        runs = Runs(problem(name))
        exact = runs.float32()
        steps = np.array(exact["steps"])
        q1, q2 = (q.astype(np.float64) for q in runs.pack(bits=8).values())
        gradient = host.double_sampled(q1, q2, runs.labels, runs.problem.loss)
        # ranges as the accelerator's host chooses them: what a float run meets
        model = host.sgd(gradient, *q1.shape, steps[:2], batch=BATCH)[-1]
        met = [np.abs(gradient(r, 0 * model)).max() for r in host.batches(len(q1), BATCH)]
        edges = {"model": 1.25 * float(np.abs(model).max()), "gradient": 1.25 * float(max(met))}
        for bits in tqdm(BITS, desc=name, unit="bits"):
            for kind in ("powers of two", "l2", "max"):
                rng = np.random.default_rng(0)

                scalers = [scaler(kind, bits, edges[which], rng) for which in ("model", "gradient")]
                low = host.quantized(gradient, *scalers)
                gaps = []
                for relative in RELATIVE:
                    found = host.sgd(low, *q1.shape, relative * steps, batch=BATCH)[-1]
                    gaps.append(runs.loss(found) / exact["loss"] - 1)
                rows.append(
                    {
                        "set": name,
                        "problem": runs.problem.shown,
                        "features": q1.shape[1],
                        "bits": bits,
                        "scaled": kind,
                        "same_step": gaps[-1],
                        "best_step": min(gaps),
                    }
                )
    return {"rows": rows}


def claims(report: dict[str, Any]) -> list[Claim]:
    """Of A.3."""
    rows = report["rows"]
    parts = []
    for name in dict.fromkeys(r["problem"] for r in rows):
        for bits in BITS:
            own = {r["scaled"]: r for r in rows if (r["problem"], r["bits"]) == (name, bits)}
            cells = ", ".join(f"{k} {shown(r['best_step'])}" for k, r in own.items())
            parts.append(f"{name}, {bits} bits: {cells}")
    eight = [r["best_step"] for r in rows if r["bits"] == 8 and r["scaled"] == "l2"]
    return [
        Claim(
            "A.3",
            "model and gradient scaled by their norms (row scaling) keep convergence at 8 bits",
            "samples at 8 bits, model and gradient at 8 and 4, least squares, best of three steps",
            "; ".join(parts),
            "yes" if max(eight) < 0.02 else "in part",
            "on the host; by the largest entry in place of the l2 norm more of the levels are used",
        )
    ]

"""Figure 1c: a tomographic reconstruction from quantized projections.

A phantom of 64 x 64 is seen along 128 directions, and found again by least squares on the rays,
double sampled, at 2 to 12 bits (the accelerator's arithmetic, emulated; above 8 that of the wide
kernel). The system matrix is made here: a ray is sampled at steps of half a pixel, bilinearly.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from benchmarks.common import WORD_BITS
from studies.common import emulated
from studies.paper.common import Claim
from studies.paper.table import RESULTS
from zipml_pynq.data.normalization import Normalization
from zipml_pynq.data.pack import pack
from zipml_pynq.training import baseline
from zipml_pynq.training.make_plan import make_plan

Array = NDArray[np.float64]
SIDE, DIRECTIONS = 64, 128
EPOCHS, BATCH = 20, 64
BITS = (2, 4, 6, 8, 12)
NOISE = 0.002


def phantom() -> Array:
    """Ellipses as in Shepp and Logan's head, softened, (SIDE, SIDE), from 0 to 1."""
    # centre, half axes, angle in degrees, what is added
    ellipses = (
        (0.0, 0.0, 0.72, 0.92, 0, 1.0),
        (0.0, -0.02, 0.66, 0.87, 0, -0.7),
        (0.22, 0.0, 0.11, 0.31, -18, -0.2),
        (-0.22, 0.0, 0.16, 0.41, 18, -0.2),
        (0.0, 0.35, 0.21, 0.25, 0, 0.3),
        (0.0, 0.1, 0.046, 0.046, 0, 0.4),
        (-0.08, -0.6, 0.07, 0.05, 0, 0.4),
        (0.08, -0.6, 0.05, 0.07, 0, 0.4),
    )
    place = (np.arange(SIDE) + 0.5) / SIDE * 2 - 1
    x, y = np.meshgrid(place, -place)
    picture = np.zeros((SIDE, SIDE))
    for cx, cy, a, b, degrees, value in ellipses:
        turn = np.radians(degrees)
        u = (x - cx) * np.cos(turn) + (y - cy) * np.sin(turn)
        v = (y - cy) * np.cos(turn) - (x - cx) * np.sin(turn)
        picture[(u / a) ** 2 + (v / b) ** 2 <= 1] += value
    return np.asarray(np.clip(gaussian_filter(picture, 0.5), 0, 1))


def system() -> NDArray[np.float32]:
    """Rays times pixels, (DIRECTIONS * SIDE, SIDE^2): how much of a pixel a ray sees."""
    offsets = (np.arange(SIDE) + 0.5) - SIDE / 2
    along = np.arange(-SIDE, SIDE, 0.5)
    rows = []
    for angle in np.pi * np.arange(DIRECTIONS) / DIRECTIONS:
        c, s = np.cos(angle), np.sin(angle)
        x = offsets[:, None] * c - along * s + SIDE / 2 - 0.5
        y = offsets[:, None] * s + along * c + SIDE / 2 - 0.5
        left, top = np.floor(x).astype(int), np.floor(y).astype(int)
        part = np.zeros((SIDE, SIDE * SIDE))
        ray = np.broadcast_to(np.arange(SIDE)[:, None], x.shape)
        for dx in (0, 1):
            for dy in (0, 1):
                weight = np.abs(1 - dx - (x - left)) * np.abs(1 - dy - (y - top)) / 2
                column, line = left + dx, top + dy
                inside = (column >= 0) & (column < SIDE) & (line >= 0) & (line < SIDE)
                pixel = line[inside] * SIDE + column[inside]
                np.add.at(part, (ray[inside], pixel), weight[inside])
        rows.append(part.astype(np.float32))
    order = np.random.default_rng(0).permutation(DIRECTIONS * SIDE)
    return np.concatenate(rows)[order]


def psnr(found: Array, truth: Array) -> float:
    """Peak signal to noise ratio in dB, the peak being 1."""
    return float(-10 * np.log10(np.mean((np.clip(found, 0, 1) - truth) ** 2)))


def study() -> dict[str, Any]:
    """Reconstructions by bits, with the pictures beside the results."""
    A, truth = system(), phantom()
    rng = np.random.default_rng(1)
    y = A @ truth.ravel()
    y = (y + NOISE * y.max() * rng.standard_normal(len(y))).astype(np.float32)
    # values are A over its largest entry and labels over theirs, so that 0 stays 0
    largest, peak = float(A.max()), float(np.abs(y).max())
    columns = A.shape[1]
    normalization = Normalization(np.zeros(columns), np.full(columns, largest), 0.0, peak, False)
    V, labels = (A / largest).astype(np.float64), (y / peak).astype(np.float64)
    # half of 1 over the largest curvature of a batch, found by power iteration
    v = rng.standard_normal(columns)
    for _ in range(30):
        v = V.T @ (V @ v) / len(V)
        curvature = np.linalg.norm(v)
        v /= curvature
    rows_square = float((V**2).sum(axis=1).max())
    step = 1.0 / (curvature + rows_square / BATCH)
    steps = np.full(EPOCHS, step)

    def picture(model: Array) -> Array:
        return np.asarray(model).reshape(SIDE, SIDE) * peak / largest

    pictures = {"phantom": truth}
    rows = []
    history = baseline.float_sgd(V, labels, steps, batch=BATCH)
    pictures["float32"] = picture(history[-1])
    for bits in BITS:
        packed = pack(
            A, y, bits=bits, batch=BATCH, word_bits=WORD_BITS, normalization=normalization
        )
        plan = make_plan(packed, epochs=EPOCHS, step=steps.tolist(), delay=0)
        with emulated(packed) as (_, driver):
            result = driver.train(packed, plan, redraw=lambda draw, p=packed: p.redraw(A, draw))
        pictures[f"{bits} bits"] = picture(result.model)
    for name, found in pictures.items():
        if name != "phantom":
            rows.append({"name": name, "psnr": psnr(found, truth)})
    RESULTS.mkdir(parents=True, exist_ok=True)
    plot(pictures, rows, RESULTS / "tomography.png")
    return {"rays": len(A), "pixels": columns, "epochs": EPOCHS, "step": step, "rows": rows}


def plot(pictures: dict[str, Array], rows: list[dict[str, Any]], path: Path) -> None:
    """All pictures in a row."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    ratios = {row["name"]: row["psnr"] for row in rows}
    figure, axes = plt.subplots(
        1, len(pictures), figsize=(1.7 * len(pictures), 2.1), layout="constrained"
    )
    for axis, (name, picture) in zip(axes, pictures.items(), strict=True):
        axis.imshow(np.clip(picture, 0, 1), cmap="gray", vmin=0, vmax=1)
        axis.set_title(f"{name}\n{ratios[name]:.1f} dB" if name in ratios else name, fontsize=8)
        axis.axis("off")
    figure.savefig(path, dpi=130)
    plt.close(figure)


def claims(report: dict[str, Any]) -> list[Claim]:
    """Of figure 1c."""
    ratio = {row["name"]: row["psnr"] for row in report["rows"]}
    twelve = ratio["float32"] - ratio["12 bits"]
    return [
        Claim(
            "1c",
            "tomography: 12 bits in place of 32, no loss of quality that is seen",
            f"phantom of {SIDE} x {SIDE}, {DIRECTIONS} projections ({report['rays']:,} rays x "
            f"{report['pixels']:,} pixels), {report['epochs']} epochs, fresh draws",
            ", ".join(f"{name} {value:.1f} dB" for name, value in ratio.items()),
            "yes" if twelve < 0.5 else "no",
            "all emulated, 12 bits by the wide kernel; [pictures]"
            "(../studies/results/paper/tomography.png)",
        )
    ]

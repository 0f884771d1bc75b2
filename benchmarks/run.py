"""``make bench``: seconds an epoch of every build and of its peers, interleaved in one run.

Every contender trains the same normalized data for one epoch a round; rounds are interleaved, and
the median is reported. Results: ``benchmarks/results/epoch.json`` and ``epoch.md``.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from zipml_pynq import datasets, reference
from zipml_pynq.constants import CONFIG
from zipml_pynq.native import load_build
from zipml_pynq.pack import PackedDataset, pack
from zipml_pynq.plan import make_plan
from zipml_pynq.quantize import Normalization

ROOT = Path(__file__).resolve().parent.parent
#: Real data for the developers of this project; elsewhere synthetic data stand in.
DATA = Path(os.environ.get("ZIPML_DATA", ROOT.parent / "shared" / "data"))
BITS = (1, 2, 4, 6, 8)
NUMPY_BATCHES = (16, 64, 256)


@dataclass(frozen=True)
class Contender:
    """``epoch`` trains once over ``values`` values."""

    name: str
    values: int
    bytes: int
    epoch: Callable[[], Any]


def mnist_like() -> tuple[str, NDArray[np.float32], NDArray[np.float32]]:
    """60,000 x 784: MNIST with its digits as labels, or uniform values of the same shape."""
    path = DATA / "mnist.npz"
    if path.exists():
        with np.load(path) as archive:
            values = archive["X_train"].reshape(60000, -1).astype(np.float32)
            return "MNIST 60,000 x 784", values, archive["y_train"].astype(np.float32)
    rng = np.random.default_rng(0)
    values = rng.uniform(-1, 1, (60000, 784)).astype(np.float32)
    labels = (values @ rng.normal(size=784)).astype(np.float32)
    return "uniform 60,000 x 784", values, labels


def accelerator_epoch(
    build_name: str, packed: PackedDataset, batch: int, sampling: str, step: float
) -> Any:
    """One epoch of a build, buffers made beforehand: what one start of the accelerator costs."""
    build = load_build(build_name)
    layout = packed.layout
    plan = make_plan(packed, epochs=1, batch=batch, sampling=sampling, step=step)
    row = layout.chunks * layout.lanes
    arrays = {
        "planes": np.ascontiguousarray(packed.planes),
        "labels": np.ascontiguousarray(packed.labels),
        "model": np.zeros(row, dtype=np.int32),
        "history": np.zeros(row, dtype=np.int32),
        "schedule": plan.schedule_table(),
    }
    pointers = {name: array.ctypes.data for name, array in arrays.items()}
    scalars = plan.registers(layout)

    def epoch() -> None:
        registers = build.run(layout.word_bits, CONFIG.format_bit_planes, pointers, scalars)
        if registers["status"] != CONFIG.status_ok or not arrays["model"].any():
            raise SystemExit(f"{build_name} did not train: {registers}")

    return epoch


def sklearn_epoch(values: NDArray[np.float32], labels: NDArray[np.float32]) -> Any:
    """scikit-learn's SGDRegressor, one pass, constant step, nothing but the squared loss."""
    from sklearn.linear_model import SGDRegressor

    def epoch() -> None:
        SGDRegressor(
            alpha=0.0,
            penalty=None,
            fit_intercept=False,
            max_iter=1,
            tol=None,
            learning_rate="constant",
            eta0=1e-4,
            shuffle=False,
        ).fit(values, labels)

    return epoch


def contenders(
    X: NDArray[np.float32], y: NDArray[np.float32], batch: int, kernel_samples: int
) -> list[Contender]:
    """Every row of the table for one data set."""
    normalization = Normalization.fit(X, y)
    values = normalization.transform(X)
    labels = normalization.transform_labels(y).astype(np.float32)
    size = values.size
    rows = []
    # one step for all that is stable in float32 too, at the smallest batch
    fine = pack(X, y, bits=8, batch=batch, normalization=normalization)
    step = float(make_plan(fine, epochs=1, batch=batch).step[0])
    steps = np.array([step], dtype=np.float32)
    for bits in BITS:
        packed = pack(X, y, bits=bits, batch=batch, normalization=normalization)
        for sampling, name in (("single", "single"), ("symmetric", "double")):
            streamed = packed.layout.bytes_per_epoch(bits, sampling)
            rows.append(
                Contender(
                    f"engine, {bits} bit{'s' * (bits > 1)}, {name}",
                    size,
                    streamed,
                    accelerator_epoch("engine", packed, batch, sampling, step),
                )
            )
    few = pack(
        X[:kernel_samples], y[:kernel_samples], bits=4, batch=batch, normalization=normalization
    )
    rows.append(
        Contender(
            f"HLS kernel in C simulation, 4 bits, double ({kernel_samples:,} samples)",
            kernel_samples * values.shape[1],
            few.layout.bytes_per_epoch(4, "symmetric"),
            accelerator_epoch("kernel", few, batch, "symmetric", step),
        )
    )
    rows.append(
        Contender(
            "float32 engine",
            size,
            values.nbytes,
            lambda: reference.float_sgd(values, labels, steps, batch=batch),
        )
    )
    for numpy_batch in NUMPY_BATCHES:
        rows.append(
            Contender(
                f"NumPy mini-batch SGD, float32, batch {numpy_batch}",
                size,
                values.nbytes,
                lambda b=numpy_batch: reference.float_sgd_numpy(values, labels, steps, batch=b),
            )
        )
    rows.append(
        Contender(
            "packing at 4 bits, double (once, not an epoch)",
            size,
            X.nbytes,
            lambda: pack(X, y, bits=4, batch=batch, normalization=normalization, threads=1),
        )
    )
    rows.append(
        Contender("scikit-learn SGDRegressor", size, values.nbytes, sklearn_epoch(values, labels))
    )
    return rows


def machine() -> dict[str, Any]:
    """What the numbers were measured on."""
    model = platform.processor()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "threads": {"engine": 1, "float32 engine": 1, "numpy": "OpenBLAS, limited to 1"},
    }


def measure(rows: list[Contender], rounds: int, title: str) -> list[dict[str, Any]]:
    """Median seconds of every contender over interleaved rounds."""
    seconds: dict[str, list[float]] = {row.name: [] for row in rows}
    for row in rows:
        row.epoch()
    with tqdm(total=rounds * len(rows), desc=title, unit="epoch") as bar:
        for _ in range(rounds):
            for row in rows:
                start = time.perf_counter()
                row.epoch()
                seconds[row.name].append(time.perf_counter() - start)
                bar.update()
    return [
        {
            "name": row.name,
            "seconds": statistics.median(seconds[row.name]),
            "spread": [min(seconds[row.name]), max(seconds[row.name])],
            "values_per_second": row.values / statistics.median(seconds[row.name]),
            "bytes": row.bytes,
        }
        for row in rows
    ]


def markdown(report: dict[str, Any]) -> str:
    """The report as tables."""
    where = report["machine"]
    lines = [
        "# One epoch, measured",
        "",
        f"`make bench` on {where['cpu']}, one thread each, batch {report['batch']}, median of "
        f"{report['rounds']} interleaved rounds, Python {where['python']}, NumPy "
        f"{where['numpy']}. The last column is scikit-learn's time over the row's, per value.",
    ]
    for name, rows in report["data"].items():
        peer = next(r for r in rows if r["name"].startswith("scikit"))["values_per_second"]
        lines += [
            "",
            f"## {name}",
            "",
            "| | seconds an epoch | million values a second | MB moved | x scikit-learn |",
            "|---|---:|---:|---:|---:|",
        ]
        for row in rows:
            lines.append(
                f"| {row['name']} | {row['seconds']:.4f} | {row['values_per_second'] / 1e6:,.0f} "
                f"| {row['bytes'] / 1e6:.1f} | {row['values_per_second'] / peer:.1f} |"
            )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, write JSON and Markdown, print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--kernel-samples", type=int, default=1024)
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results")
    options = parser.parse_args()
    from threadpoolctl import threadpool_limits

    small = datasets.synthetic_regression(n_features=100)
    sets = [mnist_like(), ("Synthetic 100, 10,000 x 100", small.X_train, small.y_train)]
    report: dict[str, Any] = {
        "machine": machine(),
        "batch": options.batch,
        "rounds": options.rounds,
        "data": {},
    }
    with threadpool_limits(limits=1):
        for name, X, y in sets:
            rows = contenders(X, y, options.batch, options.kernel_samples)
            report["data"][name] = measure(rows, options.rounds, name)
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "epoch.json").write_text(json.dumps(report, indent=1) + "\n")
    text = markdown(report)
    (options.output / "epoch.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()

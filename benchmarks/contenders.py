"""What an epoch is measured of: data sets, the engine at its precisions, and its peers."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.common import DATA, WORD_BITS
from zipml_pynq.accelerator.builds import load_build
from zipml_pynq.constants import CONFIG, MODEL_ONE
from zipml_pynq.data.alignment import empty_aligned
from zipml_pynq.data.normalization import Normalization
from zipml_pynq.data.pack import pack
from zipml_pynq.data.packed import PackedDataset
from zipml_pynq.training import baseline
from zipml_pynq.training.make_plan import make_plan

BITS = (1, 2, 4, 6, 8)
NUMPY_BATCHES = (16, 64, 256)
MODEL_BITS = 8  # of the rows with a quantized model
VOWPAL_VALUES = 2_000_000  # of the largest data set that is written as text

FloatArray = NDArray[np.float32]


@dataclass
class Contender:
    """``prepare(n)`` returns what trains n epochs from 0, each time it is called.

    That returns the models after 1 .. n epochs, or None.
    """

    name: str
    threads: int
    bytes: int
    prepare: Callable[[int], Callable[[], NDArray[np.float64] | None]]

    def epochs(self, count: int) -> NDArray[np.float64] | None:
        return self.prepare(count)()


@dataclass
class Problem:
    """A normalized data set in float32."""

    name: str
    raw: FloatArray
    raw_labels: FloatArray
    normalization: Normalization
    values: FloatArray
    labels: FloatArray


def problem(name: str, raw: FloatArray, labels: FloatArray) -> Problem:
    """Normalize once for all contenders."""
    normalization = Normalization.fit(raw, labels)
    transformed = normalization.transform(raw)
    # float32 is faster as well where rows begin at a cache line
    values = empty_aligned(transformed.shape, np.float32)
    values[...] = transformed
    return Problem(
        name,
        raw,
        labels,
        normalization,
        values,
        normalization.transform_labels(labels).astype(np.float32),
    )


def uniform(samples: int, features: int) -> Problem:
    """Uniform values, linear labels with some noise; one column is left for the intercept."""
    rng = np.random.default_rng(0)
    raw = rng.uniform(-1, 1, (samples, features - 1)).astype(np.float32)
    labels = raw @ rng.normal(size=features - 1).astype(np.float32)
    labels += rng.normal(0, 0.1 * labels.std(), samples).astype(np.float32)
    return problem(f"uniform {samples:,} x {features:,}", raw, labels)


def mnist_like() -> Problem:
    """60,000 x 784: MNIST with its digits as labels, or uniform values of the same shape."""
    path = DATA / "mnist.npz"
    if not path.exists():
        return uniform(60000, 784)
    with np.load(path) as archive:
        values = archive["X_train"].reshape(60000, -1).astype(np.float32)
        return problem("MNIST 60,000 x 784", values, archive["y_train"].astype(np.float32))


def prepare_run(
    packed: PackedDataset,
    sampling: str,
    batch: int,
    steps: Sequence[float],
    threads: int,
    start: NDArray[np.int32] | None = None,
    model_bits: int = 0,
) -> Callable[[], NDArray[np.int32]]:
    """What starts the accelerator, as the driver does, and returns the models of all epochs."""
    layout = packed.layout
    row = layout.chunks * layout.lanes
    plan = make_plan(
        packed, epochs=len(steps), batch=batch, sampling=sampling, step=steps, model_bits=model_bits
    )
    arrays = {
        "planes": packed.planes,
        "labels": packed.labels,
        "model": np.zeros(row, dtype=np.int32),
        "history": np.zeros((len(steps), row), dtype=np.int32),
        "schedule": plan.schedule_table(),
    }
    pointers = {name: array.ctypes.data for name, array in arrays.items()}
    scalars, build = plan.registers(layout), load_build("engine")

    def run() -> NDArray[np.int32]:
        arrays["model"][:] = 0 if start is None else start
        registers = build.run(
            layout.word_bits, CONFIG.format_bit_planes, pointers, scalars, threads
        )
        if registers["status"] != CONFIG.status_ok or not arrays["model"].any():
            raise SystemExit(f"the engine did not train: {registers}")
        return arrays["history"]

    return run


def engine_name(bits: int, sampling: str) -> str:
    """What tables call the engine at a precision."""
    kind = "double" if sampling == "symmetric" else sampling
    return f"engine, {bits} bit{'s' * (bits > 1)}, {kind}"


def inverse(step: float, epochs: int) -> list[float]:
    """The steps that every contender takes."""
    return [step / (epoch + 1) for epoch in range(epochs)]


def engine(
    packed: PackedDataset,
    bits: int,
    sampling: str,
    batch: int,
    step: float,
    threads: int,
    model_bits: int = 0,
) -> Contender:
    """The engine from packed data."""
    layout = packed.layout

    def prepare(count: int) -> Callable[[], NDArray[np.float64]]:
        run = prepare_run(
            packed, sampling, batch, inverse(step, count), threads, model_bits=model_bits
        )
        return lambda: run()[:, : layout.features] / MODEL_ONE

    name = engine_name(bits, sampling)
    if model_bits:
        name += f", {model_bits}-bit model"
    return Contender(name, threads, layout.bytes_per_epoch(bits, sampling), prepare)


def float_engine(data: Problem, batch: int, step: float, threads: int) -> Contender:
    """The project's own float32 engine."""

    def prepare(count: int) -> Callable[[], NDArray[np.float64]]:
        steps = np.float32(inverse(step, count))
        return lambda: baseline.float_sgd(
            data.values, data.labels, steps, batch=batch, threads=threads
        ).astype(np.float64)

    return Contender("float32 engine", threads, data.values.nbytes, prepare)


def numpy_sgd(data: Problem, batch: int, step: float) -> Contender:
    """Mini-batch SGD by matrix products."""

    def prepare(count: int) -> Callable[[], NDArray[np.float64]]:
        steps = np.float32(inverse(step, count))
        return lambda: baseline.float_sgd_numpy(
            data.values, data.labels, steps, batch=batch
        ).astype(np.float64)

    return Contender(f"NumPy mini-batch SGD, batch {batch}", 1, data.values.nbytes, prepare)


def sklearn_sgd(data: Problem) -> Contender:
    """scikit-learn's SGDRegressor, constant step, nothing but the squared loss."""
    from sklearn.linear_model import SGDRegressor

    def prepare(count: int) -> Callable[[], None]:
        model = SGDRegressor(
            alpha=0.0,
            penalty=None,
            fit_intercept=False,
            max_iter=count,
            tol=None,
            learning_rate="constant",
            eta0=1e-4,
            shuffle=False,
        )

        def fit() -> None:
            model.fit(data.values, data.labels)

        return fit

    return Contender("scikit-learn SGDRegressor", 1, data.values.nbytes, prepare)


def vowpal_wabbit(data: Problem, folder: Path) -> Contender:
    """Vowpal Wabbit's plain SGD from its own binary cache, which a first pass makes of text."""
    from vowpalwabbit import Workspace

    text, cache = folder / "examples.txt", folder / "examples.cache"
    with text.open("w") as file:
        for label, row in zip(data.labels.tolist(), data.values.tolist(), strict=True):
            file.write(f"{label:.7g} | " + " ".join(f"{j}:{v:.7g}" for j, v in enumerate(row)))
            file.write("\n")
    options = "--sgd --noconstant --holdout_off -l 1e-4 --power_t 0 --quiet --cache_file"
    Workspace(f"{options} {cache} -d {text}").finish()
    text.unlink()

    def prepare(count: int) -> Callable[[], None]:
        def run() -> None:
            Workspace(f"{options} {cache} --passes {count}").finish()

        return run

    return Contender("Vowpal Wabbit, from its cache", 1, cache.stat().st_size, prepare)


def liblinear(data: Problem, iterations: int) -> NDArray[np.float64]:
    """Newton steps on the squared loss; scikit-learn's liblinear computes in float64."""
    from sklearn.svm import LinearSVR

    model = LinearSVR(
        epsilon=0,
        loss="squared_epsilon_insensitive",
        dual=False,
        C=1.0,
        tol=1e-12,
        fit_intercept=False,
        max_iter=iterations,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it has not converged
        model.fit(data.values, data.labels)
    return np.asarray(model.coef_, dtype=np.float64).ravel()


def snap_ml(data: Problem, iterations: int) -> NDArray[np.float64]:
    """Coordinate descent of IBM's Snap ML, where it is installed."""
    from snapml import LinearRegression

    model = LinearRegression(
        max_iter=iterations, regularizer=1.0, n_jobs=1, fit_intercept=False, dual=False, tol=0.0
    )
    model.fit(data.values, data.labels)
    return np.asarray(model.coef_, dtype=np.float64).ravel()


#: Solvers that are no SGD, by how tables call them: what trains so many iterations from 0.
SOLVERS: dict[str, tuple[str, Callable[[Problem, int], NDArray[np.float64]]]] = {
    "liblinear": ("sklearn", liblinear),
    "Snap ML": ("snapml", snap_ml),
}


def pack_all(data: Problem, bits: tuple[int, ...], batch: int) -> dict[int, PackedDataset]:
    """One packed data set for each precision, as it would be stored for it alone."""
    return {
        b: pack(
            data.raw,
            data.raw_labels,
            bits=b,
            batch=batch,
            word_bits=WORD_BITS,
            normalization=data.normalization,
        )
        for b in bits
    }


def step_at(data: Problem, batch: int) -> float:
    """One step for all contenders at a batch, stable in float32 as well."""
    return float(make_plan(pack_all(data, (8,), batch)[8], epochs=1, batch=batch).step[0])


def contenders(
    data: Problem, batch: int, threads: tuple[int, ...], folder: Path
) -> list[Contender]:
    """Every row of the table for one data set; files go into ``folder``."""
    packed = pack_all(data, BITS, batch)
    step = step_at(data, batch)
    rows = []
    for bits in BITS:
        for sampling in ("single", "symmetric"):
            rows += [engine(packed[bits], bits, sampling, batch, step, t) for t in threads]
    for bits in (4, 8):
        rows.append(engine(packed[bits], bits, "symmetric", batch, step, 1, MODEL_BITS))
    rows += [float_engine(data, batch, step, t) for t in threads]
    rows += [numpy_sgd(data, b, step_at(data, b)) for b in NUMPY_BATCHES]
    rows.append(sklearn_sgd(data))
    if find_spec("vowpalwabbit") is not None and data.values.size <= VOWPAL_VALUES:
        rows.append(vowpal_wabbit(data, folder))
    return rows

"""Random data sets and plans; a start of a build on them; a driver's runs and their bits.

Planes are drawn bit by bit, without packing real data: every value that a plane can hold occurs,
and a fault in pack cannot hide one in the builds.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from zipml_pynq._engine import ffi, lib
from zipml_pynq.accelerator.builds import Build
from zipml_pynq.accelerator.segments import streamed_layout
from zipml_pynq.constants import CONFIG, LIMITS, MODEL_ONE
from zipml_pynq.data.layout import FORMAT_CODES, Layout
from zipml_pynq.devices.design import PAGE
from zipml_pynq.training import reference
from zipml_pynq.training.losses import LOSSES
from zipml_pynq.training.make_plan import make_plan
from zipml_pynq.training.plan import LARGEST_CORRECTION, Plan
from zipml_pynq.training.schedule import run_cycles

#: Chance that a correct program meets a seed that fails a statistical test of a mean or a count.
ALARM = 1e-4
MARGIN_LOSSES = [name for name, loss in LOSSES.items() if loss.margin]
GUARD = 64
SENTINEL = -0x5A5A5A5A


@dataclass(frozen=True, eq=False)
class RandomDataset:
    """What training needs of a ``PackedDataset``."""

    planes: NDArray[np.uint64]
    labels: NDArray[np.int32]
    layout: Layout
    batch: int
    levels: NDArray[np.int16] | None = None
    full: NDArray[np.uint64] | None = None
    weights: NDArray[np.int32] | None = None
    normalization: None = None  # there is no raw data behind these planes


@dataclass(frozen=True)
class Case:
    """A data set, a plan for it and a start model in fixed point."""

    packed: RandomDataset
    plan: Plan
    model: NDArray[np.int32]


#: Sets of loops that the engine has, of which a machine runs some.
LOOPS = ("avx512", "avxvnni", "avx512bw", "avx2", "neondot", "neon", "portable")


def force_loops(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Have the engine take the named loops; skip the test where this machine does not run them."""
    monkeypatch.setenv("ZIPML_LOOPS", name)
    if ffi.string(lib.zipml_engine_loops()).decode() != name:
        pytest.skip(f"this machine does not run the loops {name}")


def random_levels(rng: np.random.Generator, tables: int, bits: int) -> NDArray[np.int16]:
    """Tables of levels from -1 to 1, some levels equal, (tables, 2^(bits-1) + 1)."""
    one = 1 << CONFIG.level_fraction_bits
    count = (1 << (bits - 1)) + 1
    levels = rng.integers(-one, one, (tables, count), endpoint=True)
    levels[:, 1:] = np.where(rng.random((tables, count - 1)) < 0.2, levels[:, :-1], levels[:, 1:])
    levels[:, 0], levels[:, -1] = -one, one
    return np.sort(levels, axis=1).astype(np.int16)


def random_floats(rng: np.random.Generator, inside: NDArray[np.bool_]) -> NDArray[np.float32]:
    """float32 values of [-1, 1]; 0 where they are not inside the data."""
    values = rng.uniform(-1, 1, inside.shape).astype(np.float32)
    # the ends of the range, zeros, and values that only just round to something
    special = np.array([1, -1, 0, -0.0, 2.0**-24, -(2.0**-25), 1e-38], dtype=np.float32)
    values = np.where(rng.random(inside.shape) < 0.1, rng.choice(special, inside.shape), values)
    return np.where(inside, values, np.float32(0)).astype("<f4")


def random_dataset(
    rng: np.random.Generator,
    *,
    samples: int = 40,
    features: int = 65,
    bits: int | tuple[int, ...] = 4,
    sampling: str = "double",
    word_bits: int = 64,
    batch: int = 4,
    blocks: int = 3,
    value_format: str = "bitplanes",
    label_scale: float = 1.0,
    own_tables: bool = True,
    dithers: int = 0,
    weighted: bool = False,
) -> RandomDataset:
    """A data set of random bits (or random float32 values) in about ``blocks`` blocks.

    ``own_tables``: in the format "levels", a table a feature, where the kernel holds so many.
    ``dithers``: of the sampling "independent". ``weighted``: samples have weights.
    """
    precisions = (bits,) if isinstance(bits, int) else tuple(sorted(bits))
    lanes = word_bits // 32 if value_format == "float32" else word_bits
    chunks = -(-features // lanes)
    drawn = dithers or (2 if sampling == "double" else 1)
    planes = 1 if value_format in ("float32", "levels") else max(precisions) - 1 + drawn
    room = min(CONFIG.block_samples, LIMITS[value_format].block_words // (planes * chunks))
    tables = 0
    if value_format == "levels":
        cells = -(-features // (lanes // CONFIG.level_parts))
        fits = cells * ((1 << (precisions[0] - 1)) + 1) <= CONFIG.level_table
        tables = features if own_tables and fits else 1
    wanted = -(-samples // blocks)
    block_samples = batch * max(1, min(-(-wanted // batch), room // batch))
    layout = Layout(
        samples=samples,
        features=features,
        word_bits=word_bits,
        block_samples=block_samples,
        bits=precisions,
        sampling=sampling,
        value_format=value_format,
        level_tables=tables,
        independent=dithers,
    )
    rows = (layout.blocks, layout.stored_planes, block_samples, layout.chunks * layout.lanes)
    real = np.arange(layout.blocks * block_samples).reshape(layout.blocks, 1, -1, 1) < samples
    inside = real & (np.arange(rows[-1]) < features)
    if value_format == "float32":
        words = random_floats(rng, inside).reshape(layout.blocks, -1).view("<u8")
    else:
        # rows of zeros, of ones and of everything between
        density = rng.choice([0.0, 0.5, 1.0], rows[:3], p=[0.1, 0.8, 0.1])[..., None]
        ones = (rng.random(rows, dtype=np.float32) < density) & inside
        words = np.packbits(ones, axis=-1, bitorder="little").reshape(layout.blocks, -1)
        words = words.view("<u8")
    labels = rng.normal(0, label_scale * MODEL_ONE, layout.blocks * block_samples)
    labels = np.clip(np.rint(labels), -(2**31), 2**31 - 1).astype(np.int32)
    labels[samples:] = 0
    levels = random_levels(rng, tables, precisions[0]) if tables else None
    full = None
    if value_format == "refetch":  # other values than the planes', so that it shows who read what
        lanes = word_bits // 32
        shape = (len(labels), -(-features // lanes) * lanes)
        within = (np.arange(shape[0]) < samples)[:, None] & (np.arange(shape[1]) < features)
        full = random_floats(rng, within).view("<u8").astype(np.uint64)
    weights = None
    if weighted:
        one = 1 << CONFIG.weight_fraction_bits
        weights = rng.integers(0, 3 * one, len(labels)).astype(np.int32)
        weights[samples:] = 0
    planes_stored = np.ascontiguousarray(words).astype(np.uint64)
    return RandomDataset(planes_stored, labels, layout, batch, levels, full, weights)


def random_case(
    seed: int,
    *,
    sampling: str = "symmetric",
    bits: int = 4,
    stored_bits: tuple[int, ...] | None = None,
    epochs: int = 2,
    step: float = 0.01,
    l2: float = 0.0,
    delay: int | str = 1,
    model_scale: float = 0.5,
    value_format: str = "bitplanes",
    largest_shift: int = 0,
    correction: float = 0.0,
    frozen: bool = False,
    options: dict[str, Any] | None = None,
    **dataset: Any,
) -> Case:
    """A random data set, plan and start model, the same for the same arguments.

    Parameters
    ----------
    seed : int
        Of all randomness.
    sampling : str
        A plan's sampling; the data set stores what it needs.
    stored_bits : tuple of int, optional
        Precisions that the data set stores; ``bits`` alone by default.
    step : float
        Step of the first epoch. With ``model_scale`` large enough, this saturates.
    largest_shift : int
        Features have steps of their own, up to 2^largest_shift times the run's; 0 for none.
    correction : float
        Size of what is added to every update; 0 for none.
    frozen : bool
        Dot products read the start model throughout.
    options : dict, optional
        Further arguments of make_plan: losses, quantization of model and gradient, orders.
    **dataset
        Further arguments of :func:`random_dataset`.
    """
    rng = np.random.default_rng(seed)
    if value_format == "float32":
        sampling, bits, stored_bits = "single", 32, None
    options = dict(options or {})
    if value_format == "refetch":
        options["loss"] = "hinge"
    stored = sampling if sampling in ("single", "nearest", "independent") else "double"
    if sampling == "independent":
        options.setdefault("approximation", "chebyshev")
        dataset.setdefault("dithers", options.get("degree", 5) + 1)
    packed = random_dataset(
        rng,
        bits=stored_bits or (bits,),
        sampling=stored,
        value_format=value_format,
        **dataset,
    )
    if largest_shift:
        draws = np.random.default_rng([seed, 1])  # the same data set and start model as without
        shifts = draws.integers(0, largest_shift, packed.layout.features, endpoint=True)
        options["feature_shifts"] = shifts
    plan = make_plan(
        packed,
        bits=bits,
        sampling=sampling,
        epochs=epochs,
        step=step,
        l2=l2,
        delay=delay,
        **options,
    )
    if correction:
        draws = np.random.default_rng([seed, 2])
        size = correction * 2.0**CONFIG.correction_fraction_bits
        words = np.rint(draws.normal(0, size, packed.layout.features))
        words = np.clip(words, -LARGEST_CORRECTION, LARGEST_CORRECTION)
        plan = replace(plan, correction=words.astype(np.int32))
    plan = replace(plan, frozen=frozen)
    plan.check(packed.layout)
    model = np.rint(rng.normal(0, model_scale * MODEL_ONE, packed.layout.features))
    return Case(packed, plan, np.clip(model, -(2**31) + 1, 2**31 - 1).astype(np.int32))


@dataclass(frozen=True)
class Outcome:
    """Output registers and buffers after one start of a build."""

    registers: dict[str, int]
    model: NDArray[np.int32]  # (features,)
    history: NDArray[np.int32]  # (epochs, features)
    held: NDArray[np.int32]  # (batches, batch, 2)


def run_build(
    build: Build,
    packed: RandomDataset,
    plan: Plan,
    model: NDArray[np.int32] | None = None,
    *,
    skip: int = 0,
    held: NDArray[np.int32] | None = None,
    hold: bool = False,
    first_update: int = 0,
    threads: int = 1,
) -> Outcome:
    """One start of ``build``; checks that it wrote nothing outside its buffers and no padding.

    ``held`` are the pending coefficients of the call before, shape (pending, batch, 2).
    """
    layout = packed.layout
    row = layout.chunks * layout.lanes
    shifts = row * len(plan.vectors_behind)
    pending = 0 if held is None else len(held)
    batches = -(-layout.samples // plan.batch)
    out_pending = min(plan.delay, batches - skip) if hold else 0
    tail = 2 * plan.batch * max(pending, out_pending)
    buffer = np.full(row + shifts + tail + GUARD, SENTINEL, dtype=np.int32)
    buffer[: row + shifts] = 0
    if model is not None:
        buffer[: layout.features] = model
    for number, vector in enumerate(plan.vectors_behind, 1):
        buffer[number * row :][: layout.features] = vector
    behind = row + shifts
    if held is not None:
        buffer[behind : behind + held.size] = held.ravel()
    history = np.full(plan.epochs * row + GUARD, SENTINEL, dtype=np.int32)
    schedule = plan.schedule_table()
    planes = np.ascontiguousarray(packed.planes)
    labels = np.ascontiguousarray(packed.labels)
    scalars = plan.registers(layout)
    flags = scalars["flags"] | (CONFIG.flag_hold if hold else 0)
    if packed.weights is not None:
        labels = np.ascontiguousarray(np.stack([packed.labels, packed.weights], axis=1))
        flags |= CONFIG.flag_weights
    scalars.update(skip=skip, pending=pending, flags=flags, first_update=first_update)
    arrays = {
        "planes": planes,
        "labels": labels,
        "model": buffer,
        "history": history,
        "schedule": schedule,
        "derivative": np.ascontiguousarray(plan.derivative.numbers),
    }
    if packed.full is not None:
        arrays["full"] = np.ascontiguousarray(packed.full)
    if packed.levels is not None:
        arrays["levels"] = packed.levels.astype(np.int32)
    registers = build.run(
        layout.word_bits,
        FORMAT_CODES[layout.value_format],
        {name: array.ctypes.data for name, array in arrays.items()},
        scalars,
        threads,
    )
    assert (buffer[behind + tail :] == SENTINEL).all()
    assert (buffer[layout.features : row] == 0).all()
    assert (history[len(history) - GUARD :] == SENTINEL).all()
    rows = history[: plan.epochs * row].reshape(plan.epochs, row)
    assert hold or (rows[:, layout.features :] == 0).all()
    assert not hold or (rows == SENTINEL).all()
    return Outcome(
        registers,
        buffer[: layout.features].copy(),
        rows[:, : layout.features].copy(),
        buffer[behind : behind + 2 * plan.batch * out_pending]
        .reshape(out_pending, plan.batch, 2)
        .copy(),
    )


def segment(packed: RandomDataset, first_block: int, blocks: int) -> RandomDataset:
    """Blocks of a data set as one of their own."""
    layout = packed.layout
    start = first_block * layout.block_samples
    samples = min(layout.samples - start, blocks * layout.block_samples)
    stop = start + blocks * layout.block_samples
    return replace(
        packed,
        planes=packed.planes[first_block : first_block + blocks],
        labels=packed.labels[start:stop],
        full=None if packed.full is None else packed.full[start:stop],
        weights=None if packed.weights is None else packed.weights[start:stop],
        layout=replace(layout, samples=samples),
    )


def _row(column: NDArray[np.uint32] | None, epoch: int) -> NDArray[np.uint32] | None:
    return None if column is None else column[epoch : epoch + 1]


def run_segments(
    build: Build,
    packed: RandomDataset,
    plan: Plan,
    model: NDArray[np.int32],
    blocks: int,
    threads: int = 1,
) -> tuple[NDArray[np.int32], NDArray[np.int32], int]:
    """A run in segments of ``blocks`` blocks: model, history (epochs, features), saturations.

    Each segment starts at the block that holds the oldest batch whose update is still to come.
    """
    layout = packed.layout
    per_block = layout.block_samples // plan.batch
    batches = -(-layout.samples // plan.batch)
    history = []
    saturations = 0
    for epoch in range(plan.epochs):
        one = replace(
            plan,
            epochs=1,
            steps=plan.steps[epoch : epoch + 1],
            decays=plan.decays[epoch : epoch + 1],
            step=plan.step[epoch : epoch + 1],
            negative_steps=_row(plan.negative_steps, epoch),
            gradient_shifts=_row(plan.gradient_shifts, epoch),
            thresholds=_row(plan.thresholds, epoch),
        )
        held = np.zeros((0, plan.batch, 2), dtype=np.int32)
        done = 0  # blocks
        while done < layout.blocks:
            oldest = done * per_block - len(held)  # first batch still to be updated
            first = oldest // per_block
            stop = min(done + blocks, layout.blocks)
            hold = stop < layout.blocks
            outcome = run_build(
                build,
                segment(packed, first, stop - first),
                one,
                model,
                skip=oldest - first * per_block,
                held=held,
                hold=hold,
                first_update=epoch * batches + oldest,
                threads=threads,
            )
            assert outcome.registers["status"] == CONFIG.status_ok, outcome.registers
            model, held = outcome.model, outcome.held
            saturations += outcome.registers["saturations"]
            done = stop
        history.append(model)
    return model, np.array(history), saturations


#: Memory that each of these takes beside the samples: model, history, schedule.
VECTOR_PAGES = 3


def check_same(result, case, *, blocks=None):
    """The result is the reference's, bit for bit, and so are the counters of an unsegmented run."""
    expected = reference.train(case.packed, case.plan, case.model)
    np.testing.assert_array_equal(result.history_fixed, expected.history_fixed)
    np.testing.assert_array_equal(result.model_fixed, expected.model_fixed)
    np.testing.assert_array_equal(result.model, expected.model)
    for name in ("saturations", "outside", "clipped", "refetched"):
        assert getattr(result, name) == getattr(expected, name)
    if blocks is None:
        layout = streamed_layout(case.packed.layout, case.plan)
        assert result.words == expected.words
        assert result.bytes_streamed == expected.bytes_streamed
        if expected.refetched:
            assert result.modelled_cycles == expected.modelled_cycles
        else:
            assert result.modelled_cycles == run_cycles(
                layout, case.plan, case.plan.epochs, **run_options(case)
            )


def check_side_by_side(drivers, cases, *, times=1):
    """Every driver trains its case in a thread of its own, with the bits that it has alone."""
    results = {}

    def train(i):
        for _ in range(times):
            results[i] = drivers[i].train(cases[i].packed, cases[i].plan, model=cases[i].model)

    threads = [threading.Thread(target=train, args=(i,)) for i in range(len(cases))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    for i, case in enumerate(cases):
        check_same(results[i], case)


def run_options(case):
    """What run_cycles is to know of a case beside its plan."""
    return {
        "weighted": case.packed.weights is not None,
        "derivatives": len(case.plan.derivative.numbers),
        "vectors": len(case.plan.vectors_behind),
    }


def memory_for(case, slots, capacity):
    """Bytes of a board that just holds so many slots of so many blocks."""
    layout = streamed_layout(case.packed.layout, case.plan)
    packed, rows = case.packed, capacity * layout.block_samples
    segment = [
        capacity * layout.block_stride * layout.word_bits // 8,
        rows * (4 if packed.weights is None else 8),
        0 if packed.full is None else rows * packed.full.shape[1] * 8,
    ]
    tables = [0 if packed.levels is None else packed.levels.size * 4]
    tables += [case.plan.derivative.numbers.nbytes]

    def pages(sizes):
        return sum(-(-size // PAGE) for size in sizes)

    return (VECTOR_PAGES + pages(tables) + slots * pages(segment)) * PAGE


CASES = [
    {"sampling": sampling, "bits": bits, "delay": delay}
    for sampling, bits, delay in [
        ("symmetric", 1, 0),
        ("symmetric", 4, 1),
        ("plain", 2, 2),
        ("single", 8, 3),
        ("nearest", 3, 7),
    ]
]

CASES += [{"value_format": "float32", "delay": delay} for delay in (0, 2)]

CASES += [
    {"value_format": "levels", "sampling": "symmetric", "bits": 3, "delay": 2},
    {"value_format": "levels", "sampling": "plain", "bits": 4, "delay": 0, "own_tables": False},
    {"value_format": "levels", "sampling": "nearest", "bits": 8, "delay": 5},
    {"value_format": "refetch", "sampling": "symmetric", "bits": 5, "delay": 2},
    {"value_format": "refetch", "sampling": "single", "bits": 3, "delay": 0, "weighted": True},
    {"options": {"loss": "logistic"}, "weighted": True, "delay": 3},
    {"options": {"loss": "squared_hinge", "class_costs": (0.5, 2.0)}, "sampling": "plain"},
    {"options": {"model_bits": 8, "gradient_bits": 8, "seed": 5}, "delay": 1},
    {"largest_shift": 2, "bits": 4, "delay": 3},
    {"correction": 1e-3, "bits": 3, "delay": 2},
    {"correction": 1e-3, "largest_shift": 2, "value_format": "levels", "bits": 3, "delay": 1},
    {"correction": 1e-3, "value_format": "refetch", "bits": 3, "delay": 2},
    {"largest_shift": 2, "value_format": "levels", "delay": 1, "weighted": True},
]

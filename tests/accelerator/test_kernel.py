"""The HLS top functions against the engine and the NumPy reference: model, history, counters."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.cases import Case, random_case, run_build, run_segments
from tests.strategies import CORRECTIONS, COUNTERS, any_case, segmented_case
from zipml_pynq.accelerator.builds import load_build
from zipml_pynq.accelerator.interface import INTERFACES
from zipml_pynq.constants import CONFIG, LIMITS, WORD_BITS
from zipml_pynq.errors import ArgumentError
from zipml_pynq.training import reference

try:
    KERNEL = load_build("kernel")
except ArgumentError as error:  # a board or an isolated build: no C-simulation headers
    pytest.skip(str(error), allow_module_level=True)
ENGINE = load_build("engine")


def agree(case: Case, *, with_reference: bool = True) -> None:
    """Kernel, engine and reference give the same bits and the same counters."""
    kernel = run_build(KERNEL, case.packed, case.plan, case.model)
    engine = run_build(ENGINE, case.packed, case.plan, case.model)
    assert kernel.registers == engine.registers
    assert kernel.registers["status"] == CONFIG.status_ok
    np.testing.assert_array_equal(kernel.model, engine.model)
    np.testing.assert_array_equal(kernel.history, engine.history)
    if with_reference:
        expected = reference.train(case.packed, case.plan, model=case.model)
        np.testing.assert_array_equal(kernel.history, expected.history_fixed)
        np.testing.assert_array_equal(kernel.model, expected.model_fixed)
        assert kernel.registers["saturations"] == expected.saturations
        assert kernel.registers["words"] == expected.words
        assert kernel.registers["modelled_cycles"] == expected.modelled_cycles


def agree_at(boundaries, word_bits: int, bits: int, sampling: str, **options) -> None:
    """Features at each boundary; batch and delay go through all pairs along the way.

    An option that is a function gets the boundary's number.
    """
    batches, delays = (1, 3, 16), (0, 1, 2, 3, 5)
    turn = bits + len(sampling)
    for i, features in enumerate(boundaries):
        batch = batches[(turn + i) % 3]
        agree(
            random_case(
                seed=1000 * bits + i,
                samples=batch * 5 + batch // 2 + 1,
                features=features,
                bits=bits,
                sampling=sampling,
                word_bits=word_bits,
                batch=batch,
                delay=delays[(turn + i) % 5],
                l2=0.01 * (i % 2),
                largest_shift=(0, 4, 0, CONFIG.max_feature_shift)[(turn + i) % 4],
                correction=CORRECTIONS[(turn + i) % 3],
                **{key: v(i) if callable(v) else v for key, v in options.items()},
            )
        )


@pytest.mark.parametrize("word_bits", WORD_BITS)
@pytest.mark.parametrize("bits", range(1, 9))
@pytest.mark.parametrize("sampling", ["single", "nearest", "plain", "symmetric"])
def test_every_precision_and_boundary(word_bits: int, bits: int, sampling: str) -> None:
    """Features around the word boundary."""
    agree_at((1, 63, 64, 65, 90, word_bits + 1, 1000), word_bits, bits, sampling)


@pytest.mark.parametrize("word_bits", WORD_BITS)
@pytest.mark.parametrize("bits", range(9, 17))
def test_wide_planes(word_bits: int, bits: int) -> None:
    sampling = ("single", "nearest", "plain", "symmetric")[(bits + word_bits // 64) % 4]
    agree_at((1, 63, 90, word_bits + 1), word_bits, bits, sampling, value_format="wide")


@pytest.mark.parametrize("batch", [1, 3, 16])
@pytest.mark.parametrize("delay", range(CONFIG.max_delay + 1))
@pytest.mark.parametrize("word_bits", WORD_BITS)
def test_every_delay(word_bits: int, batch: int, delay: int) -> None:
    agree(
        random_case(
            seed=batch,
            samples=batch * 9 + 1,
            features=70,
            bits=2,
            word_bits=word_bits,
            batch=batch,
            delay=delay,
        )
    )


@pytest.mark.parametrize(("word_bits", "features"), [(64, 1000), (128, 1000), (512, 1100)])
def test_many_chunks(word_bits: int, features: int) -> None:
    agree(random_case(seed=4, samples=35, features=features, batch=8, word_bits=word_bits, delay=1))


@pytest.mark.parametrize("delay", [0, 1, 2])
@pytest.mark.parametrize("bits", [1, 4, 8])
@pytest.mark.parametrize("word_bits", WORD_BITS)
def test_largest_number_of_features(word_bits: int, bits: int, delay: int) -> None:
    """All chunks of the model memory, which is deeper than one block RAM; as the ring allows."""
    features = LIMITS["bitplanes"].max_chunks * word_bits
    agree(
        random_case(
            seed=5,
            samples=12,
            features=features,
            bits=bits,
            batch=4,
            word_bits=word_bits,
            delay=delay,
        )
    )


@pytest.mark.parametrize("word_bits", WORD_BITS)
def test_two_bursts(word_bits: int) -> None:
    """A lower precision out of a data set that stores several."""
    for bits in (1, 3, 8):
        agree(
            random_case(
                seed=6, features=90, bits=bits, stored_bits=(1, 3, 8), word_bits=word_bits, delay=2
            )
        )


@pytest.mark.parametrize("word_bits", WORD_BITS)
def test_saturation(word_bits: int) -> None:
    case = random_case(
        seed=7, features=65, bits=3, step=15.0, model_scale=100.0, word_bits=word_bits
    )
    agree(case)
    assert run_build(KERNEL, case.packed, case.plan, case.model).registers["saturations"] > 0


@pytest.mark.parametrize("word_bits", WORD_BITS)
@pytest.mark.parametrize("delay", [0, 1, 2])
def test_float32_kernel(word_bits: int, delay: int) -> None:
    for features in (1, 2, 15, 17, 100):
        agree(
            random_case(
                seed=features,
                features=features,
                value_format="float32",
                word_bits=word_bits,
                delay=delay,
                l2=0.01,
            )
        )


@pytest.mark.parametrize("word_bits", WORD_BITS)
@pytest.mark.parametrize("bits", range(1, 9))
@pytest.mark.parametrize("sampling", ["single", "nearest", "plain", "symmetric"])
def test_tables_of_levels(word_bits: int, bits: int, sampling: str) -> None:
    """Features around the boundaries of words and of their parts, own tables and one for all."""
    part = word_bits // CONFIG.level_parts
    agree_at(
        (1, part - 1, part, part + 1, word_bits + 1, 90),
        word_bits,
        bits,
        sampling,
        value_format="levels",
        own_tables=lambda i: i % 3 != 0,
    )


@pytest.mark.parametrize("delay", [0, 1, 2])
@pytest.mark.parametrize("word_bits", WORD_BITS)
def test_largest_model_and_fullest_tables_of_levels(word_bits: int, delay: int) -> None:
    widest = LIMITS["levels"].max_chunks * word_bits
    fullest = CONFIG.level_table // 9 * (word_bits // CONFIG.level_parts)
    for features, own_tables in ((widest, False), (fullest, True)):
        case = random_case(
            seed=9,
            samples=12,
            features=features,
            bits=4,
            batch=4,
            word_bits=word_bits,
            delay=delay,
            value_format="levels",
            own_tables=own_tables,
        )
        assert case.packed.layout.level_tables == (features if own_tables else 1)
        agree(case)


@pytest.mark.parametrize("value_format", ["bitplanes", "levels"])
@pytest.mark.parametrize("delay", [0, 1, 2, 3, 5])
def test_segments_equal_one_piece(delay: int, value_format: str) -> None:
    case = random_case(
        seed=8,
        samples=61,
        features=70,
        batch=4,
        blocks=6,
        delay=delay,
        value_format=value_format,
        largest_shift=delay % 3,
        correction=1e-3 * (delay % 2),
    )
    whole = run_build(KERNEL, case.packed, case.plan, case.model)
    for blocks in (1, 2, 4):
        model, history, saturations = run_segments(
            KERNEL, case.packed, case.plan, case.model, blocks
        )
        np.testing.assert_array_equal(model, whole.model)
        np.testing.assert_array_equal(history, whole.history)
        assert saturations == whole.registers["saturations"]


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    value_format=st.sampled_from(["bitplanes", "levels"]),
    samples=st.integers(1, 70),
    features=st.integers(1, 140),
    bits=st.integers(1, 8),
    sampling=st.sampled_from(["single", "nearest", "plain", "symmetric"]),
    word_bits=st.sampled_from(WORD_BITS),
    batch=st.integers(1, 20),
    blocks=st.integers(1, 4),
    delay=st.integers(0, 7),
    l2=st.sampled_from([0.0, 0.001, 0.02]),
    step=st.sampled_from([0.001, 0.1, 3.0]),
    epochs=st.integers(1, 3),
)
def test_anything(seed: int, **parameters: object) -> None:
    agree(random_case(seed, **parameters))


def test_words_of_feature_steps_are_read_alike() -> None:
    """The host checks them before; of whatever lies in memory the builds make the same."""
    case = random_case(1, features=70, options={"feature_shifts": np.zeros(70, dtype=int)})
    words = np.array([-1, 14, 15, 13, 16, 29, 1 << 30], dtype=np.int64).repeat(10)
    inside = np.minimum(words & 15, CONFIG.max_feature_shift).astype(np.uint8)
    expected = reference.train(case.packed, replace(case.plan, feature_shifts=inside), case.model)
    for build in (KERNEL, ENGINE):
        found = run_build(build, case.packed, replace(case.plan, feature_shifts=words), case.model)
        np.testing.assert_array_equal(found.history, expected.history_fixed)


def test_invalid_registers_touch_no_memory() -> None:
    """Random registers, valid or not, with null pointers: kernel and engine answer alike."""
    rng = np.random.default_rng(9)
    seen = set()
    for _ in range(3000):
        scalars = {
            "samples": int(rng.choice([0, 1, 100])),
            "features": int(rng.choice([0, 1, 64, 4096, 40000, 2**32 - 1])),
            "batch": int(rng.choice([0, 1, 8, 256, 257, 2**32 - 1])),
            "block_samples": int(rng.choice([0, 8, 12, 4096, 4097])),
            "block_stride": 0,
            "dither_offset": 0,
            "bits": int(rng.choice([0, 1, 8, 9, 16, 17, 32])),
            "sampling": int(rng.choice([0, 1, 2, 3])),
            "epochs": int(rng.choice([0, 1, 65536, 65537])),
            "delay": int(rng.choice([0, 7, 8])),
            "skip": int(rng.choice([0, 1])),
            "pending": int(rng.choice([0, 1, 8])),
            "flags": int(rng.choice([0, 1, 2, 4, 8])),
            "loss": int(rng.choice([0, 1, 4, 5])),
            "degree": int(rng.choice([0, 1, 8])),
            "range_log2": int(rng.choice([0, 7])),
            "model_bits": int(rng.choice([0, 1, 8, 17])),
            "model_shift": 0,
            "gradient_bits": int(rng.choice([0, 1, 8, 17])),
            "seed": 0,
            "first_update": 0,
            "first_block": int(rng.choice([0, 2**32 - 1])),
            "block_step": int(rng.choice([0, 1])),
        }
        assert set(scalars) == set(INTERFACES["bitplanes"].scalars)
        word_bits = int(rng.choice(WORD_BITS))
        value_format = int(rng.choice([CONFIG.format_bit_planes, CONFIG.format_float32]))
        if not _invalid(scalars, word_bits, value_format):
            continue
        null = dict.fromkeys(("planes", "labels", "model", "history", "schedule"), 0)
        kernel = KERNEL.run(word_bits, value_format, null, scalars)
        engine = ENGINE.run(word_bits, value_format, null, scalars)
        assert kernel == engine, scalars
        assert kernel["status"] != CONFIG.status_ok
        assert kernel["version"] == CONFIG.interface_version
        assert (kernel["words"], kernel["modelled_cycles"], kernel["saturations"]) == (0, 0, 0)
        seen.add(kernel["status"])
    assert len(seen) >= 8


def _invalid(scalars: dict[str, int], word_bits: int, value_format: int) -> bool:
    """Whether at least one register is outside its own range, whatever the others are."""
    floats = value_format == CONFIG.format_float32
    return (
        scalars["samples"] == 0
        or scalars["features"] in (0, 2**32 - 1)
        or scalars["features"] > 64 * word_bits
        or (scalars["bits"] != 32 if floats else not 1 <= scalars["bits"] <= 8)
        or scalars["sampling"] > (0 if floats else 3)
        or not 1 <= scalars["batch"] <= 256
        or not 1 <= scalars["epochs"] <= 65536
        or scalars["delay"] > 7
        or not 1 <= scalars["block_samples"] <= 4096
        or scalars["loss"] > 4
        or scalars["range_log2"] > 6
        or scalars["block_step"] == 0
    )


# ---- Losses, quantization of model and gradient, order of blocks -------------------------------


@settings(max_examples=150, deadline=None)
@given(case=any_case())
def test_anything_with_any_loss(case: Case) -> None:
    """All of the interface: same bits and same counters from kernel, engine and reference."""
    kernel = run_build(KERNEL, case.packed, case.plan, case.model)
    engine = run_build(ENGINE, case.packed, case.plan, case.model)
    expected = reference.train(case.packed, case.plan, case.model)
    assert kernel.registers == engine.registers
    assert kernel.registers["status"] == CONFIG.status_ok
    for outcome in (kernel, engine):
        np.testing.assert_array_equal(outcome.history, expected.history_fixed)
        np.testing.assert_array_equal(outcome.model, expected.model_fixed)
    for name in COUNTERS:
        assert kernel.registers[name] == getattr(expected, name), name


@settings(max_examples=40, deadline=None)
@given(drawn=segmented_case())
def test_segments_with_any_loss(drawn: tuple[Case, int]) -> None:
    case, blocks = drawn
    whole = run_build(KERNEL, case.packed, case.plan, case.model)
    model, history, saturations = run_segments(KERNEL, case.packed, case.plan, case.model, blocks)
    np.testing.assert_array_equal(model, whole.model)
    np.testing.assert_array_equal(history, whole.history)
    # from a delay of 2 on, an update before a cut is made, and counted, behind the cut again
    if case.plan.delay < 2:
        assert saturations == whole.registers["saturations"]

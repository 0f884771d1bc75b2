"""The engine gives the reference's bits: model, history, words, cycles, saturations."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.cases import LOOPS, Case, force_loops, random_case, run_build, run_segments
from tests.strategies import CORRECTIONS, COUNTERS, SHIFTS, any_case, segmented_case
from zipml_pynq.accelerator.builds import load_build
from zipml_pynq.constants import CONFIG
from zipml_pynq.training import reference
from zipml_pynq.training.result import TrainResult

ENGINE = load_build("engine")


def check(case: Case) -> tuple[dict[str, int], TrainResult]:
    """Run engine and reference and compare all that both give; registers, and the reference's."""
    outcome = run_build(ENGINE, case.packed, case.plan, case.model)
    expected = reference.train(case.packed, case.plan, case.model)
    assert outcome.registers["status"] == CONFIG.status_ok
    np.testing.assert_array_equal(outcome.history, expected.history_fixed)
    np.testing.assert_array_equal(outcome.model, expected.model_fixed)
    for name in ("words", "modelled_cycles", "saturations"):
        assert outcome.registers[name] == getattr(expected, name), name
    return outcome.registers, expected


@pytest.mark.parametrize("bits", range(1, 9))
@pytest.mark.parametrize("sampling", ["symmetric", "plain", "single", "nearest"])
@pytest.mark.parametrize("word_bits", [64, 128, 512])
def test_engine_matches_reference_at_every_precision(
    bits: int, sampling: str, word_bits: int
) -> None:
    check(random_case(bits, bits=bits, sampling=sampling, word_bits=word_bits, features=90))


@pytest.mark.parametrize("features", [1, 63, 64, 65, 127, 128, 129, 1000])
@pytest.mark.parametrize("word_bits", [64, 128, 512])
def test_engine_matches_reference_for_every_length_of_the_model(
    features: int, word_bits: int
) -> None:
    check(random_case(features, features=features, word_bits=word_bits, step=0.001))


@pytest.mark.parametrize(
    ("word_bits", "features", "bits"), [(64, 4096, 2), (128, 5000, 8), (512, 20000, 3)]
)
def test_engine_matches_reference_for_long_models(word_bits: int, features: int, bits: int) -> None:
    case = random_case(
        1, features=features, word_bits=word_bits, bits=bits, samples=10, epochs=1, step=1e-4
    )
    check(case)


@pytest.mark.parametrize(("value_format", "bits"), [("bitplanes", 8), ("wide", 16)])
def test_engine_is_exact_at_the_largest_sums(value_format: str, bits: int) -> None:
    # every value +1 at most bits, every entry at its limit: the dot products reach their bound
    features = CONFIG.max_features
    case = random_case(
        2,
        features=features,
        word_bits=512,
        bits=bits,
        samples=4,
        batch=2,
        delay=1,
        epochs=1,
        value_format=value_format,
    )
    ones = replace(case.packed, planes=np.full_like(case.packed.planes, 2**64 - 1))
    for sign in (1, -1):
        model = np.full(features, sign * (2**31 - 1), dtype=np.int32)
        check(Case(ones, case.plan, model))


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("label_bits", range(20, 31, 2))
def test_gradients_leave_32_bits_in_the_middle_of_a_batch(bits: int, label_bits: int) -> None:
    # residuals of a batch's last tile alone are large: sums begin in 32 bits, and may have to go on
    # in 64
    case = random_case(
        label_bits, bits=bits, features=1000, word_bits=512, samples=180, batch=60, step=0.5
    )
    labels = case.packed.labels.copy()
    labels[np.arange(labels.size) % 60 >= 48] = 2**label_bits
    large = replace(case.packed, labels=labels)
    check(Case(large, case.plan, np.zeros_like(case.model)))


@pytest.mark.parametrize("batch", [1, 3, 16, 256])
@pytest.mark.parametrize("samples", [1, 15, 33, 300])
@pytest.mark.parametrize("sampling", ["symmetric", "single"])
def test_engine_matches_reference_for_ragged_batches(
    batch: int, samples: int, sampling: str
) -> None:
    check(random_case(samples, batch=batch, samples=samples, sampling=sampling))


@pytest.mark.parametrize("delay", range(8))
@pytest.mark.parametrize("value_format", ["bitplanes", "float32", "levels"])
@pytest.mark.parametrize("l2", [0.0, 0.5])
def test_engine_matches_reference_for_every_delay(delay: int, value_format: str, l2: float) -> None:
    check(
        random_case(
            delay, delay=delay, value_format=value_format, l2=l2, samples=61, epochs=3, step=0.1
        )
    )


def test_delay_changes_the_model() -> None:
    models = [
        run_build(ENGINE, c.packed, c.plan, c.model).model
        for c in (random_case(3, delay=d) for d in range(4))
    ]
    assert len({m.tobytes() for m in models}) == 4


@pytest.mark.parametrize("word_bits", [64, 128, 512])
@pytest.mark.parametrize("features", [1, 2, 33, 100, 128])
def test_engine_matches_reference_on_float32(word_bits: int, features: int) -> None:
    check(
        random_case(
            features, value_format="float32", word_bits=word_bits, features=features, l2=0.1
        )
    )


@pytest.mark.parametrize("value_format", ["bitplanes", "float32", "levels"])
@pytest.mark.parametrize("sampling", ["symmetric", "plain"])
def test_engine_counts_every_saturation(value_format: str, sampling: str) -> None:
    case = random_case(
        4,
        value_format=value_format,
        sampling=sampling,
        bits=1,
        step=15.0,
        model_scale=100.0,
        label_scale=100.0,
        epochs=3,
        l2=0.001,
    )
    check(case)
    outcome = run_build(ENGINE, case.packed, case.plan, case.model)
    assert outcome.registers["saturations"] > 100
    if value_format != "float32":  # entries too, not only residuals and coefficients
        assert np.abs(outcome.history.astype(np.int64)).max() == 2**31 - 1


@pytest.mark.parametrize("bits", [1, 3, 5, 8])
def test_engine_reads_one_precision_out_of_several(bits: int) -> None:
    check(random_case(bits, bits=bits, stored_bits=(1, 3, 5, 8)))


def test_engine_reads_one_dither_of_a_double_sampled_set() -> None:
    case = random_case(5, bits=3, sampling="symmetric")
    single = replace(case.plan, sampling="single")
    check(Case(case.packed, single, case.model))


@pytest.mark.parametrize("word_bits", [64, 128, 512])
@pytest.mark.parametrize("bits", range(1, 9))
@pytest.mark.parametrize("own_tables", [True, False])
def test_engine_matches_reference_on_tables_of_levels(
    word_bits: int, bits: int, own_tables: bool
) -> None:
    for sampling in ("symmetric", "plain", "single", "nearest"):
        check(
            random_case(
                bits,
                bits=bits,
                sampling=sampling,
                word_bits=word_bits,
                value_format="levels",
                own_tables=own_tables,
                l2=0.1,
            )
        )


@pytest.mark.parametrize("loops", LOOPS)
@pytest.mark.parametrize("bits", range(1, 9))
def test_every_set_of_loops_on_tables_of_levels(
    monkeypatch: pytest.MonkeyPatch, loops: str, bits: int
) -> None:
    """Models and coefficients of one byte to five, batches of whole fours of rows and others."""
    force_loops(monkeypatch, loops)
    for number, scale in enumerate((2.0**-20, 2.0**-12, 0.1, 127.0)):
        for step in (2.0**-22, 2.0**-8, 1.0, 2.0**5):
            case = random_case(
                bits,
                bits=bits,
                sampling=("symmetric", "single")[number % 2],
                features=(40, 530)[bits % 2],
                samples=47,
                batch=(13, 16)[number // 2],
                step=step,
                model_scale=scale,
                word_bits=512,
                value_format="levels",
            )
            check(case)


@pytest.mark.parametrize("loops", LOOPS)
def test_every_set_of_loops_on_wide_planes(monkeypatch: pytest.MonkeyPatch, loops: str) -> None:
    """Codes of two bytes by every set; models and coefficients of one byte to five."""
    force_loops(monkeypatch, loops)
    for number, bits in enumerate((9, 12, 16, 8)):
        check(
            random_case(
                bits,
                bits=bits,
                sampling=("symmetric", "plain", "symmetric", "single")[number],
                features=(40, 530)[number % 2],
                samples=47,
                batch=(13, 16)[number // 2],
                step=(2.0**-22, 2.0**5, 1.0, 2.0**-8)[number],
                model_scale=(2.0**-20, 0.1, 127.0, 2.0**-12)[number],
                word_bits=512,
                value_format="wide",
            )
        )


@pytest.mark.parametrize("bits", [1, 4, 8])
def test_few_bits_train_alike_by_both_kernels(bits: int) -> None:
    # all sums are 2^8 times those of the other kernel, and rounded at a place that is 8 bits higher
    few = random_case(1, bits=bits, step=0.3, correction=1e-3, largest_shift=4)
    layout = replace(few.packed.layout, value_format="wide")
    wide = Case(replace(few.packed, layout=layout), few.plan, few.model)
    check(wide)
    runs = [run_build(ENGINE, case.packed, case.plan, case.model) for case in (few, wide)]
    np.testing.assert_array_equal(runs[0].history, runs[1].history)
    assert runs[0].registers["modelled_cycles"] == runs[1].registers["modelled_cycles"]


@pytest.mark.parametrize("value_format", ["bitplanes", "levels"])
@pytest.mark.parametrize("loss", ["hinge", "squared_hinge", "logistic"])
def test_coefficients_of_margins_of_every_size(value_format: str, loss: str) -> None:
    """Without weights, all samples of a tile at once; margins saturate and leave tables."""
    saturations = 0
    for number, scale in enumerate((0.1, 3.0, 100.0)):
        case = random_case(
            number,
            sampling=("symmetric", "single", "plain")[number],
            value_format=value_format,
            features=130,
            batch=9,
            step=(0.01, 1.0, 30.0)[number],
            model_scale=scale,
            options={"loss": loss},
        )
        registers, expected = check(case)
        assert registers["outside"] == expected.outside
        saturations += registers["saturations"]
        assert (registers["outside"] > 0) == (loss == "logistic" and scale > 1)
    assert saturations > 0


def test_engine_is_exact_at_the_largest_sums_of_levels() -> None:
    # every level of every table +1, or -1: the dot products reach their bound, 2^60
    features = CONFIG.max_features
    case = random_case(
        2,
        features=features,
        word_bits=512,
        bits=8,
        samples=4,
        batch=2,
        delay=1,
        epochs=1,
        value_format="levels",
    )
    assert case.packed.levels is not None
    for sign in (1, -1):
        levels = np.full_like(case.packed.levels, sign * 2**CONFIG.level_fraction_bits)
        model = np.full(features, 2**31 - 1, dtype=np.int32)
        check(Case(replace(case.packed, levels=levels), case.plan, model))


@given(
    seed=st.integers(0, 2**32 - 1),
    value_format=st.sampled_from(["bitplanes", "levels"]),
    bits=st.integers(1, 8),
    sampling=st.sampled_from(["symmetric", "plain", "single", "nearest"]),
    word_bits=st.sampled_from([64, 128, 512]),
    features=st.integers(1, 300),
    samples=st.integers(1, 70),
    batch=st.integers(1, 20),
    blocks=st.integers(1, 5),
    delay=st.integers(0, 7),
    epochs=st.integers(1, 3),
    step=st.sampled_from([1e-4, 0.01, 1.0]),
    l2=st.sampled_from([0.0, 0.03]),
    model_scale=st.sampled_from([0.0, 1.0, 100.0]),
    largest_shift=st.sampled_from(SHIFTS),
    correction=st.sampled_from(CORRECTIONS),
)
@settings(max_examples=150, deadline=None)
def test_engine_matches_reference_on_anything(**parameters: Any) -> None:
    if parameters["step"] * parameters["l2"] < 1e-7:
        parameters["l2"] = 0.0
    check(random_case(parameters.pop("seed"), **parameters))


@pytest.mark.parametrize("delay", [0, 1, 2, 3, 5])
@pytest.mark.parametrize("sampling", ["symmetric", "plain", "single"])
@pytest.mark.parametrize(("batch", "blocks"), [(1, 1), (4, 1), (4, 2), (8, 3)])
@pytest.mark.parametrize("value_format", ["bitplanes", "levels"])
def test_segments_give_the_bits_of_one_piece(
    delay: int, sampling: str, batch: int, blocks: int, value_format: str
) -> None:
    case = random_case(
        6,
        delay=delay,
        sampling=sampling,
        batch=batch,
        blocks=5,
        samples=83,
        epochs=2,
        l2=0.1,
        value_format=value_format,
        correction=1e-3 * (delay % 2),
    )
    whole = run_build(ENGINE, case.packed, case.plan, case.model)
    model, history, saturations = run_segments(ENGINE, case.packed, case.plan, case.model, blocks)
    np.testing.assert_array_equal(history, whole.history)
    np.testing.assert_array_equal(model, whole.model)
    assert saturations == whole.registers["saturations"]


def test_segments_shorter_than_the_delay_give_the_bits_of_one_piece() -> None:
    # one batch a block, one block a segment: more batches are pending than a segment holds
    case = random_case(7, delay=5, batch=4, blocks=12, samples=47)
    assert case.packed.layout.block_samples == 4
    whole = run_build(ENGINE, case.packed, case.plan, case.model)
    _, history, _ = run_segments(ENGINE, case.packed, case.plan, case.model, 1)
    np.testing.assert_array_equal(history, whole.history)


def test_segments_of_float32_give_the_bits_of_one_piece() -> None:
    case = random_case(8, value_format="float32", delay=2, blocks=6)
    whole = run_build(ENGINE, case.packed, case.plan, case.model)
    _, history, _ = run_segments(ENGINE, case.packed, case.plan, case.model, 2)
    np.testing.assert_array_equal(history, whole.history)


def test_engine_takes_the_largest_registers_that_it_must() -> None:
    # the neighbours of the refusals above
    check(random_case(9, features=4096, bits=1, samples=3, batch=1, epochs=1, step=1e-4))
    check(random_case(9, features=1, bits=1, samples=4096, batch=256, blocks=1, epochs=1))


@settings(max_examples=200, deadline=None)
@given(case=any_case())
def test_engine_matches_reference_with_any_loss(case: Case) -> None:
    registers, expected = check(case)
    for name in COUNTERS:
        assert registers[name] == getattr(expected, name), name
    threaded = run_build(ENGINE, case.packed, case.plan, case.model, threads=3)
    np.testing.assert_array_equal(threaded.history, expected.history_fixed)
    assert threaded.registers == registers


@settings(max_examples=60, deadline=None)
@given(drawn=segmented_case())
def test_segments_with_any_loss_give_the_bits_of_one_piece(drawn: tuple[Case, int]) -> None:
    case, blocks = drawn
    whole = run_build(ENGINE, case.packed, case.plan, case.model)
    model, history, saturations = run_segments(ENGINE, case.packed, case.plan, case.model, blocks)
    np.testing.assert_array_equal(history, whole.history)
    np.testing.assert_array_equal(model, whole.model)
    assert saturations == whole.registers["saturations"]


@pytest.mark.parametrize("entry", [0x7F7F7F7F, 0x7F7F7F80, 2**31 - 1, -(2**31) + 1])
def test_entries_at_the_ends_of_their_digits(entry: int) -> None:
    # the engine splits entries into 1 to 5 bytes
    case = random_case(3, features=100, word_bits=64, samples=9, step=1e-4)
    model = np.zeros_like(case.model)
    model[7] = entry
    check(Case(case.packed, case.plan, model))


@pytest.mark.parametrize("sampling", ["single", "symmetric"])
@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("scale", [1e-3, 0.5, 7.9, 100.0])
@pytest.mark.parametrize("largest_shift", [0, CONFIG.max_feature_shift])
def test_updates_of_every_size_have_the_references_bits(
    bits: int, sampling: str, scale: float, largest_shift: int
) -> None:
    """Small updates are made in 32 bits and others in 64: steps lead from one to the other.

    Every other one has corrections that are as large. Coefficients of a batch add up to 2^-34 and
    more, past the bound (2^-6) and past what saturates; start models lie within, at and beyond what
    the narrow way allows.
    """
    for exponent in range(-20, 5, 2):
        case = random_case(
            exponent + 100,
            bits=bits,
            sampling=sampling,
            features=130,
            samples=24,
            batch=8,
            epochs=1,
            step=2.0**exponent,
            model_scale=scale,
            largest_shift=largest_shift,
            correction=2.0 ** min(exponent, -1) if exponent % 4 else 0.0,
        )
        check(case)


@pytest.mark.parametrize("loops", LOOPS)
@pytest.mark.parametrize("bits", [1, 3, 8])
@pytest.mark.parametrize("shift", range(CONFIG.max_feature_shift + 1))
def test_every_step_of_a_feature_in_32_and_64_bits(
    monkeypatch: pytest.MonkeyPatch, loops: str, bits: int, shift: int
) -> None:
    """Steps at which changes leave 32 bits or not, start models that saturate on either side."""
    force_loops(monkeypatch, loops)
    shifts = np.full(130, shift)
    shifts[::3] = np.arange(44) % (CONFIG.max_feature_shift + 1)
    for exponent in (-18, -12, -7, -4):
        case = random_case(
            exponent + 100,
            bits=bits,
            features=130,
            samples=24,
            batch=8,
            epochs=2,
            step=2.0**exponent,
            model_scale=127.0,
            options={"feature_shifts": shifts},
            correction=2.0 ** (exponent - bits) if bits < 8 else 0.0,
        )
        check(case)


@pytest.mark.parametrize("loops", LOOPS)
@pytest.mark.parametrize("scale", [1e-3, 1.0, 127.0])
def test_decays_of_every_size_in_32_and_64_bits(
    monkeypatch: pytest.MonkeyPatch, loops: str, scale: float
) -> None:
    """They come and go from epoch to epoch, up to what the register holds, on large entries too."""
    force_loops(monkeypatch, loops)
    largest = (1 << CONFIG.decay_bits) - 1
    for seed in range(6):
        case = random_case(
            seed,
            bits=(1, 4, 8)[seed % 3],
            features=130,
            samples=24,
            batch=8,
            epochs=5,
            step=2.0**-18 if seed % 2 else 2.0**-7,
            model_scale=scale,
            largest_shift=seed % 2 * CONFIG.max_feature_shift,
        )
        decays = np.array([1, 0, 1000, largest, 0], dtype=np.uint32)
        check(Case(case.packed, replace(case.plan, decays=np.roll(decays, seed)), case.model))

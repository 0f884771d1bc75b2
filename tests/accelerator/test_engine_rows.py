"""Rows of one word to nine with every set of loops: the reference's bits, at all sizes of numbers.

Short rows are decoded several samples at once, so batches and blocks end inside of such a number.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.cases import LOOPS, Case, force_loops, random_case, run_build
from zipml_pynq.accelerator.builds import load_build
from zipml_pynq.constants import CONFIG
from zipml_pynq.training import reference

ENGINE = load_build("engine")
SAMPLINGS = ("symmetric", "plain", "single", "nearest")
BATCHES = (1, 2, 3, 5, 16, 31)


def check(case: Case, threads: int = 1) -> dict[str, int]:
    """Run engine and reference and compare models and counts; the registers."""
    outcome = run_build(ENGINE, case.packed, case.plan, case.model, threads=threads)
    expected = reference.train(case.packed, case.plan, case.model)
    assert outcome.registers["status"] == CONFIG.status_ok
    np.testing.assert_array_equal(outcome.history, expected.history_fixed)
    np.testing.assert_array_equal(outcome.model, expected.model_fixed)
    assert outcome.registers["saturations"] == expected.saturations
    assert outcome.registers["clipped"] == expected.clipped
    return outcome.registers


@pytest.mark.parametrize("loops", LOOPS)
@pytest.mark.parametrize("words", range(1, 10))
def test_rows_of_few_words(monkeypatch: pytest.MonkeyPatch, loops: str, words: int) -> None:
    """All precisions, rows apart in wide words and side by side in narrow ones."""
    force_loops(monkeypatch, loops)
    for number in range(24):
        features = (64 * words - 63, 64 * words - 47, 64 * words - 17, 64 * words)[number % 4]
        case = random_case(
            100 * words + number,
            bits=number % 8 + 1,
            sampling=SAMPLINGS[number // 2 % 4],
            features=features,
            word_bits=(64, 512, 128)[number % 3],
            batch=BATCHES[number % 6],
            samples=63,
            delay=number % 3,
            weighted=number % 5 == 4,
            l2=0.1 if number % 7 == 6 else 0.0,
            largest_shift=4 if number % 11 == 10 else 0,
        )
        check(case, threads=1 + number % 2)


@pytest.mark.parametrize("loops", LOOPS)
@pytest.mark.parametrize("bits", [1, 2, 4, 6, 8])
def test_short_rows_at_all_widths_of_sums(
    monkeypatch: pytest.MonkeyPatch, loops: str, bits: int
) -> None:
    """Models and coefficients of one byte to five, in gradients of 32 bits and of 64."""
    force_loops(monkeypatch, loops)
    number = 0
    for scale in (2.0**-20, 2.0**-12, 2.0**-5, 1.0, 127.0):
        for step in (2.0**-22, 2.0**-12, 2.0**-5, 2.0**4):  # at most 4 times the batch
            number += 1
            case = random_case(
                number,
                bits=bits,
                sampling=SAMPLINGS[number % 3],
                features=(20, 100, 250)[number % 3],
                samples=47,
                batch=(7, 16, 40)[number // 3 % 3],
                epochs=1,
                step=step,
                model_scale=scale,
                word_bits=(64, 512)[number % 2],
            )
            check(case)


@pytest.mark.parametrize("loops", LOOPS)
@pytest.mark.parametrize("bits", [1, 4, 6, 8])
@pytest.mark.parametrize("features", [64, 100, 256])
def test_short_rows_are_exact_at_the_largest_sums(
    monkeypatch: pytest.MonkeyPatch, loops: str, bits: int, features: int
) -> None:
    """Every value +1, all digits of an entry the largest, or the smallest; ones behind rows too."""
    force_loops(monkeypatch, loops)
    case = random_case(3, features=features, bits=bits, samples=10, batch=5, epochs=1, delay=0)
    planes = np.full_like(case.packed.planes, 2**64 - 1)
    ones = replace(case.packed, planes=planes)
    largest, smallest = (0x7F, 0x7F7F, 0x7F7F7F, 0x7F7F7F7F), (-0x80, -0x8080, -0x808080)
    for entry in (*largest, *smallest, 2**31 - 1, 1 - 2**31):
        check(Case(ones, case.plan, np.full(features, entry, dtype=np.int32)))


@pytest.mark.parametrize("loss", ["least_squares", "hinge", "squared_hinge"])
def test_coefficients_with_and_without_saturations(loss: str) -> None:
    """Stages that saturate nowhere, in one of a batch's samples or in most of them."""
    counts = []
    for scale in (0.01, 1.0, 20.0, 60.0, 127.0):
        for step in (2.0**-20, 2.0**-3, 8.0):
            case = random_case(
                round(scale * 100),
                features=30,
                samples=90,
                batch=45,
                step=step,
                model_scale=scale,
                label_scale=scale,
                options={"loss": loss},
            )
            counts.append(check(case)["saturations"])
    assert min(counts) == 0
    assert loss == "hinge" or max(counts) > 100


@pytest.mark.parametrize("loops", LOOPS)
@pytest.mark.parametrize("model_bits", [2, 4, 8, 9, 16])
def test_quantized_models_inside_their_range_and_beyond(
    monkeypatch: pytest.MonkeyPatch, loops: str, model_bits: int
) -> None:
    """Up to 8 bits a model may be rounded to bytes; nothing is clamped where nothing is beyond."""
    force_loops(monkeypatch, loops)
    clipped = []
    for number, features in enumerate((20, 64, 100, 250, 300, 575, 1100, 1024)):
        for model_range in (0.25, 1.0, 127.0):
            case = random_case(
                number,
                bits=(1, 2, 3, 4, 8)[number % 5],
                sampling=SAMPLINGS[number % 3],
                value_format=("bitplanes", "levels")[number % 4 // 3],
                features=features,
                samples=23,
                batch=7,
                epochs=1,
                word_bits=(64, 512)[number % 2],
                options={"model_bits": model_bits, "model_range": model_range, "seed": number},
            )
            clipped.append(check(case, threads=1 + number % 2)["clipped"])
    assert min(clipped) == 0
    assert max(clipped) > 100

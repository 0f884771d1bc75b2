"""Corrections of the gradient and frozen models, in plans and in what they are for."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.accelerator.runs import board_for, limited
from tests.cases import check_same, random_case
from zipml_pynq.accelerator.host import HostDriver
from zipml_pynq.accelerator.run import Training
from zipml_pynq.constants import CONFIG, MODEL_ONE
from zipml_pynq.data.pack import pack
from zipml_pynq.data.values import kernel_values
from zipml_pynq.errors import ArgumentError
from zipml_pynq.training.make_plan import make_plan


def test_a_correction_is_the_gradient_times_the_step():
    plan = random_case(1, features=3, options={"schedule": "constant"}, step=0.25).plan
    corrected = plan.corrected([0.5, -1.0, 2.0**-31])
    one = 1 << CONFIG.correction_fraction_bits
    np.testing.assert_array_equal(corrected.correction, [one // 8, -one // 4, 0])


@pytest.mark.parametrize("gradient", [[0.0, 2.0], [0.0, -2.0], [np.nan, 0.0], [np.inf, 0.0]])
def test_a_correction_has_to_fit(gradient):
    plan = random_case(1, features=2, options={"schedule": "constant"}, step=0.25).plan
    with pytest.raises(ArgumentError, match="gradient held .* allowed is gradient"):
        plan.corrected(gradient)


def test_a_correction_is_of_one_step():
    plan = random_case(1, features=2).plan  # the schedule is inverse
    with pytest.raises(ArgumentError, match="a correction holds for one step"):
        plan.corrected([0.0, 0.0])
    assert plan.part(1, 2).corrected([0.0, 0.0]).correction.dtype == np.int32


@pytest.mark.parametrize("word", [np.zeros(2, np.int32), np.zeros(3, np.int64)])
def test_a_plan_checks_its_correction(word):
    case = random_case(1, features=3)
    with pytest.raises(ArgumentError, match="correction had shape"):
        replace(case.plan, correction=word).check(case.packed.layout)


def test_a_frozen_model_is_of_one_epoch_and_without_decay():
    case = random_case(1)
    with pytest.raises(ArgumentError, match="epochs was 2; a frozen model allows 1"):
        replace(case.plan, frozen=True).check(case.packed.layout)
    case = random_case(1, epochs=1, l2=0.1)
    with pytest.raises(ArgumentError, match="l2 was 0.1; a frozen model allows 0"):
        replace(case.plan, frozen=True).check(case.packed.layout)


@pytest.mark.filterwarnings("ignore::zipml_pynq.errors.ZipmlWarning")
@pytest.mark.parametrize("delay", [0, 2])
@pytest.mark.parametrize("blocks", [None, 3])
@pytest.mark.parametrize("engine", ["engine", "kernel"])
def test_a_frozen_run_in_any_segments(board, engine, delay, blocks, monkeypatch):
    case = random_case(3, samples=75, batch=2, blocks=20, delay=delay, epochs=1, frozen=True)
    driver = board_for(board, case, engine=engine).driver
    if blocks is not None:
        monkeypatch.setattr(Training, "_allocate_slot", limited(blocks))
    result = driver.train(case.packed, case.plan, model=case.model, judge=False)
    check_same(result, case, blocks=blocks)


def test_a_frozen_run_is_the_gradient_over_the_whole_set():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(203, 7)), rng.normal(size=203)
    packed = pack(X, y, bits=8, batch=4)
    model = rng.normal(size=8)
    plan = replace(make_plan(packed, epochs=1, step=2.0), frozen=True)
    result = HostDriver(packed.layout.word_bits).train(packed, plan, model=model, judge=False)
    q1, q2 = (q / 128 for q in kernel_values(packed, 8, "symmetric", 0))
    start = np.rint(model * MODEL_ONE) / MODEL_ONE
    labels = packed.labels[:203] / MODEL_ONE
    gradient = (q1.T @ (q2 @ start - labels) + q2.T @ (q1 @ start - labels)) / 2
    # each of 51 updates is rounded to a unit of the model, coefficients to less
    found = (start - result.model) * 4 / 2.0
    np.testing.assert_allclose(found, gradient, atol=51 * 2 / MODEL_ONE)


def test_corrected_training_ends_where_the_correction_says():
    """With labels of 0 and d added, quantized least squares has the solution of H x = -d."""
    rng = np.random.default_rng(0)
    packed = pack(rng.normal(size=(512, 3)), rng.normal(size=512), bits=3, batch=512 // 16)
    packed = replace(packed, labels=np.zeros_like(packed.labels))
    q1, q2 = (q / 128 for q in kernel_values(packed, 3, "symmetric", 0))
    moment = (q1.T @ q2 + q2.T @ q1) / (2 * 512)
    gradient = np.array([0.03, -0.05, 0.01, 0.02])
    plan = make_plan(packed, epochs=1500, step=0.03, schedule="constant").corrected(gradient)
    result = HostDriver(packed.layout.word_bits).train(packed, plan, judge=False)
    # batches of 32 have moments of their own: the end is a little beside the solution
    expected = np.linalg.solve(moment, -gradient)
    np.testing.assert_allclose(result.model, expected, rtol=0.01, atol=5e-3)

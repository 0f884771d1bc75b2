"""What a plan accepts, what it refuses and says, and the registers that it becomes."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest

from tests.cases import RandomDataset, random_dataset, run_build
from zipml_pynq import pack
from zipml_pynq.accelerator.builds import load_build
from zipml_pynq.accelerator.interface import INTERFACES
from zipml_pynq.constants import CONFIG
from zipml_pynq.errors import ArgumentError
from zipml_pynq.training.make_plan import make_plan, restepped, step_sizes
from zipml_pynq.training.plan import Plan


def dataset(**change: Any) -> RandomDataset:
    arguments = {"bits": (2, 4), "batch": 4, "samples": 30, "features": 20, **change}
    return random_dataset(np.random.default_rng(0), **arguments)


def test_defaults_come_from_the_data_set() -> None:
    plan = make_plan(dataset(), step=0.1)
    assert (plan.bits, plan.sampling, plan.batch, plan.epochs) == (4, "symmetric", 4, 10)
    assert plan.delay >= 1
    np.testing.assert_allclose(plan.step, 0.1 / (1 + np.arange(10)))
    layout = dataset(sampling="nearest").layout
    assert make_plan(layout, step=0.1).sampling == "nearest"


def test_registers_are_those_of_the_interface_and_run() -> None:
    packed = dataset()
    plan = make_plan(packed, bits=2, sampling="plain", epochs=3, step=0.25, l2=0.125)
    registers = plan.registers(packed.layout)
    assert tuple(registers) == INTERFACES["bitplanes"].scalars
    assert registers["dither_offset"] == packed.layout.dither_offset(2)
    assert registers["sampling"] == CONFIG.sampling_plain
    table = plan.schedule_table()
    assert table.dtype == np.uint32
    assert table.shape == (3, 5)
    assert table[0].tolist() == [2**30 // 16, 2**30 // 16, 2**28 // 32, 0, 0]
    assert table[1].tolist() == [2**30 // 32, 2**30 // 32, 2**28 // 64, 0, 0]
    outcome = run_build(load_build("engine"), packed, plan)
    assert outcome.registers["status"] == CONFIG.status_ok


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("inverse", [1, 1 / 2, 1 / 3]),
        ("constant", [1, 1, 1]),
        ("decay", [1, 0.9, 0.81]),
        (lambda epoch: 2.0**-epoch, [1, 1 / 2, 1 / 4]),
    ],
)
def test_schedules(schedule: Any, expected: list[float]) -> None:
    np.testing.assert_allclose(step_sizes(0.5, schedule, 3), 0.5 * np.array(expected))


def test_a_step_for_every_epoch() -> None:
    plan = make_plan(dataset(), epochs=3, step=[0.3, 0.2, 0.1])
    np.testing.assert_array_equal(plan.step, [0.3, 0.2, 0.1])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bits": 3}, "bits was 3; the data set stores 2, 4"),
        ({"bits": 32}, "bits was 32"),
        ({"sampling": "nearest"}, "sampling was 'nearest'; .*'symmetric', 'plain', 'single'"),
        ({"sampling": "double"}, "sampling was 'double'"),
        ({"batch": 0}, "batch was 0"),
        ({"batch": 257}, "batch was 257"),
        ({"batch": 5}, "batch was 5; allowed are divisors"),
        ({"batch": 2.5}, "batch was 2.5"),
        ({"epochs": 0}, "epochs was 0"),
        ({"epochs": 65537}, "epochs was 65537"),
        ({"delay": -1}, "delay was -1"),
        ({"delay": 8}, "delay was 8"),
        ({"delay": "none"}, "delay was 'none'"),
        ({"delay": 1.5}, "delay was 1.5"),
        ({"step": 0}, "step was 0"),
        ({"step": -0.1}, "step was -0.1"),
        ({"step": float("nan")}, "step was nan"),
        ({"step": "big"}, "step was 'big'"),
        ({"step": [0.1, 0.2]}, "step had shape"),
        ({"step": 16.0}, "step was 16 at batch 4; allowed is .* step < 16"),
        ({"step": 1e-9}, "step was 1e-10 at batch 4; allowed is .* at least"),
        ({"schedule": "cosine"}, "schedule was 'cosine'"),
        ({"schedule": 3}, "schedule was 3"),
        ({"schedule": lambda epoch: 1.0 - epoch}, "finite and positive"),
        ({"l2": -1.0}, "l2 was -1"),
        ({"l2": float("inf")}, "l2 was inf"),
        ({"l2": 1.0}, "l2 was 1 at step 0.1; .*l2 < 0.625 at this step, or step < 0.0625"),
        ({"l2": 1e-9}, "l2 was 1e-09 .* below which"),
        ({"l1": -1.0}, "l1 was -1"),
        ({"l1": 20.0}, "l1 was 20 at step 0.1; .*l1 < 10 at this step, or step < 0.05"),
        ({"l1": 1e-8}, "l1 was 1e-08 .* below which"),
        ({"feature_shifts": [1, 2]}, r"feature_shifts had shape \(2,\); allowed is \(20,\)"),
        ({"feature_shifts": 3}, r"feature_shifts had shape \(\); allowed is \(20,\)"),
        ({"feature_shifts": [14] * 20}, r"feature_shifts held 14; allowed are 0\.\.13"),
        (
            {"feature_shifts": [-1] * 20},
            r"feature_shifts was \[-1, .*allowed are integers of 0\.\.13",
        ),
        ({"feature_shifts": [256] * 20}, r"feature_shifts was \[256, .*allowed are integers"),
        ({"feature_shifts": [0.5] * 20}, r"feature_shifts was \[0.5, .*allowed are integers"),
    ],
)
def test_refusals_name_argument_value_and_range(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        make_plan(dataset(), **{"step": 0.1, **change})


def test_step_auto_needs_data() -> None:
    with pytest.raises(ArgumentError, match="step was 'auto' with a layout alone"):
        make_plan(dataset().layout)


def test_data_of_one_sampling_is_not_trained_with_another() -> None:
    single = dataset(sampling="single")
    with pytest.raises(ArgumentError, match="sampling was 'symmetric'"):
        make_plan(single, step=0.1, sampling="symmetric")
    floats = dataset(value_format="float32", bits=32, sampling="single")
    assert make_plan(floats, step=0.1).bits == 32
    with pytest.raises(ArgumentError, match="sampling was 'plain'"):
        make_plan(floats, step=0.1, sampling="plain")


def test_delay_must_fit_the_ring() -> None:
    large = dataset(features=785, bits=4, batch=64, samples=256, blocks=4)
    assert make_plan(large, step=1e-3).delay == 0
    with pytest.raises(ArgumentError, match="delay was 1: batches of 4160 words exceed"):
        make_plan(large, step=1e-3, delay=1)


def test_steps_of_features_are_a_plans() -> None:
    packed = dataset()
    plain = make_plan(packed, step=0.1)
    assert plain.feature_shifts is plain.feature_steps is None
    assert plain.registers(packed.layout)["flags"] == 0
    shifts = np.arange(20) % (CONFIG.max_feature_shift + 1)
    plan = make_plan(packed, step=0.1, feature_shifts=shifts)
    assert plan.feature_shifts is not None
    assert plan.feature_shifts.dtype == np.uint8
    np.testing.assert_array_equal(plan.feature_shifts, shifts)
    np.testing.assert_array_equal(plan.feature_steps, 2.0**shifts)
    assert plan.registers(packed.layout)["flags"] == CONFIG.flag_feature_steps
    np.testing.assert_array_equal(plan.part(2, 5).feature_shifts, shifts)
    with pytest.raises(ArgumentError, match="feature_shifts had type int64; allowed is uint8"):
        replace(plan, feature_shifts=shifts).check(packed.layout)


def test_plans_just_inside_the_limits_pass() -> None:
    packed = dataset()
    for change in ({"step": 15.99}, {"l2": 0.62}, {"epochs": 65536}, {"delay": 7}, {"delay": 0}):
        plan = make_plan(packed, **{"step": 0.1, "schedule": "constant", **change})
        assert (plan.steps >= 1).all()
        assert (plan.decays < 2**CONFIG.decay_bits).all()
    assert replace(plan, delay=3).delay == 3


def test_a_plan_that_cools_down() -> None:
    packed = pack(np.random.default_rng(0).uniform(-1, 1, (96, 3)), np.arange(96.0), bits=4)
    plan = make_plan(packed, epochs=9, step=0.1, schedule="constant", l2=0.01, l1=0.02)
    cooled = plan.cooled(3, 7)
    factors = np.array([1, 1, 1, 0.8, 0.6, 0.4, 0.2, 1, 1])
    assert np.allclose(cooled.step, 0.1 * factors)
    assert np.array_equal(cooled.steps, np.rint(plan.steps * factors))
    assert np.array_equal(cooled.negative_steps, np.rint(plan.negative_steps * factors))
    assert np.array_equal(cooled.decays, np.rint(plan.decays * factors))
    assert np.array_equal(cooled.thresholds, np.rint(plan.thresholds * factors))
    # the registers of a plan that is made with these steps
    made = make_plan(packed, epochs=9, step=0.1 * factors, l2=0.01)
    assert np.abs(made.steps.astype(int) - cooled.steps.astype(int)).max() <= 1
    for first, stop in ((-1, 3), (3, 3), (3, 10)):
        with pytest.raises(ArgumentError, match="was"):
            plan.cooled(first, stop)
    rough = make_plan(packed, epochs=2, step=0.1, gradient_bits=8, gradient_range=1.0)
    with pytest.raises(ArgumentError, match="gradient_bits was 8"):
        rough.cooled(0, 1)


def test_penalty_of_the_columns() -> None:
    rng = np.random.default_rng(0)
    packed = pack(np.c_[rng.uniform(-1, 1, (960, 3)), np.zeros(960)], np.arange(960.0), bits=8)
    plan = make_plan(packed, l2="auto")
    assert np.isclose(plan.l2 * 960, 1 / 3, rtol=0.1)  # of columns that are not 0
    assert plan.decays[0] == round(plan.step[0] * plan.l2 * 2**CONFIG.decay_fraction_bits)
    # too little to be held: an error where it was asked for, 0 where it follows from the data
    tiny = {"step": 1e-5, "l2": 1e-5}
    with pytest.raises(ArgumentError, match="l2 was 1e-05"):
        make_plan(packed, **tiny)
    assert not make_plan(packed, **tiny, small_l2=True).decays.any()
    with pytest.raises(ArgumentError, match="l2 was 'auto' with a layout alone"):
        make_plan(packed.layout, step=0.1, l2="auto")
    with pytest.raises(ArgumentError, match="l2 was 'much'"):
        make_plan(packed, l2="much")


@pytest.mark.parametrize("model_bits", [0, 8])
@pytest.mark.parametrize("l2", [0.0, 1e-9, 0.03])
def test_another_step_of_a_plan_is_what_would_be_made_with_it(model_bits, l2):
    """Rounds of refinement make one plan, and the others of it."""
    X = np.random.default_rng(0).normal(size=(200, 5))
    packed = pack(X, X[:, 0], bits=4)
    options = {
        "schedule": "constant",
        "small_l2": True,
        "feature_shifts": np.arange(6, dtype=np.uint8) % 3,
        "model_bits": model_bits,
        "model_range": 2.0,
        "seed": 7,
        "delay": 1,
    }
    first = make_plan(packed, step=0.5, epochs=3, l2=0.1, **options)
    expected = make_plan(packed, step=0.01, epochs=5, l2=l2, **options)
    found = restepped(first, 0.01, 5, l2)
    for field in fields(Plan):
        one, other = getattr(found, field.name), getattr(expected, field.name)
        if field.name == "derivative":
            assert one.code == other.code
        else:
            np.testing.assert_array_equal(one, other, err_msg=field.name)
    with pytest.raises(ArgumentError, match="step was"):
        restepped(first, 1e9, 5, l2)

"""Ranges of a quantized model and gradient that a short float run finds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.cases import run_build
from zipml_pynq.accelerator.builds import load_build
from zipml_pynq.constants import CONFIG, MODEL_ONE
from zipml_pynq.data.datasets import synthetic_regression
from zipml_pynq.data.pack import pack
from zipml_pynq.data.packed import PackedDataset
from zipml_pynq.errors import ArgumentError
from zipml_pynq.training import baseline
from zipml_pynq.training.losses import objective
from zipml_pynq.training.make_plan import make_plan
from zipml_pynq.training.ranges import auto_ranges

ENGINE = load_build("engine")
EPOCHS = 10


def data(loss: str, **options: Any) -> PackedDataset:
    """Synthetic samples, few enough for the short run to see all of them."""
    found = synthetic_regression(20, n_train=4_000, n_test=1)
    y = found.y_train if loss == "least_squares" else np.sign(found.y_train)
    return pack(found.X_train, y, **{"bits": 8, **options})


@pytest.mark.parametrize("loss", ["least_squares", "logistic"])
def test_ranges_are_those_of_a_float_run(loss: str) -> None:
    packed = data(loss)
    plan = make_plan(packed, loss=loss, epochs=EPOCHS, delay=0)
    model, gradients = auto_ranges(packed, plan, plan.step)
    V = packed.values()[0].astype(np.float64)
    y = packed.labels[:4_000] / MODEL_ONE
    history = baseline.float_sgd_loss(V, y, plan.step, loss)
    assert model == pytest.approx(1.25 * np.abs(history).max(), rel=0.02)
    assert gradients.shape == (EPOCHS,)
    # at the zero model by hand
    c = -y if loss == "least_squares" else -np.sign(y) / 2
    means = np.abs((c[:, None] * V).reshape(-1, 16, 21).mean(axis=1)).max(axis=1)
    assert gradients[0] == pytest.approx(np.quantile(means, 0.99), rel=0.05)
    assert gradients[-1] < gradients[0]


def test_ranges_know_the_steps_of_features() -> None:
    packed = data("least_squares")
    shifts = np.arange(21) % 4
    plan = make_plan(packed, epochs=EPOCHS, step=0.02, delay=0, feature_shifts=shifts)
    model, _ = auto_ranges(packed, plan, plan.step)
    V = packed.values()[0].astype(np.float64)
    y = packed.labels[:4_000] / MODEL_ONE
    history = baseline.float_sgd_loss(V, y, plan.step, feature_steps=2.0**shifts)
    assert model == pytest.approx(1.25 * np.abs(history).max(), rel=0.02)
    assert model != pytest.approx(1.25 * np.abs(baseline.float_sgd_loss(V, y, plan.step)).max())


@pytest.mark.parametrize("value_format", ["bitplanes", "float32", "levels"])
def test_costs_and_weights_scale_gradients(value_format: str) -> None:
    stored = {
        "bitplanes": {},
        "float32": {"value_format": "float32", "bits": None},
        "levels": {"levels": "optimal", "bits": 4},
    }[value_format]
    packed = data("logistic", **stored)
    plan = make_plan(packed, loss="logistic", epochs=1, step=0.5)
    plain = auto_ranges(packed, plan, plan.step)[1]
    costly = auto_ranges(packed, plan, plan.step, (3.0, 3.0))[1]
    assert costly[0] == pytest.approx(3 * plain[0])
    weighted = packed.relabel(
        np.where(packed.labels[:4_000] < 0, -1.0, 1.0), sample_weight=np.full(4_000, 3.0)
    )
    assert auto_ranges(weighted, plan, plan.step)[1][0] == pytest.approx(3 * plain[0])


@pytest.mark.parametrize("loss", ["least_squares", "logistic"])
def test_default_ranges_reach_the_float_loss_at_eight_bits(loss: str) -> None:
    packed = data(loss)
    options: dict[str, Any] = {"loss": loss, "epochs": EPOCHS, "delay": 0}
    plan = make_plan(packed, model_bits=8, gradient_bits=8, **options)
    outcome = run_build(ENGINE, packed, plan)
    updates = EPOCHS * 250 * 21
    assert outcome.registers["clipped"] < 0.01 * updates
    V = packed.values()[0]
    y = packed.labels[:4_000] / MODEL_ONE
    exact = baseline.float_sgd_loss(V, y, plan.step, loss)[-1]
    found = objective(loss, V, y, outcome.model / MODEL_ONE)
    assert found < 1.02 * objective(loss, V, y, exact)


def test_a_run_that_diverges_gives_the_largest_range() -> None:
    packed = data("least_squares")
    plan = make_plan(packed, epochs=EPOCHS, step=60.0, schedule="constant", delay=0)
    model, gradients = auto_ranges(packed, plan, plan.step)
    assert model == 128
    assert (gradients <= 128).all()
    shifted = make_plan(packed, epochs=EPOCHS, step=60.0, model_bits=8, gradient_bits=8)
    assert shifted.model_shift == CONFIG.model_fraction_bits  # +-127 in units of 1


def test_ranges_beside_auto() -> None:
    packed = data("least_squares")
    layout = packed.layout
    plan = make_plan(layout, step=0.5, model_bits=8, model_range=127.0, gradient_bits=0)
    assert plan.model_shift == CONFIG.model_fraction_bits
    for name in ("model", "gradient"):
        for wrong in ("most", 0.0, -1.0, np.inf, np.nan, True, None):
            with pytest.raises(ArgumentError, match=f"{name}_range was"):
                make_plan(packed, step=0.5, **{f"{name}_bits": 8, f"{name}_range": wrong})
        with pytest.raises(ArgumentError, match=f"{name}_range was 'auto' with a layout alone"):
            make_plan(layout, step=0.5, **{f"{name}_bits": 8})

"""The proximal step of the l1 norm where a cell is closed: bits, and where training ends."""

from __future__ import annotations

import numpy as np
import pytest

from tests.cases import random_case, run_build
from zipml_pynq.accelerator.builds import load_build
from zipml_pynq.data.normalization import Normalization
from zipml_pynq.data.pack import pack
from zipml_pynq.training import reference
from zipml_pynq.training.make_plan import make_plan


@pytest.mark.parametrize("build", ["engine", "kernel"])
@pytest.mark.parametrize("value_format", ["bitplanes", "float32", "levels", "refetch"])
def test_builds_shrink_entries_alike(build: str, value_format: str) -> None:
    """With steps of features, decay, delay and quantized model; some entries end at 0."""
    weight = 0.05 if value_format == "float32" else 0.3
    for seed, largest_shift in ((1, 0), (2, 5)):
        case = random_case(
            seed,
            value_format=value_format,
            samples=61,
            features=70,
            epochs=2,
            delay=seed,
            step=0.1,
            l2=0.1,
            model_scale=0.02,
            largest_shift=largest_shift,
            options={"l1": weight, "model_bits": 8 * (seed - 1), "model_range": 1.0},
        )
        expected = reference.train(case.packed, case.plan, case.model)
        found = run_build(load_build(build), case.packed, case.plan, case.model)
        np.testing.assert_array_equal(found.model, expected.model_fixed)
        zeros = (expected.model_fixed == 0).sum()
        assert 0 < zeros < 70
        assert found.registers["saturations"] == expected.saturations


def test_engine_ends_at_scikit_learns_elastic_net() -> None:
    """Drawn anew every epoch, at 8 bits: the entries that are 0 there are 0 here."""
    ElasticNet = pytest.importorskip("sklearn.linear_model").ElasticNet
    rng = np.random.default_rng(0)
    V = rng.uniform(-1, 1, (4_000, 20))
    truth = np.where(np.arange(20) < 6, rng.normal(size=20), 0.0)
    y = V @ truth + 0.1 * rng.normal(size=4_000)
    l1, l2 = 0.02, 0.01
    exact = ElasticNet(alpha=l1 + l2, l1_ratio=l1 / (l1 + l2), fit_intercept=False, tol=1e-10)
    coef = exact.fit(V, y).coef_
    plain = Normalization(np.zeros(20), np.ones(20), 0.0, 1.0, False)
    packed = pack(V, y / 8, bits=8, batch=32, normalization=plain)
    engine, model = load_build("engine"), None
    for epoch in range(25):
        # labels, model and l1 are an eighth, so that all labels fit
        plan = make_plan(packed, epochs=1, step=0.5 / (1 + epoch), l1=l1 / 8, l2=l2, delay=0)
        model = run_build(engine, packed.redraw(V, epoch), plan, model).model
    found = 8 * model / 2.0**24
    np.testing.assert_allclose(found, coef, atol=0.02)
    inside = np.abs(coef) > 0.05
    assert (found[inside] != 0).all()
    assert np.abs(found[coef == 0]).max() < 0.01
    assert ((found == 0) & (coef == 0)).sum() >= 0.5 * (coef == 0).sum() > 5

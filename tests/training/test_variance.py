"""Proposals of bits and levels, and what the variance helpers refuse; test_statistics.py tests the
variances themselves against draws."""

from __future__ import annotations

import numpy as np
import pytest

from zipml_pynq.data.datasets import synthetic_regression
from zipml_pynq.data.grid import sample_variance
from zipml_pynq.data.normalization import Normalization
from zipml_pynq.data.pack import LEVEL_CHOICES, pack
from zipml_pynq.errors import ArgumentError
from zipml_pynq.training.variance import (
    gradient_variance,
    propose_quantization,
    quantization_variance,
)

PLAIN = synthetic_regression(20, n_train=2000, n_test=1)
SKEWED = synthetic_regression(20, n_train=2000, n_test=1, skew=1.5)


def measured_noise(data, bits, levels, model):
    """Relative gradient noise at a model, from one draw of every sample."""
    normalization = Normalization.fit(data.X_train, data.y_train)
    packed = pack(data.X_train, data.y_train, bits=bits, levels=levels)
    q1, q2 = (q.astype(np.float64) for q in packed.values())
    V = normalization.transform(data.X_train).astype(np.float64)
    labels = normalization.transform_labels(data.y_train)
    exact = V * (V @ model - labels)[:, None]
    drawn = (q1 * (q2 @ model - labels)[:, None] + q2 * (q1 @ model - labels)[:, None]) / 2
    return np.sqrt(((drawn - exact) ** 2).sum() / (exact**2).sum())


@pytest.mark.parametrize("data", [PLAIN, SKEWED], ids=["plain", "skewed"])
@pytest.mark.parametrize("levels", LEVEL_CHOICES)
def test_predicted_noise_is_what_is_measured(data, levels):
    model = np.random.default_rng(0).normal(0, 0.5, 21)
    proposal = propose_quantization(
        data.X_train, data.y_train, model=model, bits=[2, 4], levels=[levels]
    )
    for candidate in proposal.candidates:
        noise = measured_noise(data, candidate.bits, levels, model)
        # 2,000 samples of one draw each; the seed is fixed
        assert candidate.noise == pytest.approx(noise, rel=0.1)


def test_the_fewest_bits_that_do_are_proposed():
    proposal = propose_quantization(PLAIN.X_train, PLAIN.y_train, target=0.3)
    assert proposal.reached
    assert proposal.noise <= 0.3
    table = {(c.bits, c.levels): c for c in proposal.candidates}
    assert set(table) == {(b, kind) for b in range(1, 9) for kind in LEVEL_CHOICES}
    assert all(table[proposal.bits - 1, kind].noise > 0.3 for kind in LEVEL_CHOICES)
    # uniform levels go first where they do
    for kind in LEVEL_CHOICES[: LEVEL_CHOICES.index(proposal.levels)]:
        assert table[proposal.bits, kind].noise > 0.3
    for kind in LEVEL_CHOICES:
        noise = [table[b, kind].noise for b in range(1, 9)]
        assert noise == sorted(noise, reverse=True)
    packed = pack(PLAIN.X_train, PLAIN.y_train, bits=proposal.bits, levels=proposal.levels)
    best = table[proposal.bits, proposal.levels]
    assert quantization_variance(packed).mean() == pytest.approx(best.variance, rel=0.1)


def test_skewed_columns_need_fewer_bits_with_levels_of_their_own():
    uniform = propose_quantization(SKEWED.X_train, SKEWED.y_train, levels=["uniform"])
    optimal = propose_quantization(SKEWED.X_train, SKEWED.y_train, levels=["optimal"])
    assert optimal.bits < uniform.bits
    either = propose_quantization(SKEWED.X_train, SKEWED.y_train)
    assert either.bits == optimal.bits
    assert either.levels != "uniform"


def test_a_target_out_of_reach_is_told():
    proposal = propose_quantization(PLAIN.X_train, PLAIN.y_train, target=1e-6, bits=[1, 2, 3])
    assert not proposal.reached
    assert proposal.noise == min(c.noise for c in proposal.candidates)


def test_labels_without_noise_or_signal():
    X = np.tile(np.linspace(-1, 1, 9)[:, None], (8, 1))
    constant = propose_quantization(X, np.zeros(72), bits=[4], levels=["uniform"])
    assert constant.reached
    assert constant.noise == 0  # nothing to learn, and nothing in the way


def test_variance_of_one_precision_out_of_several():
    packed = pack(PLAIN.X_train, PLAIN.y_train, bits=(2, 5))
    V = packed.normalization.transform(PLAIN.X_train)
    for bits in (2, 5):
        exact = sample_variance(V, bits).mean(axis=0)
        estimate = quantization_variance(packed, bits)
        assert estimate.shape == (21,)
        np.testing.assert_allclose(estimate, exact, rtol=0.3, atol=1e-12)
    assert estimate[-1] == 0  # the intercept lies on a level
    with pytest.raises(ArgumentError, match="bits was 3; this data set stores 2, 5"):
        quantization_variance(packed, 3)


@pytest.mark.parametrize("options", [{"sampling": "single"}, {"value_format": "float32"}])
def test_variance_needs_two_draws(options):
    packed = pack(PLAIN.X_train, PLAIN.y_train, **options)
    with pytest.raises(ArgumentError, match="double sampled"):
        quantization_variance(packed)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"target": 0}, "target was 0; allowed are finite numbers above 0"),
        ({"target": float("nan")}, "target was nan"),
        ({"target": "low"}, "target was 'low'"),
        ({"bits": [0]}, "bits was 0"),
        ({"bits": []}, "at least one"),
        ({"levels": ["quantile"]}, "levels was 'quantile'; allowed are 'uniform'"),
        ({"model": np.zeros(3)}, "model had 3 entries; allowed are 21"),
    ],
)
def test_what_a_proposal_refuses(change, message):
    with pytest.raises(ArgumentError, match=message):
        propose_quantization(PLAIN.X_train, PLAIN.y_train, **change)


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(ArgumentError, match="had shapes"):
        gradient_variance(np.zeros((3, 2)), np.zeros(3), np.zeros(3), np.zeros((3, 2)))

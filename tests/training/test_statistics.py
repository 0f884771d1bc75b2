"""Double sampling is unbiased, single sampling is not, and what that does to training.

Every draw comes out of the compiled pack: the same few samples are packed again and again as
samples of one data set, which gives each copy dithers of its own. Seeds are fixed, so a test passes
always or never; the false-alarm rate is the chance that a correct program meets a seed that fails.
"""

from __future__ import annotations

import itertools
from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

import zipml_pynq
from tests.cases import run_build
from zipml_pynq.accelerator.builds import load_build
from zipml_pynq.constants import CONFIG, MODEL_ONE
from zipml_pynq.data.datasets import synthetic_regression
from zipml_pynq.data.grid import sample_variance
from zipml_pynq.data.normalization import Normalization
from zipml_pynq.data.pack import pack
from zipml_pynq.data.packed import PackedDataset
from zipml_pynq.training import baseline, result
from zipml_pynq.training.make_plan import make_plan, step_sizes
from zipml_pynq.training.step import auto_step
from zipml_pynq.training.variance import gradient_variance, quantization_variance

ENGINE = load_build("engine")
COPIES = 12_000
SAMPLES = 5
#: Chance of a false alarm of one test of a mean.
ALARM = 1e-4
MODEL = np.random.default_rng(1).normal(0, 1, 9)
BITS = range(1, 9)
#: The uniform grid, a table of levels for each feature, and one for all.
LEVELS = ("uniform", "own", "one")
#: Both, and a grid that only the wide format has.
BITS_AND_LEVELS = [*itertools.product(BITS, LEVELS), (12, "uniform")]


def tables(bits: int, levels: str) -> NDArray[np.int16] | None:
    """Levels bunched together around 0 or at the ends, as each feature has it; None: uniform."""
    if levels == "uniform":
        return None
    grid = np.linspace(-1, 1, (1 << (bits - 1)) + 1)
    powers = np.random.default_rng(bits).uniform(0.4, 3, (9 if levels == "own" else 1, 1))
    one = 1 << CONFIG.level_fraction_bits
    return np.rint(np.sign(grid) * np.abs(grid) ** powers * one).astype(np.int16)


@cache
def packed_copies(bits: int, levels: str) -> tuple[PackedDataset, NDArray, NDArray]:
    """The samples packed again and again, their values V (samples, n), and their labels."""
    rng = np.random.default_rng(2)
    X = rng.uniform(-1, 1, (SAMPLES, 8))
    y = rng.uniform(-1, 1, SAMPLES)
    normalization = Normalization.fit(X, y)
    packed = pack(
        np.tile(X, (COPIES, 1)),
        np.tile(y, COPIES),
        bits=bits,
        seed=bits,
        normalization=normalization,
        levels=tables(bits, levels),
    )
    V = normalization.transform(X).astype(np.float64)
    return packed, V, packed.labels[:SAMPLES] / MODEL_ONE


@cache
def draws(bits: int, levels: str = "uniform") -> tuple[NDArray, NDArray, NDArray, NDArray]:
    """V (samples, n), labels, and Q1, Q2 (copies, samples, n) out of the compiled pack."""
    packed, V, labels = packed_copies(bits, levels)
    q1, q2 = packed.values()
    shape = (COPIES, SAMPLES, 9)
    return V, labels, q1.reshape(shape).astype(float), q2.reshape(shape).astype(float)


def gradients(q_outer: NDArray, q_inner: NDArray, labels: NDArray) -> NDArray:
    """Gradients (copies, n): mean over the samples of Q (Q' x - y)."""
    return np.einsum("csj,cs->cj", q_outer, q_inner @ MODEL - labels) / SAMPLES


def symmetric(bits: int, levels: str = "uniform") -> NDArray:
    _, labels, q1, q2 = draws(bits, levels)
    return (gradients(q1, q2, labels) + gradients(q2, q1, labels)) / 2


def mean_differs(samples: NDArray, mean: NDArray) -> bool:
    """Hotelling's test, chi-square with this many draws; false alarms at the rate ALARM."""
    covariance = np.cov(samples, rowvar=False)
    error = samples.mean(axis=0) - mean
    statistic = len(samples) * error @ np.linalg.solve(covariance, error)
    return bool(statistic > stats.chi2.isf(ALARM, samples.shape[1]))


@pytest.mark.parametrize(("bits", "levels"), BITS_AND_LEVELS)
def test_double_sampled_gradient_is_unbiased(bits: int, levels: str) -> None:
    V, labels, q1, q2 = draws(bits, levels)
    exact = baseline.full_precision_gradient(V, labels, MODEL)
    assert not mean_differs(symmetric(bits, levels), exact)
    assert not mean_differs(gradients(q1, q2, labels), exact)
    # the test has power: a hundredth of the gradient is noticed where noise allows it
    if bits >= (5 if levels == "uniform" else 6):
        assert mean_differs(symmetric(bits, levels), 1.01 * exact)


@pytest.mark.parametrize(("bits", "levels"), BITS_AND_LEVELS)
def test_variance_of_values_is_as_predicted(bits: int, levels: str) -> None:
    """``(hi - v)(v - lo)``, and :func:`quantization_variance`'s estimate of its mean."""
    packed, V, _ = packed_copies(bits, levels)
    _, _, q1, q2 = draws(bits, levels)
    predicted = sample_variance(V, bits, levels=tables(bits, levels))
    rest = predicted == 0  # the intercept, and what lies on a level
    for q in (q1, q2):
        squares = (q - V) ** 2
        assert (squares[:, rest] == 0).all()
        error = squares.std(axis=0, ddof=1) / np.sqrt(COPIES)
        z = (squares.mean(axis=0) - predicted)[~rest] / error[~rest]
        assert np.abs(z).max() < stats.norm.isf(ALARM / 2 / z.size)
    # two draws of a value differ by twice its variance
    estimate = quantization_variance(packed)
    halves = ((q1 - q2) ** 2 / 2).mean(axis=1)
    np.testing.assert_allclose(estimate, halves.mean(axis=0), atol=1e-12)
    error = halves.std(axis=0, ddof=1) / np.sqrt(COPIES)
    difference = np.abs(estimate - predicted.mean(axis=0))
    assert (difference <= stats.norm.isf(ALARM / 2 / 9) * error + 1e-12).all()


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("levels", LEVELS)
@pytest.mark.parametrize("sampling", ["symmetric", "plain"])
def test_variance_of_gradients_is_as_predicted(bits: int, levels: str, sampling: str) -> None:
    """The expected squared distance to the exact gradient, sample by sample."""
    V, labels, q1, q2 = draws(bits, levels)
    variances = sample_variance(V, bits, levels=tables(bits, levels))
    predicted = gradient_variance(V, labels, MODEL, variances, sampling)

    def gradient(outer: NDArray, inner: NDArray) -> NDArray:
        return outer * (inner @ MODEL - labels)[..., None]

    exact = gradient(V, V)
    drawn = gradient(q1, q2)
    if sampling == "symmetric":
        drawn = (drawn + gradient(q2, q1)) / 2
    distances = ((drawn - exact) ** 2).sum(axis=-1)
    rest = predicted == 0  # a sample whose values all lie on levels
    assert (distances[:, rest] == 0).all()
    error = distances.std(axis=0, ddof=1) / np.sqrt(COPIES)
    z = (distances.mean(axis=0) - predicted)[~rest] / error[~rest]
    assert np.abs(z).max() < stats.norm.isf(ALARM / 2 / SAMPLES)


@pytest.mark.parametrize("bits", BITS)
def test_symmetric_estimator_has_the_smaller_variance(bits: int) -> None:
    """The ratio is 0.53 to 0.58 by bits, bootstrap standard deviation at most 0.003.

    Half, but for what the two halves share. Both bounds are more than 20 of these deviations away:
    the false-alarm rate is far below ALARM.
    """
    _, labels, q1, q2 = draws(bits)
    plain = gradients(q1, q2, labels).var(axis=0).sum()
    assert 0.45 * plain < symmetric(bits).var(axis=0).sum() < 0.65 * plain


@pytest.mark.parametrize("bits", BITS)
def test_single_sampled_gradient_misses_by_the_predicted_bias(bits: int) -> None:
    V, labels, q1, _ = draws(bits)
    exact = baseline.full_precision_gradient(V, labels, MODEL)
    single = gradients(q1, q1, labels)
    bias = sample_variance(V, bits).mean(axis=0) * MODEL
    assert not mean_differs(single, exact + bias)
    if bits <= 4:
        assert mean_differs(single, exact)


@pytest.mark.parametrize("bits", BITS)
def test_engine_steps_along_the_mean_of_these_gradients(bits: int) -> None:
    # one batch, delay 0, step 1: the step is the mean gradient of the batch's draws
    V, labels, q1, q2 = draws(bits)
    copies = 50
    rng = np.random.default_rng(2)
    X, y = rng.uniform(-1, 1, (SAMPLES, 8)), rng.uniform(-1, 1, SAMPLES)
    packed = pack(
        np.tile(X, (copies, 1)),
        np.tile(y, copies),
        bits=bits,
        seed=bits,
        batch=copies * SAMPLES,
        normalization=Normalization.fit(X, y),
    )
    plan = make_plan(packed, epochs=1, step=1.0, delay=0)
    start = result.fixed_model(MODEL, len(MODEL))
    outcome = run_build(ENGINE, packed, plan, start)
    moved = (start.astype(np.int64) - outcome.model) / MODEL_ONE
    np.testing.assert_allclose(moved, symmetric(bits)[:copies].mean(axis=0), atol=2e-6)


# ---- Training -------------------------------------------------------------------------------

EPOCHS = 25


@cache
def synthetic() -> tuple[NDArray, NDArray, NDArray, NDArray]:
    """Raw X, y and normalized values, labels of Synthetic 100."""
    data = synthetic_regression(100)
    normalization = Normalization.fit(data.X_train, data.y_train)
    V = normalization.transform(data.X_train)
    labels = normalization.transform_labels(data.y_train)
    return data.X_train, data.y_train, V, labels


@cache
def float_loss() -> float:
    """Training loss of float32 SGD at its good step."""
    _, _, V, labels = synthetic()
    history = baseline.float_sgd(V, labels, step_sizes(0.5, "inverse", EPOCHS))
    return baseline.loss(V, labels, history[-1])


def trained_loss(bits: int, sampling: str) -> float:
    """Training loss of the engine, everything at its default."""
    X, y, V, labels = synthetic()
    stored = sampling if sampling in ("single", "nearest") else "double"
    packed = pack(X, y, bits=bits, sampling=stored)
    plan = make_plan(packed, sampling=sampling, epochs=EPOCHS)
    outcome = run_build(ENGINE, packed, plan)
    assert outcome.registers["saturations"] == 0
    return baseline.loss(V, labels, outcome.model / MODEL_ONE)


# Training is deterministic at its seeds: a threshold on one run has no false-alarm rate, only a
# distance from the spread over data seeds and draws. Over 16 pairs of them the loss is above
# float32's by (mean, standard deviation, largest, in %): 4 bits drawn once 0.84, 0.14, 1.05;
# 4 bits drawn afresh every epoch 0.17, 0.10, 0.38; 5 bits drawn once 0.11, 0.07, 0.19; single
# sampling at 4 bits 17.0, 1.0, smallest 15.1.


@pytest.mark.parametrize("bits", [5, 6, 7, 8])
def test_double_sampling_reaches_the_float32_loss(bits: int) -> None:
    assert trained_loss(bits, "symmetric") < 1.01 * float_loss()


def four_bits(seed: int) -> tuple[float, float]:
    """Loss above float32's, as a share of it, drawn once and afresh, through the driver."""
    data = synthetic_regression(100, n_test=1, seed=seed)
    packed = pack(data.X_train, data.y_train, bits=4, seed=seed)
    V = packed.normalization.transform(data.X_train)
    labels = packed.normalization.transform_labels(data.y_train)
    history = baseline.float_sgd(V, labels, step_sizes(0.5, "inverse", EPOCHS))
    exact = baseline.loss(V, labels, history[-1])
    with zipml_pynq.load_overlay("emulated") as (_, driver):
        once = driver.train(packed, make_plan(packed, epochs=EPOCHS))
        fresh = driver.train(
            packed,
            make_plan(packed, epochs=EPOCHS, fresh=True),
            redraw=lambda epoch: packed.redraw(data.X_train, epoch),
        )
    return tuple(baseline.loss(V, labels, r.model) / exact - 1 for r in (once, fresh))


def test_four_bits_reach_the_float32_loss() -> None:
    """Over 12 pairs of data seed and draw: each within 1 % with fresh draws in every epoch.

    Drawn once, the mean's one-sided confidence interval at ALARM (Student) ends below 1.5 %: with
    the mean and deviation above, it ends near 1.0 %.
    """
    once, fresh = np.array([four_bits(seed) for seed in range(12)]).T
    assert fresh.max() < 0.01
    error = once.std(ddof=1) / np.sqrt(len(once))
    assert once.mean() + stats.t.isf(ALARM, len(once) - 1) * error < 0.015


@pytest.mark.parametrize(("bits", "at_least"), [(2, 2.0), (3, 2.0), (4, 1.05)])
def test_single_sampling_does_not(bits: int, at_least: float) -> None:
    single = trained_loss(bits, "single")
    assert single > at_least * float_loss()
    assert single > 1.02 * trained_loss(bits, "symmetric")


@pytest.mark.parametrize(("bits", "at_most"), [(1, 8.0), (2, 1.4), (3, 1.08)])
def test_few_bits_come_as_far_as_their_noise_allows(bits: int, at_most: float) -> None:
    assert trained_loss(bits, "symmetric") < at_most * float_loss()


def test_step_of_full_precision_comes_out_of_the_same_formula() -> None:
    X, y, V, labels = synthetic()
    packed = pack(X, y, value_format="float32")
    factors = step_sizes(1.0, "inverse", EPOCHS)
    step = auto_step(packed, bits=32, sampling="single", batch=16, delay=0, factors=factors)
    history = baseline.float_sgd(V, labels, step * factors)
    assert baseline.loss(V, labels, history[-1]) < 1.01 * float_loss()
    outcome = run_build(
        ENGINE,
        packed,
        make_plan(packed, epochs=EPOCHS, step=step, delay=0),
    )
    assert baseline.loss(V, labels, outcome.model / MODEL_ONE) < 1.01 * float_loss()
    assert outcome.registers["saturations"] == 0

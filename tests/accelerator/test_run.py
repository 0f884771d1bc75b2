"""Training through the real pynq: the reference's bits, progress, results that tell of trouble."""

import warnings
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from tests.accelerator.runs import ENGINES, board_for, count_starts, limited
from tests.cases import CASES, VECTOR_PAGES, check_same, memory_for, random_case
from zipml_pynq.accelerator.run import Training
from zipml_pynq.accelerator.segments import Segment, streamed_layout
from zipml_pynq.data.pack import pack
from zipml_pynq.devices.memory import PAGE
from zipml_pynq.errors import ArgumentError, DivergenceError, KernelStatusError, ZipmlWarning
from zipml_pynq.training import reference
from zipml_pynq.training.make_plan import make_plan
from zipml_pynq.training.plan import Plan


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("word_bits", [64, 128, 512])
@pytest.mark.parametrize("options", CASES, ids=str)
def test_training_gives_the_references_bits(board, engine, word_bits, options):
    case = random_case(7, word_bits=word_bits, l2=0.1, samples=75, **options)
    driver = board_for(board, case, engine=engine).driver
    check_same(driver.train(case.packed, case.plan, model=case.model), case)


@pytest.mark.parametrize("engine", ENGINES)
def test_only_the_streamed_planes_go_to_the_device(board, engine):
    case = random_case(1, bits=4, stored_bits=(2, 4, 8), samples=200, blocks=5)
    layout = case.packed.layout
    assert layout.stored_planes == 13
    device_layout = streamed_layout(layout, case.plan)
    assert device_layout.stored_planes == 5
    # the stored planes would not fit
    memory = memory_for(case, 1, layout.blocks) + PAGE
    assert layout.blocks * layout.block_stride * 8 > memory - VECTOR_PAGES * PAGE
    driver = board_for(board, case, engine=engine, memory_bytes=memory).driver
    check_same(driver.train(case.packed, case.plan, model=case.model), case)


def test_a_double_sampled_data_set_trained_with_single_sampling(board):
    case = random_case(2, bits=3)
    layout = case.packed.layout
    plan = replace(case.plan, sampling="single")
    assert streamed_layout(layout, plan).dither_planes() == 1
    case = replace(case, plan=plan)
    driver = board_for(board, case).driver
    check_same(driver.train(case.packed, case.plan, model=case.model), case)


def test_a_plan_is_made_from_options(board):
    case = random_case(3)
    driver = board_for(board, case).driver
    result = driver.train(case.packed, epochs=3, step=0.02, bits=4, sampling="plain", delay=2)
    assert result.history_fixed.shape == (3, case.packed.layout.features)
    with pytest.raises(ArgumentError, match=r"both a plan and epochs"):
        driver.train(case.packed, case.plan, epochs=3)


def test_start_model_in_normalized_units(board):
    case = random_case(4)
    model = case.model / 2.0**24
    driver = board_for(board, case).driver
    check_same(driver.train(case.packed, case.plan, model=model), case)


def test_results_are_copies(board):
    case = random_case(5)
    loaded = board_for(board, case)
    result = loaded.driver.train(case.packed, case.plan)
    before = result.model_fixed.copy(), result.history_fixed.copy()
    loaded.overlay.device.memory[:] = 0
    np.testing.assert_array_equal(result.model_fixed, before[0])
    np.testing.assert_array_equal(result.history_fixed, before[1])
    assert type(result.model_fixed) is type(result.history_fixed) is np.ndarray


def test_non_coherent_memory(board):
    case = random_case(6, delay=2, epochs=3)
    for memory in (1 << 20, memory_for(case, 2, 2)):
        driver = board_for(board, case, coherent=False, memory_bytes=memory).driver
        check_same(driver.train(case.packed, case.plan, model=case.model), case, blocks=2)


def test_a_device_trains_again_and_again(board):
    loaded = board(word_bits=64)
    for seed in range(3):
        case = random_case(seed, features=30 + 50 * seed, bits=seed + 1)
        check_same(loaded.driver.train(case.packed, case.plan, model=case.model), case)


def test_many_epochs_come_in_groups(board, monkeypatch):
    case = random_case(8, epochs=7)
    row = streamed_layout(case.packed.layout, case.plan)
    history = 3 * 4 * row.chunks * row.lanes
    monkeypatch.setattr("zipml_pynq.accelerator.run.HISTORY_BYTES", history)
    driver = board_for(board, case).driver
    starts = count_starts(driver, monkeypatch)
    result = driver.train(case.packed, case.plan, model=case.model)
    check_same(result, case, blocks=row.blocks)
    assert len(starts) == 3


def test_progress_is_told_every_epoch(board):
    case = random_case(14, epochs=4)
    driver = board_for(board, case).driver
    told = []
    result = driver.train(
        case.packed, case.plan, model=case.model, progress=lambda *a: told.append(a)
    )
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]
    check_same(result, case, blocks=1)
    bar = SimpleNamespace(n=0)
    bar.update = lambda n: setattr(bar, "n", bar.n + n)
    driver.train(case.packed, case.plan, progress=bar)
    assert bar.n == 4


@pytest.mark.parametrize("capacity", [100, 6])
def test_redraw_trains_every_epoch_on_other_draws(board, monkeypatch, capacity):
    case = random_case(15, samples=60, batch=2, blocks=10, epochs=4, delay=3, l2=0.1)
    draws = {0: case.packed} | {
        epoch: replace(
            case.packed,
            planes=random_case(100 + epoch, samples=60, batch=2, blocks=10).packed.planes,
        )
        for epoch in (1, 2, 3)
    }
    asked = []

    def redraw(epoch):
        asked.append(epoch)
        # a new object every time, as fresh packing gives
        return replace(draws[epoch], labels=draws[epoch].labels.copy())

    monkeypatch.setattr(Training, "_allocate_slot", limited(capacity))
    driver = board_for(board, case).driver
    result = driver.train(case.packed, case.plan, model=case.model, redraw=redraw)
    assert asked == [1, 2, 3]
    model = case.model
    for epoch in range(4):
        plan = replace(
            case.plan,
            epochs=1,
            steps=case.plan.steps[epoch : epoch + 1],
            negative_steps=case.plan.negative_steps[epoch : epoch + 1],
            gradient_shifts=case.plan.gradient_shifts[epoch : epoch + 1],
            decays=case.plan.decays[epoch : epoch + 1],
        )
        model = reference.train(draws[epoch], plan, model).model_fixed
        np.testing.assert_array_equal(result.history_fixed[epoch], model)


def test_redraw_of_another_layout_is_refused(board):
    case = random_case(16, epochs=3)
    driver = board_for(board, case).driver
    other = random_case(16, samples=41).packed
    with pytest.raises(ArgumentError, match=r"redraw\(1\) returned the layout"):
        driver.train(case.packed, case.plan, redraw=lambda epoch: other)


def test_a_refused_register_is_named(board, monkeypatch):
    case = random_case(30, samples=30, batch=4, blocks=1)
    driver = board_for(board, case).driver
    plan = replace(case.plan, delay=0, batch=3)  # what no plan that is checked would say
    monkeypatch.setattr(Plan, "check", lambda self, layout: None)
    whole = [Segment(0, 1, 30, 0, 0, hold=False)]
    monkeypatch.setattr("zipml_pynq.accelerator.run.segments", lambda *_: whole)
    with pytest.raises(KernelStatusError, match=r"block_samples = \d+.*multiple of the batch"):
        driver.train(case.packed, plan)


def test_divergence_is_an_error_with_the_result(board):
    case = random_case(31, step=15.0, epochs=4, delay=0)
    driver = board_for(board, case).driver
    with pytest.raises(DivergenceError, match=r"diverged: \d+ results were clamped") as error:
        driver.train(case.packed, case.plan, model=case.model)
    check_same(error.value.result, case)
    with pytest.warns(ZipmlWarning, match="step is too large"):
        result = driver.train(case.packed, case.plan, model=case.model, allow_divergence=True)
    check_same(result, case)


def test_a_plan_for_another_data_set_is_refused(board):
    """It would train on the wrong planes, or never end."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 12))
    y = X[:, 0]
    driver = board().driver
    double = pack(X, y, bits=(4, 5), batch=16)
    odd = pack(X, y, bits=5, batch=7)
    nearest = pack(X, y, bits=5, sampling="nearest", batch=16)
    for other, plan, message in (
        (odd, make_plan(double, bits=5), "batch was 16; allowed are divisors of"),
        (nearest, make_plan(double, bits=5), "sampling was 'symmetric'"),
        (double, make_plan(nearest), "sampling was 'nearest'"),
        (odd, make_plan(double, bits=4), "bits was 4"),
    ):
        with pytest.raises(ArgumentError, match=message):
            driver.train(other, plan)
        with pytest.raises(ArgumentError, match=message):
            reference.train(other, plan)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"packed": None}, "packed was None"),
        ({"redraw": 5}, "redraw was 5"),
        ({"progress": 5}, "progress was 5"),
        ({"l2": None}, "l2 was None"),
        ({"l2": "a"}, "l2 was 'a'"),
        ({"l2": float("nan")}, "l2 was nan"),
    ],
)
def test_wrong_arguments_are_named(board, arguments, message):
    packed = pack(np.eye(40, 3), np.arange(40.0), bits=4)
    with pytest.raises(ArgumentError, match=message):
        board().driver.train(**{"packed": packed, "epochs": 1, **arguments})


def test_a_loss_that_grew_is_told_without_any_clamping(board):
    rng = np.random.default_rng(1)
    X = rng.uniform(-1, 1, size=(3000, 1))
    packed = pack(X, X[:, 0] + 0.1 * rng.normal(size=3000), bits=8, batch=16)
    driver = board().driver
    with pytest.raises(DivergenceError, match="the loss ended at") as error:
        driver.train(packed, make_plan(packed, step=0.3, schedule="constant", delay=7, epochs=1))
    result = error.value.result
    assert result.saturations == 0
    # a good start is no reason for an alarm
    good = driver.train(packed, epochs=20)
    driver.train(packed, epochs=5, model=good.model)


def test_a_run_that_fits_its_draw_and_runs_away_is_told(board):
    """The product of the two errors, on the draw trained on, is negative here: scatter tells."""
    rng = np.random.default_rng(2)
    X = rng.normal(size=(3000, 100))
    packed = pack(X, X @ rng.normal(size=100), bits=1, batch=128)
    with pytest.raises(DivergenceError, match="scatter"):
        board(memory_bytes=1 << 23).driver.train(
            packed, step=1.0, schedule="constant", delay=0, epochs=5
        )


@pytest.mark.parametrize("what", ["normalization", "levels", "labels"])
def test_redraw_of_other_data_is_refused(board, what):
    rng = np.random.default_rng(3)
    X = rng.normal(size=(200, 5))
    y = X[:, 0]
    one_other = np.where(y == np.median(X[1:, 0]), 0.0, y)  # in the same range
    table = np.linspace(-1, 1, 9)[None, :]
    packed = pack(X, y, bits=4, levels=table)
    other = {
        "normalization": lambda: pack(2 * X, y, bits=4, levels=table),
        "levels": lambda: pack(X, y, bits=4, levels=table**3),
        "labels": lambda: pack(X, one_other, bits=4, levels=table),
    }[what]()
    with pytest.raises(ArgumentError, match="another normalization, other levels or"):
        board(value_format="levels").driver.train(packed, epochs=2, redraw=lambda epoch: other)


def test_a_run_that_comes_back_is_a_warning(board):
    case = random_case(31, step=0.5, epochs=12, samples=400, delay=0)
    driver = board_for(board, case).driver
    with pytest.warns(ZipmlWarning, match="results were clamped"):
        result = driver.train(case.packed, case.plan, model=case.model)
    check_same(result, case)
    assert np.abs(result.history[0]).max() > 8 > np.abs(result.model).max()


def test_clamped_residuals_are_a_warning(board):
    # labels up to the limit of the format: residuals are clamped, the model hardly moves
    case = random_case(32, step=1e-4, label_scale=200.0, samples=200)
    driver = board_for(board, case).driver
    with pytest.warns(ZipmlWarning, match="results were clamped"):
        check_same(driver.train(case.packed, case.plan, model=case.model), case)


def test_a_healthy_run_warns_of_nothing(board):
    case = random_case(33)
    driver = board_for(board, case).driver
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        driver.train(case.packed, case.plan, model=case.model)

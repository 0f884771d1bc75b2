"""The engine called directly: the driver's bits, counters and refusals, without pynq."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings

from tests.accelerator.runs import board_for
from tests.cases import CASES, check_same, random_case
from tests.strategies import any_case
from zipml_pynq.accelerator.host import HostDriver
from zipml_pynq.data.pack import pack
from zipml_pynq.errors import ArgumentError, DivergenceError, ZipmlWarning
from zipml_pynq.training.make_plan import make_plan

COUNTERS = ("words", "saturations", "outside", "clipped", "refetched", "bytes_streamed")


def host_for(case) -> HostDriver:
    layout = case.packed.layout
    return HostDriver(layout.word_bits, layout.value_format)


def assert_same(a, b) -> None:
    assert np.array_equal(a.model_fixed, b.model_fixed)
    assert np.array_equal(a.history_fixed, b.history_fixed)
    for name in COUNTERS:
        assert getattr(a, name) == getattr(b, name), name


@pytest.mark.filterwarnings("ignore::zipml_pynq.errors.ZipmlWarning")
@pytest.mark.parametrize("word_bits", [64, 512])
@pytest.mark.parametrize("options", CASES, ids=str)
def test_the_drivers_bits(board, word_bits, options):
    case = random_case(7, word_bits=word_bits, l2=0.1, samples=75, epochs=3, **options)
    expected = board_for(board, case).driver.train(case.packed, case.plan, model=case.model)
    host = host_for(case)
    result = host.train(case.packed, case.plan, model=case.model)
    assert_same(result, expected)
    check_same(result, case)
    # an epoch a call, in several threads, and from a model in normalized units
    told = []
    threaded = replace(host, threads=2)
    one_by_one = threaded.train(
        case.packed, case.plan, model=case.model / 2.0**24, progress=lambda *a: told.append(a)
    )
    assert_same(one_by_one, expected)
    assert told == [(1, 3), (2, 3), (3, 3)]


@pytest.mark.filterwarnings("ignore::zipml_pynq.errors.ZipmlWarning")
@given(any_case())
@settings(max_examples=60, deadline=None)
def test_any_case_has_the_references_bits(case):
    result = host_for(case).train(
        case.packed, case.plan, model=case.model, judge=False, allow_divergence=True
    )
    check_same(result, case, blocks=1)


def test_orders_of_blocks_draws_and_stops(board):
    """Everything that makes an epoch a call of its own."""
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(200, 9)), rng.normal(size=200)
    packed = pack(X, y, bits=(2, 4), block_samples=32, sample_weight=rng.uniform(0, 2, 200))
    order = rng.permutation(200)
    again = pack(X[order], y[order], bits=(2, 4), block_samples=32, draw=1)
    again = replace(
        again,
        normalization=packed.normalization,
        weights=np.append(packed.weights[order], packed.weights[200:]),
    )
    driver, host = board(word_bits=64).driver, HostDriver(64)
    for shuffle in (False, True):
        plan = make_plan(packed, bits=2, epochs=6, step=0.02, shuffle=shuffle, seed=3)
        for options in (
            {},
            {"redraw": lambda epoch: (packed, again)[epoch % 2]},
            {"until": lambda model: model[0] != 0},
        ):
            found = host.train(packed, plan, **options)
            assert_same(found, driver.train(packed, plan, **options))
            assert len(found.history) == (1 if "until" in options else 6)
    # parts of a plan, one after the other
    first = host.train(packed, plan.part(0, 4))
    last = host.train(packed, plan.part(4, 6), model=first.model_fixed)
    assert np.array_equal(last.model_fixed, host.train(packed, plan).model_fixed)


def test_results_are_copies_and_plans_are_made():
    case = random_case(5)
    host = host_for(case)
    start = case.model.copy()
    first = host.train(case.packed, case.plan, model=start)
    assert np.array_equal(start, case.model)
    assert_same(host.train(case.packed, case.plan, model=start), first)
    result = host.train(case.packed, epochs=3, step=0.02, bits=4, sampling="plain", delay=2)
    assert result.history_fixed.shape == (3, case.packed.layout.features)


def test_judgement():
    rng = np.random.default_rng(2)
    X = rng.normal(size=(3000, 100))
    packed = pack(X, X @ rng.normal(size=100), bits=1, batch=128)
    options = {"step": 1.0, "schedule": "constant", "delay": 0, "epochs": 5}
    with pytest.raises(DivergenceError, match="scatter"):
        HostDriver(64).train(packed, **options)
    with pytest.warns(ZipmlWarning):
        HostDriver(64).train(packed, **options, allow_divergence=True)
    assert HostDriver(64).train(packed, **options, judge=False).saturations > 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda h, p: HostDriver(65), "65"),
        (lambda h, p: HostDriver(64, "triangles"), "triangles"),
        (lambda h, p: h.train(3), "packed was 3; allowed is a PackedDataset"),
        (lambda h, p: h.train(p, redraw=3), "redraw was 3"),
        (lambda h, p: h.train(p, until=3), "until was 3"),
        (lambda h, p: h.train(p, progress=3), "progress was 3"),
        (lambda h, p: h.train(p, make_plan(p), epochs=3), "both a plan and epochs"),
        (lambda h, p: HostDriver(128).train(p), "the data set is packed as bitplanes in words"),
        (lambda h, p: HostDriver(64, "levels").train(p), "kernel takes levels in 64"),
    ],
)
def test_refusals(call, message):
    X = np.random.default_rng(0).normal(size=(40, 3))
    with pytest.raises(ArgumentError, match=message):
        call(HostDriver(64), pack(X, X[:, 0]))


def test_neither_pynq_nor_a_device_is_needed():
    code = (
        "import sys; sys.modules['pynq'] = None\n"
        "import numpy as np\n"
        "from zipml_pynq.accelerator.host import HostDriver\n"
        "from zipml_pynq.data.pack import pack\n"
        "X = np.random.default_rng(0).normal(size=(64, 3))\n"
        "print(len(HostDriver(64).train(pack(X, X[:, 0]), epochs=2).history))\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "2\n"

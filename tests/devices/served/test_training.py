"""Training over the wire: the real pynq client, the real gRPC, on loopback."""
# ruff: noqa: E402 (what pynq 3.1 lacks is imported after the check for it)

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("pynq.remote.gpio_pb2", reason="pynq 3.1 has a part of PYNQ.remote only")

from pynq.remote.selftest.context import Context
from pynq.remote.selftest.results import Results
from pynq.remote.selftest.steps import STEPS

from tests.cases import CASES, check_same, check_side_by_side, memory_for, random_case
from tests.devices.served.clients import only_board, overlay_path
from zipml_pynq.accelerator import interface
from zipml_pynq.accelerator.driver import SgdDriver
from zipml_pynq.data.datasets import synthetic_regression
from zipml_pynq.devices.overlay import load_overlay
from zipml_pynq.learn.classifier import ZipMLClassifier

# pynq's own, on pydantic 2
pytestmark = pytest.mark.filterwarnings("ignore:The `:DeprecationWarning:pynq")


@pytest.mark.parametrize("word_bits", [64, 128, 512])
def test_training_over_the_wire_gives_the_references_bits(serve, connect, word_bits):
    """All on one connection, each format's overlay loaded over the one before."""
    device = connect(serve().port)
    for options in CASES:
        case = random_case(7, word_bits=word_bits, l2=0.1, samples=75, **options)
        path = overlay_path(word_bits, case.packed.layout.value_format)
        overlay, driver = load_overlay(path, device=device)
        assert type(driver) is SgdDriver
        assert driver is overlay.zipml_sgd_0
        check_same(driver.train(case.packed, case.plan, model=case.model), case)


@pytest.mark.parametrize("value_format", interface.VLNV)
def test_segments_on_a_small_board(remote, value_format):
    case = random_case(
        8, samples=150, batch=2, blocks=8, delay=3, epochs=3, value_format=value_format
    )
    memory = memory_for(case, slots=2, capacity=3)
    (_, driver), server = remote(value_format=value_format, memory_bytes=memory)
    epochs = []
    result = driver.train(
        case.packed, case.plan, model=case.model, progress=lambda *at: epochs.append(at)
    )
    check_same(result, case, blocks=3)
    assert epochs == [(1, 3), (2, 3), (3, 3)]
    assert result.words > 0
    assert only_board(server).device.free_bytes == memory


def test_non_coherent_memory(remote):
    case = random_case(9)
    (_, driver), _ = remote(coherent=False)
    check_same(driver.train(case.packed, case.plan, model=case.model), case)


def test_clients_do_not_disturb_each_other(serve, connect):
    server = serve()
    cases = [random_case(10, epochs=20), random_case(11, epochs=20, value_format="float32")]
    drivers = [
        load_overlay(
            overlay_path(64, case.packed.layout.value_format), device=connect(server.port)
        ).driver
        for case in cases
    ]
    assert len(server.boards) == 2
    check_side_by_side(drivers, cases, times=3)


def test_pynqs_own_selftest(serve, connect):
    """All of it but what needs an AXI GPIO or RF converters in the overlay."""
    port = serve().port
    connect(port).client.channel.close()  # the device that pynq takes for active is of no use here
    context = Context("127.0.0.1", port, overlay_path())
    results = Results()
    for _, module in STEPS[:-2]:
        module.run(context, results)
    context.dev.client.channel.close()
    assert (results.failed, results.passed) == (0, 10)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_ten_classes_on_four_kernels_over_the_wire(serve, connect):
    """One connection, one overlay; the bits of one after the other in process."""
    data = synthetic_regression(12, 600, 1)
    labels = np.digitize(data.y_train, np.quantile(data.y_train, np.arange(1, 10) / 10))
    server = serve()
    loaded = load_overlay("served", device=connect(server.port), kernels=4)
    assert only_board(server).device.kernels == len(loaded.drivers) == 4
    check_side_by_side(loaded.drivers, [random_case(60 + i) for i in range(4)])
    options = {"random_state": 0, "levels": "uniform", "max_iter": 4, "tol": None}
    fits = [
        ZipMLClassifier(device=device, **options).fit(data.X_train, labels)
        for device in ("host", loaded)
    ]
    assert np.array_equal(fits[0].model_, fits[1].model_)
    assert np.array_equal(fits[0].loss_curve_, fits[1].loss_curve_)
    # each kernel's registers have been those of some model
    for registers in only_board(server).device.register_files:
        assert registers.value("samples") == len(labels)

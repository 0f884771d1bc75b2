"""Joules of a training: pynq's recorder on stand-ins for a board's sensors."""

from __future__ import annotations

import time
from types import SimpleNamespace

import numpy as np
import pynq
import pytest

from tests.accelerator.runs import board_for
from tests.cases import check_same, random_case
from zipml_pynq.accelerator import power

CASE = random_case(41)


class Sensor:
    """As pynq's, with readings that are told."""

    name, parents = "12V_power", ()

    def __init__(self, watts):
        self.watts = iter(watts)

    def get_value(self, parents=None):
        return next(self.watts)


def forever(watts):
    while True:
        yield watts


def test_energy_is_the_integral_of_power():
    times = np.array([0.0, 1.0, 2.0, 5.0])
    assert power.energy(times, np.array([4.0, 6.0, 6.0, 99.0]), 3.0) == 5 + 6 + 6
    assert power.energy(times[:1], np.array([7.0]), 0.5) == 3.5


def test_a_training_on_a_board_with_a_sensor(board):
    pytest.importorskip("pandas")
    driver = board_for(board, CASE).driver
    assert driver.power is None
    plain = driver.train(CASE.packed, CASE.plan, model=CASE.model)
    assert plain.seconds is plain.joules is None  # nothing is invented in emulation
    driver.power = power.PowerMeter(Sensor(forever(8.0)))
    driver.device.clock_mhz = plain.modelled_cycles / 0.2 / 1e6  # so that it lasts 0.2 s
    began = time.monotonic()
    result = driver.train(CASE.packed, CASE.plan, model=CASE.model)
    check_same(result, CASE)
    assert 0.2 <= result.seconds <= time.monotonic() - began
    assert result.joules == pytest.approx(8.0 * result.seconds, rel=1e-3)


@pytest.mark.parametrize(
    ("rails", "expected"),
    [
        ({"12V": "board", "VCCINT": "part"}, "board"),
        ({"power1": "module", "1V2": "part"}, "module"),
        ({"12V": None, "power1": "module"}, "module"),
        ({"VCCINT": "part"}, None),
        ({}, None),
    ],
)
def test_the_whole_boards_sensor_is_taken_or_none(rails, expected, monkeypatch):
    found = {name: SimpleNamespace(power=sensor) for name, sensor in rails.items()}
    monkeypatch.setattr(pynq, "get_rails", lambda: found, raising=False)
    assert power.sensor() == expected


def test_without_sensors_there_is_no_meter():
    """pynq's own search, on a machine without libsensors or without such rails."""
    assert power.sensor() is None

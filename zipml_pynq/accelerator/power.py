"""Energy of a training, from a board's sensors through pynq's ``DataRecorder``.

A board that has a sensor of its whole power gives joules; one that has none, and emulation, gives
nothing. Sensors are read a hundred times a second, so runs much shorter than that see one reading.
"""

from __future__ import annotations

import time
import warnings
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from zipml_pynq.accelerator.needs_pynq import pynq
from zipml_pynq.training.result import TrainResult

#: Rails whose power is the whole board's or module's, by pynq's names: the ZCU104's supply, and the
#: sensor (INA260) of a Kria module.
RAILS = ("12V", "power1")
#: Seconds between two readings.
INTERVAL = 0.01


def sensor() -> Any:
    """The sensor of the whole power of the board that Python runs on; None if it has none."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pynq warns where there is no libsensors
        try:
            rails = pynq.get_rails()
        except (AttributeError, OSError, RuntimeError):
            return None
    found = [rails[name].power for name in RAILS if name in rails and rails[name].power]
    return found[0] if found else None


@dataclass(frozen=True)
class PowerMeter:
    """Measures what a training takes.

    Parameters
    ----------
    sensor : pynq.pmbus.Sensor
        Of power, in watts.
    """

    sensor: Any

    def measured(self, train: Any) -> TrainResult:
        """The result of ``train()``, with its seconds and joules."""
        recorder = pynq.DataRecorder(self.sensor)
        began = time.time()
        with recorder.record(INTERVAL):
            result = train()
            seconds = time.time() - began
        frame = recorder.frame
        # local times without a zone, as pandas' now() gives
        watts = frame[self.sensor.name].to_numpy(float)
        if not watts.size:
            return replace(result, seconds=seconds)
        times = np.array([when.timestamp() for when in frame.index.tz_localize("UTC")])
        times -= times[0]
        return replace(result, seconds=seconds, joules=energy(times, watts, seconds))


def energy(times: Any, watts: Any, seconds: float) -> float:
    """Joules of ``seconds``, from readings at ``times`` (from the first one on) in watts.

    Between readings power changes linearly; after the last one it stays.
    """
    inside = times <= seconds
    times, watts = times[inside], watts[inside]
    between = np.diff(times) * (watts[1:] + watts[:-1]) / 2
    return float(between.sum() + (seconds - times[-1]) * watts[-1])

"""Samples that stay on a device from one training to the next."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.cases import memory_for, random_case
from zipml_pynq.accelerator.held import HoldingDriver
from zipml_pynq.devices.emulated import EmulatedDevice
from zipml_pynq.devices.overlay import load_overlay
from zipml_pynq.errors import ArgumentError, KernelTimeoutError


def holding(**options):
    device = EmulatedDevice(**options)
    return HoldingDriver(load_overlay(device=device).driver), device


@pytest.mark.parametrize("value_format", ["bitplanes", "levels", "refetch"])
def test_trainings_on_held_samples_have_the_drivers_bits(value_format, monkeypatch):
    case = random_case(3, epochs=3, value_format=value_format)
    held, device = holding(value_format=value_format, memory_bytes=1 << 20)
    plans = [case.plan, case.plan.part(1, 2), replace(case.plan, steps=case.plan.steps // 2)]
    asked = []
    allocate = held.driver.allocate
    monkeypatch.setattr(
        held.driver, "allocate", lambda *a, **k: asked.append(a) or allocate(*a, **k)
    )
    found = [held.train(case.packed, plan, model=case.model) for plan in plans]
    buffers = len(asked)
    held.free()
    assert device.free_bytes == device.memory_bytes
    for plan, result in zip(plans, found, strict=True):
        own = held.driver.train(case.packed, plan, model=case.model, judge=False)
        assert np.array_equal(result.history_fixed, own.history_fixed)
        assert (result.words, result.refetched) == (own.words, own.refetched)
    # what one training has, three have
    assert len(asked) == buffers + 3 * buffers


def test_what_was_not_used_goes_where_memory_is_short():
    cases = [random_case(seed, samples=150, batch=2, blocks=8, epochs=2) for seed in (4, 5, 6)]
    memory = memory_for(cases[0], slots=1, capacity=cases[0].packed.layout.blocks) * 5 // 2
    held, device = holding(memory_bytes=memory // 4096 * 4096)
    for _ in range(2):
        for case in cases:
            result = held.train(case.packed, case.plan, model=case.model)
            own = held.driver.capability  # asked of the same device in between
            assert own.word_bits == 64
            other, _ = holding()
            expected = other.driver.train(case.packed, case.plan, model=case.model, judge=False)
            assert np.array_equal(result.history_fixed, expected.history_fixed)
    assert 0 < device.free_bytes < device.memory_bytes
    held.free()
    assert device.free_bytes == device.memory_bytes


def test_nothing_is_held_after_an_error():
    case = random_case(7)
    held, device = holding(memory_bytes=1 << 20)
    held.train(case.packed, case.plan)
    device.inject_hang = True
    held._kept[next(iter(held._kept))].training.timeout = 0.2
    with pytest.raises(KernelTimeoutError), pytest.warns(match="the kernel still runs"):
        held.train(case.packed, case.plan)
    assert not held._kept
    with pytest.raises(ArgumentError, match="judge was True"):
        held.train(case.packed, case.plan, judge=True)

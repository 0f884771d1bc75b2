"""Data sets that stay in a device's memory from one training to the next.

For trainings that are short, and come again and again to the same samples: rounds of a distributed
one. Over a wire, sending the samples would take longer than training on them.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

from numpy.typing import ArrayLike

from zipml_pynq.accelerator.buffers import forget_buffers
from zipml_pynq.accelerator.capability import Capability
from zipml_pynq.accelerator.contract import checked
from zipml_pynq.accelerator.driver import SgdDriver
from zipml_pynq.accelerator.run import Training
from zipml_pynq.data.packed import PackedDataset
from zipml_pynq.errors import ArgumentError, DeviceConnectionError, OutOfDeviceMemoryError
from zipml_pynq.training.plan import Plan
from zipml_pynq.training.result import TrainResult, fixed_model

#: Data sets that are held at most.
MOST = 32


class _Kept:
    """A training with its buffers, and the samples in them, which must not go before."""

    def __init__(self, driver: SgdDriver, packed: PackedDataset, plan: Plan) -> None:
        self.packed = packed
        self.buffers: list[Any] = []
        try:
            self.training = Training(driver, packed, plan, None, None, None, self.buffers)
        except BaseException:
            driver.release(self.buffers)
            raise

    @property
    def whole(self) -> bool:
        """Whether all samples are on the device."""
        return len(self.training.segments) == 1


class HoldingDriver:
    """Trains as a driver does, and leaves samples on its device; those longest not used go first.

    Parameters
    ----------
    driver : SgdDriver
    """

    def __init__(self, driver: SgdDriver) -> None:
        self.driver = driver
        self._kept: dict[Hashable, _Kept] = {}

    @property
    def capability(self) -> Capability:
        """Of the kernel."""
        return self.driver.capability

    def train(
        self,
        packed: PackedDataset,
        plan: Plan,
        *,
        model: ArrayLike | None = None,
        judge: bool = False,
    ) -> TrainResult:
        """What ``driver.train(packed, plan, model=model, judge=False)`` does, to the bit.

        Raises
        ------
        ArgumentError, DeviceError
            As there. After an error of the device nothing is held any more.
        """
        if judge:
            raise ArgumentError("judge was True; allowed is False: what is held is a part of more")
        driver = self.driver
        nothing = dict.fromkeys(("progress", "redraw", "until"))
        plan = checked(packed, plan, driver.capability, **nothing, options={})
        start = fixed_model(model, packed.layout.features)
        driver.require_idle()
        try:
            kept = self._of(packed, plan)
            kept.training.take(plan)
            if driver.power is None:
                return kept.training.run(start)
            return driver.power.measured(lambda: kept.training.run(start))
        except DeviceConnectionError:
            for one in self._kept.values():
                forget_buffers(one.buffers)
            self._kept.clear()
            raise
        except BaseException:
            self.free()
            raise

    def free(self) -> None:
        """Give all device memory back."""
        while self._kept:
            self._free_oldest()

    def _free_oldest(self) -> None:
        self.driver.release(self._kept.pop(next(iter(self._kept))).buffers)

    def _of(self, packed: PackedDataset, plan: Plan) -> _Kept:
        """The training on these samples, the last of those that are held."""
        key = _key(packed, plan)
        kept = self._kept.pop(key, None)
        while kept is None:
            if len(self._kept) >= MOST:
                self._free_oldest()
            try:
                kept = _Kept(self.driver, packed, plan)
            except (OutOfDeviceMemoryError, ArgumentError):
                # others' samples may be what leaves no room, or none for all blocks at a time
                if not self._kept:
                    raise
                self._free_oldest()
                continue
            if not kept.whole and self._kept:
                self.driver.release(kept.buffers)
                kept = None
                self._free_oldest()
        self._kept[key] = kept
        return kept


def _key(packed: PackedDataset, plan: Plan) -> Hashable:
    """What two trainings have in common that use the same buffers.

    Arrays are told by where they lie: what is held keeps them there.
    """
    arrays = (packed.planes, packed.labels, packed.weights, packed.full, packed.levels)
    return (
        *(None if array is None else (array.ctypes.data, array.shape) for array in arrays),
        *(plan.bits, plan.sampling, plan.batch, plan.delay, plan.derivative.numbers.tobytes()),
        *(plan.feature_shifts is None, plan.correction is None, plan.orders is None, plan.frozen),
    )

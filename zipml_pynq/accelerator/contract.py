"""What every training holds to, on a device or in this process: arguments, draws, outputs."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zipml_pynq.accelerator.capability import Capability
from zipml_pynq.accelerator.status import STATUS
from zipml_pynq.constants import CONFIG
from zipml_pynq.data.packed import PackedDataset
from zipml_pynq.errors import ArgumentError, KernelStatusError, ZipmlWarning
from zipml_pynq.training.defaults import options_of_training
from zipml_pynq.training.make_plan import make_plan
from zipml_pynq.training.plan import Plan

#: Outputs of calls that a run adds up.
COUNTERS = ("words", "modelled_cycles", "saturations", "outside", "clipped", "refetched")
#: The same of those that only a kernel with a clock has of its own.
CLOCKED = ("measured_cycles", "waited_cycles")
#: Measured cycles over modelled ones, less 1, from which on, either way, a run is warned of.
CYCLES_TOLERANCE = 0.05


class Totals:
    """What the calls of one run counted, added up."""

    def __init__(self) -> None:
        self._sums = dict.fromkeys((*COUNTERS, *CLOCKED), 0)
        self._counted = True

    def add(self, results: Mapping[str, int]) -> None:
        """One call's outputs."""
        for name in self._sums:
            self._sums[name] += results[name]
        self._counted = self._counted and results["counted"] == 1

    def outcome(self) -> dict[str, Any]:
        """Counters by name, those of the clock None where there was none.

        Warns (:class:`ZipmlWarning`) where a clock says anything else than the schedule.
        """
        if not self._counted:
            return {**self._sums, **dict.fromkeys(CLOCKED)}
        modelled, measured = self._sums["modelled_cycles"], self._sums["measured_cycles"]
        if abs(measured - modelled) > CYCLES_TOLERANCE * modelled:
            warnings.warn(
                f"the kernel took {measured:,} cycles, {measured / modelled:.2f} times the "
                f"{modelled:,} of the schedule, and waited for words in "
                f"{self._sums['waited_cycles']:,} of them: those are the memory's, others the "
                "kernel's own",
                ZipmlWarning,
                stacklevel=4,
            )
        return dict(self._sums)


def checked(
    packed: Any,
    plan: Plan | None,
    build: Capability,
    *,
    progress: Any,
    redraw: Any,
    until: Any,
    options: dict[str, Any],
) -> Plan:
    """The plan of a training, given or made, once all arguments are what ``train`` allows.

    Raises
    ------
    ArgumentError
        See :meth:`zipml_pynq.accelerator.driver.SgdDriver.train`.
    """
    if not hasattr(packed, "layout"):
        raise ArgumentError(f"packed was {packed!r}; allowed is a PackedDataset")
    if redraw is not None and not callable(redraw):
        raise ArgumentError(f"redraw was {redraw!r}; allowed is a function of the epoch")
    if until is not None and not callable(until):
        raise ArgumentError(f"until was {until!r}; allowed is a function of the model")
    if not (progress is None or callable(progress) or hasattr(progress, "update")):
        raise ArgumentError(f"progress was {progress!r}; allowed are a function and a tqdm bar")
    if plan is None:
        plan = make_plan(packed, fresh=redraw is not None, **options_of_training(options))
    elif options:
        raise ArgumentError(f"both a plan and {', '.join(options)} were given; allowed is one")
    layout = packed.layout
    if (layout.word_bits, layout.value_format) != (build.word_bits, build.value_format):
        raise ArgumentError(
            f"the data set is packed as {layout.value_format} in words of {layout.word_bits} "
            f"bits; the overlay's kernel takes {build.value_format} in {build.word_bits}"
        )
    plan.check(layout)
    return plan


def check_redrawn(packed: PackedDataset, first: PackedDataset, epoch: int) -> None:
    """Refuse what is no new draw of the data that the first epoch trained on."""
    if packed.layout != first.layout:
        raise ArgumentError(
            f"redraw({epoch}) returned the layout {packed.layout}; allowed is the first epoch's, "
            f"{first.layout}"
        )
    if (
        packed.normalization != first.normalization
        or _moments(packed.labels) != _moments(first.labels)
        or not np.array_equal(np.asarray(packed.levels), np.asarray(first.levels))
    ):
        raise ArgumentError(
            f"redraw({epoch}) returned another normalization, other levels or other labels; "
            "allowed are new draws of the same data (PackedDataset.redraw)"
        )


def _moments(labels: NDArray[np.int32]) -> tuple[int, int]:
    """What labels have in every order: their sum, and that of their squares modulo 2^64."""
    wide = labels.astype(np.int64)
    return int(wide.sum()), int(wide @ wide)


def check_results(results: Mapping[str, int], scalars: Mapping[str, int]) -> None:
    """Refuse the outputs of a call that the kernel refused.

    Raises
    ------
    KernelStatusError
    """
    status = results["status"]
    if status == CONFIG.status_ok:
        return
    name, allowed = STATUS.get(status, ("", ""))
    if not name:
        raise KernelStatusError(f"the kernel ended with the unknown status {status}")
    raise KernelStatusError(
        f"the kernel refused register {name} = {scalars[name]}: allowed is {allowed} "
        f"(status {status})"
    )


def report(progress: Any, epochs: int, whole: int) -> None:
    """Tell a bar or a function that so many epochs of the whole are done."""
    if progress is None:
        return
    if hasattr(progress, "update"):
        progress.update(1)
    else:
        progress(epochs, whole)

"""The driver of the accelerator: a ``pynq.DefaultIP`` bound by VLNV.

It uses pynq's interfaces alone, so it does not know whether a board, the emulated device or a
remote board is under it. docs/driver.md tells how to use it and what it guarantees.
"""

from __future__ import annotations

import asyncio
import operator
import time
import warnings
import weakref
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from zipml_pynq.accelerator.buffers import (
    address_of,
    forget_buffers,
    free_buffers,
    owner_of,
    quarantine,
)
from zipml_pynq.accelerator.capability import Capability
from zipml_pynq.accelerator.contract import checked
from zipml_pynq.accelerator.handoff import banks, offsets
from zipml_pynq.accelerator.interface import (
    AP_DONE,
    AP_IDLE,
    AP_START,
    CTRL,
    GIER,
    IER,
    INTERFACES,
    INTERRUPT_DONE,
    ISR,
    PLANES_BUNDLE,
    VALUE_FORMATS,
    VLNV,
)
from zipml_pynq.accelerator.loaded import Loaded, replaced_unseen
from zipml_pynq.accelerator.needs_pynq import pynq
from zipml_pynq.accelerator.power import PowerMeter
from zipml_pynq.accelerator.refine import refined
from zipml_pynq.accelerator.regions import regions
from zipml_pynq.accelerator.remote import (
    DEVICE_ERRORS,
    WIRE_ERRORS,
    device_error,
    limit_calls,
)
from zipml_pynq.accelerator.run import Training
from zipml_pynq.accelerator.status import expected_status
from zipml_pynq.constants import CONFIG
from zipml_pynq.data.packed import PackedDataset
from zipml_pynq.errors import (
    ArgumentError,
    DeviceBufferError,
    DeviceConnectionError,
    DeviceError,
    KernelTimeoutError,
    OutOfDeviceMemoryError,
    OverlayMismatchError,
    ZipmlWarning,
)
from zipml_pynq.training.divergence import judged
from zipml_pynq.training.extent import cycles_bound
from zipml_pynq.training.plan import Plan
from zipml_pynq.training.refinement import checked_refine
from zipml_pynq.training.result import TrainResult, fixed_model

#: The default time-out of a run is this many seconds, and its modelled time at the clock below
#: times the factor: the C-simulation of the kernel takes 60 to 500 times as long as a board.
TIMEOUT_FLOOR = 10.0
TIMEOUT_FACTOR = 1000.0
TIMEOUT_CLOCK = 100e6
#: A run that touches no memory takes microseconds.
PROBE_TIMEOUT = 5.0
#: How long an interrupted call waits for the kernel before it keeps the buffers back.
GRACE = 1.0
#: Bounds of the time between two polls, in seconds.
POLL_SHORTEST, POLL_LONGEST = 20e-6, 2e-3
#: An interrupt that got lost delays :meth:`SgdDriver.wait_async` by at most so many seconds.
INTERRUPT_CHECK = 0.25


class SgdDriver(pynq.DefaultIP):
    """Driver of ``zipml_sgd`` and its kin, one a value format; pynq makes it from an overlay.

    :meth:`train` does everything. Below it are :meth:`allocate`, :meth:`write_registers`,
    :meth:`start`, :meth:`wait`, :meth:`wait_async` and :meth:`read_results`.
    """

    bindto: ClassVar[list[str]] = list(VLNV.values())

    def __init__(self, description: dict[str, Any]) -> None:
        limit_calls(description.get("device") or pynq.Device.active_device)
        super().__init__(description)
        #: The kernel's value format, by the overlay's description.
        self.value_format = VALUE_FORMATS[description["type"]]
        self._interface = INTERFACES[self.value_format]
        self._parameters: dict[str, Any] = description.get("parameters") or {}
        self._offsets = offsets(self._interface, self._registers, description.get("fullpath", ""))
        self._banks = banks(self._interface, self._registers, self.device)
        self._known: Capability | None = None
        self._scalars = dict.fromkeys(self._interface.scalars, 0)
        self._bound: dict[str, weakref.ref[Any] | None] = dict.fromkeys(self._interface.pointers)
        self._in_use: list[Any] = []
        self._modelled = 0.0
        #: Clock of the kernel in MHz, where it is known; :func:`load_overlay` sets it.
        self.clock_mhz: float | None = None
        #: What measures the board's power, where it has a sensor; set there, too.
        self.power: PowerMeter | None = None
        self._loaded = Loaded.on(self.device)
        self._launched: Loaded | None = None

    # ---- registers ----------------------------------------------------------------------------

    # these two are called often: no context manager
    def read(self, offset: int = 0) -> int:
        """One word of the control port."""
        try:
            return self.mmio.read(offset)
        except DeviceError:
            raise
        except DEVICE_ERRORS as error:
            raise device_error(error, self.device) from error

    def write(self, offset: int, value: int | bytes) -> None:
        """Write words to the control port."""
        try:
            self.mmio.write(offset, value)
        except DeviceError:
            raise
        except DEVICE_ERRORS as error:
            raise device_error(error, self.device) from error

    @property
    def capability(self) -> Capability:
        """What the kernel in the bitstream is, asked for once.

        The kernel is run with all scalar registers 0: it touches no memory, refuses and reports.

        Raises
        ------
        OverlayReplacedError
            Another overlay is on the device.
        OverlayMismatchError
            The kernel has another register interface or smaller limits than this package, or is
            not the one that the ``.hwh`` describes.
        KernelTimeoutError
            No kernel answers.
        """
        self._require_loaded()
        if self._known is None:
            self.require_idle()
            for name in self._scalars:
                self._write_words(name, 0)
            self._scalars = dict.fromkeys(self._scalars, 0)
            self._launch([], 0.0)
            self.wait(PROBE_TIMEOUT)
            results = self.read_results()
            if results["version"] != CONFIG.interface_version:
                raise OverlayMismatchError(
                    f"the overlay's kernel has register interface {results['version']:#010x}, this "
                    f"package {CONFIG.interface_version:#010x}: use the bitstream of this version"
                )
            found = Capability.decode(results["capability"])
            width = self._parameters.get(f"C_M_AXI_{PLANES_BUNDLE.upper()}_DATA_WIDTH")
            found.check(self.value_format, None if width is None else int(width))
            self._known = found
        return self._known

    def _write_words(self, name: str, value: int) -> None:
        for i in range(self._interface.by_name[name].words):
            self.write(self._offsets[name] + 4 * i, int(value) >> (32 * i) & 0xFFFFFFFF)

    def write_registers(self, values: Mapping[str, Any]) -> None:
        """Write input registers by name.

        Parameters
        ----------
        values : mapping
            A number for a scalar; for a pointer a buffer from :meth:`allocate`, a contiguous slice
            of one, or a device address. Names as in docs/registers.md.

        Raises
        ------
        ArgumentError
            Unknown name, or a number that does not fit the register.
        DeviceBufferError
            A buffer of another device, of the wrong dtype, not contiguous, freed, or an array that
            was computed from a buffer.
        """
        _ = self.capability  # asked for first: the question uses the registers
        pointers, scalars = self._interface.pointers, self._interface.scalars
        for name, value in values.items():
            if name in pointers and not np.isscalar(value):
                address = address_of(name, value, self.device, self._banks.get(name))
                self._bound[name] = weakref.ref(value)
                self._write_words(name, address)
            elif name in scalars or name in pointers:
                bits = self._interface.by_name[name].bits
                try:
                    number = operator.index(value)
                except TypeError as error:
                    raise ArgumentError(f"{name} was {value!r}; allowed are integers") from error
                if not 0 <= number < 1 << bits:
                    raise ArgumentError(f"{name} was {number}; allowed are 0 to 2^{bits} - 1")
                if name in scalars:
                    self._scalars[name] = number
                else:
                    self._bound[name] = None
                self._write_words(name, number)
            else:
                raise ArgumentError(
                    f"no input register is called {name!r}; there are "
                    f"{', '.join(pointers + scalars)}"
                )

    def read_results(self) -> dict[str, int]:
        """The output registers by name.

        Raises
        ------
        OverlayReplacedError
            The kernel is not the one that was started.
        """
        self._require_loaded()
        results = {
            name: sum(
                (int(self.read(self._offsets[name] + 4 * i)) & 0xFFFFFFFF) << (32 * i)
                for i in range(self._interface.by_name[name].words)
            )
            for name in self._interface.outputs
        }
        if self._known and Capability.decode(results["capability"]) != self._known:
            raise replaced_unseen()
        return results

    @property
    def scalars(self) -> Mapping[str, int]:
        """The scalar registers as they were written last."""
        return self._scalars

    # ---- buffers ------------------------------------------------------------------------------

    def allocate(
        self, shape: int | tuple[int, ...], dtype: DTypeLike, pointer: str | None = None
    ) -> Any:
        """A buffer in the device's contiguous memory; ``freebuffer()`` gives it back.

        Parameters
        ----------
        shape, dtype
            Of the array.
        pointer : str, optional
            Name of the pointer that the buffer is for. On a card with memory banks it has to lie in
            the one that the pointer's port is connected to; elsewhere it does not matter.

        Raises
        ------
        OutOfDeviceMemoryError
            The memory does not hold it.
        """
        try:
            buffer = pynq.allocate(shape, dtype, target=self._banks.get(pointer, self.device))
            if getattr(buffer, "buffer_id", None) == "":
                # the remote client of pynq does not look at what the board said
                raise MemoryError("the board gave none")
            return buffer
        except DeviceError:
            raise
        except WIRE_ERRORS as error:
            raise device_error(error, self.device) from error
        except (MemoryError, RuntimeError, OSError) as error:
            size = int(np.prod(shape)) * np.dtype(dtype).itemsize
            raise OutOfDeviceMemoryError(
                f"{size} bytes of device memory were asked for: {error}"
            ) from error

    def release(self, buffers: list[Any]) -> None:
        """Free buffers, but keep them back while the kernel may still write to them."""
        if not buffers:
            return
        deadline = time.monotonic() + GRACE
        # where something else is loaded, nothing is left that could write
        gone = (self._launched or self._loaded).is_gone(self.device)
        lost = False
        try:
            while not gone and not self._is_idle() and time.monotonic() < deadline:
                time.sleep(POLL_LONGEST)
        except DeviceConnectionError:
            lost = True  # the next call will tell
        finally:
            if lost:
                forget_buffers(buffers)
            elif gone or self._is_idle():
                free_buffers(buffers)
            else:
                key = self.mmio.base_addr, self._launched or self._loaded
                quarantine(self.device).setdefault(key, []).extend(buffers)
                warnings.warn(
                    f"the kernel still runs: {sum(b.nbytes for b in buffers)} bytes of device "
                    "memory are kept back until it is idle or the overlay is loaded again",
                    ZipmlWarning,
                    stacklevel=3,
                )

    def reclaim(self) -> int:
        """Free what was kept back from the kernel while it ran, if it is idle now, and from kernels
        that are not on the device any more.

        Returns
        -------
        int
            Bytes that stay kept back, from this kernel or others of the device.
        """
        every = quarantine(self.device)
        for address, loaded in tuple(every):
            own = address == self.mmio.base_addr
            if loaded.is_gone(self.device) or (own and self._is_idle()):
                free_buffers(every.pop((address, loaded), []))
        return sum(buffer.nbytes for kept in tuple(every.values()) for buffer in kept)

    # ---- runs ---------------------------------------------------------------------------------

    def _require_loaded(self) -> None:
        now = self._loaded.check(self.device)
        if now != self._loaded:
            self._loaded, self._known = now, None  # the same file, which may have been built anew

    def _control(self) -> int:
        return int(self.read(CTRL))

    def _is_idle(self) -> bool:
        control = self._control()
        return bool(control & AP_IDLE) and not control & AP_START

    def require_idle(self) -> None:
        """Raise DeviceError if the kernel still runs; free what was kept back from it if not."""
        self.reclaim()
        if not self._is_idle():
            raise DeviceError(
                f"the kernel is not idle (CTRL reads {self._control():#x}): it still runs an "
                "earlier call, so wait for it or load the overlay again; or no kernel answers"
            )

    def _launch(self, buffers: list[Any], modelled: float) -> None:
        self._in_use = buffers
        self._modelled = modelled
        self._launched = self._loaded
        # not through register_map: that reads CTRL first, which clears done
        self.write(CTRL, AP_START)

    def start(self) -> None:
        """Start the kernel on what the registers say and return at once.

        The buffers that are bound to pointers stay alive until the kernel is done.

        Raises
        ------
        DeviceBufferError
            A bound buffer is gone, freed, or shorter than what the run will touch.
        DeviceError
            The kernel still runs.
        """
        build = self.capability
        self.require_idle()
        scalars = self._scalars
        buffers = []
        modelled = 0.0
        if expected_status(scalars, build.word_bits, build.value_format) == CONFIG.status_ok:
            needed = regions(scalars, build.word_bits, build.value_format)
            for name, reference in self._bound.items():
                if reference is None or not needed[name]:
                    continue
                buffer = reference()
                if buffer is None or owner_of(buffer).freed:
                    raise DeviceBufferError(f"the buffer that was given for {name} is freed")
                if buffer.nbytes < needed[name]:
                    raise DeviceBufferError(
                        f"{name} has {buffer.nbytes} bytes; this run touches {needed[name]}"
                    )
                buffers.append(buffer)
            bound = cycles_bound(scalars, build.word_bits, build.value_format)
            modelled = bound / self._clock
        self._launch(buffers, modelled)

    def _finished(self) -> bool:
        if self._launched is not None:
            self._launched.check(self.device, running=True)
        control = self._control()
        # done is cleared by whoever reads it first; idle stays
        return bool(control & AP_DONE) or (bool(control & AP_IDLE) and not control & AP_START)

    @property
    def _clock(self) -> float:
        """What runs are modelled at, in Hz."""
        return TIMEOUT_CLOCK if self.clock_mhz is None else 1e6 * self.clock_mhz

    def _deadline(self, timeout: float | None) -> tuple[float, float]:
        if timeout is None:
            timeout = TIMEOUT_FLOOR + TIMEOUT_FACTOR * self._modelled
        if not timeout > 0:
            raise ArgumentError(f"timeout was {timeout!r}; it must be positive seconds")
        return time.monotonic() + timeout, timeout

    def _timed_out(self, timeout: float) -> KernelTimeoutError:
        reason = getattr(self.device, "bus_error", None)
        return KernelTimeoutError(
            f"the kernel did not finish within {timeout:g} s (modelled: at most "
            f"{self._modelled:.3g} s at {self._clock / 1e6:g} MHz)"
            + (f": {reason}" if reason else "")
            + ". A stopped clock, another overlay, or a bitstream that does not belong to "
            "its .hwh look like this; load the overlay again"
        )

    def wait(self, timeout: float | None = None) -> None:
        """Poll until the kernel is done.

        Parameters
        ----------
        timeout : float, optional
            Seconds, ``math.inf`` for ever; by default 10 s and 1000 times the modelled time.

        Raises
        ------
        KernelTimeoutError
            It is not. It may still run and write to its buffers.
        """
        deadline, timeout = self._deadline(timeout)
        pause = POLL_SHORTEST
        while not self._finished():
            if time.monotonic() > deadline:
                raise self._timed_out(timeout)
            time.sleep(pause)
            pause = min(1.5 * pause, POLL_LONGEST)
        self._in_use, self._launched = [], None

    async def wait_async(self, timeout: float | None = None) -> None:
        """Wait for the kernel in an event loop; parameters and errors as :meth:`wait`.

        Uses the IP's interrupt if the overlay routes it to an interrupt controller that pynq knows,
        and polls otherwise, or in a second event loop: pynq's interrupts belong to the first one.
        """
        deadline, timeout = self._deadline(timeout)
        interrupt = getattr(self, "interrupt", None)
        wired = interrupt is not None
        if wired:
            self.write(IER, INTERRUPT_DONE)
            self.write(GIER, 1)
        pause = POLL_SHORTEST
        try:
            while not self._finished():
                left = deadline - time.monotonic()
                if left <= 0:
                    raise self._timed_out(timeout)
                if interrupt is None:
                    await asyncio.sleep(pause)
                    pause = min(1.5 * pause, POLL_LONGEST)
                    continue
                try:
                    await asyncio.wait_for(interrupt.wait(), min(left, INTERRUPT_CHECK))
                except asyncio.TimeoutError:
                    continue
                except RuntimeError:  # of another event loop
                    interrupt = None
        finally:
            if wired and not (self._launched or self._loaded).is_gone(self.device):
                self.write(GIER, 0)
                self.write(IER, 0)
                # bits of ISR toggle when written
                self.write(ISR, int(self.read(ISR)))
        self._in_use, self._launched = [], None

    # ---- training -----------------------------------------------------------------------------

    def __deepcopy__(self, _: dict[int, Any]) -> SgdDriver:
        """Itself: a driver is a handle of a device, which has no copy."""
        return self

    def train(
        self,
        packed: PackedDataset,
        plan: Plan | None = None,
        *,
        model: ArrayLike | None = None,
        timeout: float | None = None,
        progress: Any = None,
        redraw: Callable[[int], PackedDataset] | None = None,
        until: Callable[[NDArray[np.float64]], bool] | None = None,
        allow_divergence: bool = False,
        judge: bool = True,
        refine: Any = None,
        **options: Any,
    ) -> TrainResult:
        """Train a linear model on the device.

        A data set that does not fit the device's free memory is trained in segments, with the bits
        that it would have in one piece (words and cycles then count the blocks that two segments
        share twice). Only the planes that the plan streams go to the device. All buffers are given
        back, whatever happens.

        Parameters
        ----------
        packed : PackedDataset
            The samples, packed for the width and format of the overlay's kernel.
        plan : Plan, optional
            From :func:`zipml_pynq.training.make_plan.make_plan`; by default made from ``options``,
            with the defaults that the estimators have (:mod:`zipml_pynq.training.defaults`): a
            step that falls linearly, steps of features, a penalty.
        model : array_like, shape (features,), optional
            Start: floats in normalized units, or int32 fixed point. By default 0.
        timeout : float, optional
            Seconds for one call of the kernel, see :meth:`wait`.
        progress : callable or tqdm, optional
            Called with (epochs done, epochs) after every epoch, or its ``update(1)``. The kernel
            is then called once an epoch: same bits, some more cycles for the model's way.
        redraw : callable, optional
            Called with the number of an epoch, from 1 on, while the epoch before it is trained;
            returns the data set with fresh draws for it, of the same layout. The first epoch
            trains on ``packed``.
        until : callable, optional
            Called with the model at the end of every epoch, in normalized units; true ends the
            training there, and the history with it. One call of the kernel an epoch, as for
            ``progress``.
        allow_divergence : bool
            Warn about a model that ended far out instead of raising.
        judge : bool
            False: hand back whatever comes out. For parts of a training that are judged together.
        refine : True, array_like or Refine, optional
            Go on from the model of the plan to the optimum of the values themselves, in rounds of
            the plan's bits (docs/refinement.md): by the raw samples that are given, or, if True, by
            the planes of the most bits that are stored.
            :class:`zipml_pynq.training.refinement.Refine` has more to choose. The model and its
            history in ``result`` are those of the whole.
        **options
            What :func:`zipml_pynq.training.make_plan.make_plan` takes: epochs, bits, sampling,
            batch, step, schedule, l2, delay, feature_shifts.

        Returns
        -------
        TrainResult
            Copies; nothing in it is device memory.

        Raises
        ------
        ArgumentError
            Bad options, or a data set packed for another word width or format.
        OverlayMismatchError, DeviceError, KernelTimeoutError
            See :attr:`capability`, :meth:`start` and :meth:`wait`.
        OutOfDeviceMemoryError
            Not even two segments of the smallest size fit.
        KernelStatusError
            The kernel refused a register.
        DivergenceError
            See :func:`zipml_pynq.training.divergence.judged`; the error's ``result`` is the
            TrainResult.
        """
        plan = checked(
            packed,
            plan,
            self.capability,
            progress=progress,
            redraw=redraw,
            until=until,
            options=options,
        )
        more = checked_refine(refine, packed, plan)
        start = fixed_model(model, packed.layout.features)
        self.require_idle()

        buffers: list[Any] = []
        try:
            run = Training(self, packed, plan, redraw, progress, timeout, buffers)
            if self.power is None:
                result = run.run(start, until)
            else:
                result = self.power.measured(lambda: run.run(start, until))
        except DeviceConnectionError:
            forget_buffers(buffers)
            raise
        finally:
            self.release(buffers)
            self._in_use = []
        if more is not None:
            again = partial(self.train, timeout=timeout, judge=False)
            result = refined(again, packed, plan, result, more)
        return judged(result, packed, plan, start, allow_divergence) if judge else result

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
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import grpc
import numpy as np
import pynq
from numpy.typing import ArrayLike, DTypeLike, NDArray
from pynq.buffer import PynqBuffer

from zipml_pynq.constants import CONFIG, LIMITS, MODEL_ONE
from zipml_pynq.divergence import judged
from zipml_pynq.errors import (
    ArgumentError,
    DeviceBufferError,
    DeviceConnectionError,
    DeviceError,
    KernelStatusError,
    KernelTimeoutError,
    OutOfDeviceMemoryError,
    OverlayMismatchError,
    ZipmlWarning,
)
from zipml_pynq.interface import (
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
    SCHEDULE_COLUMNS,
    STATUS,
    VALUE_FORMATS,
    VLNV,
    Capability,
    expected_status,
    extent,
    regions,
    word_names,
)
from zipml_pynq.plan import Plan, make_plan
from zipml_pynq.reference import fixed_model
from zipml_pynq.result import TrainResult
from zipml_pynq.schedule import full_bytes, overlap, slot_cycles

if TYPE_CHECKING:
    from zipml_pynq.pack import Layout, PackedDataset

#: Element type behind each pointer.
DTYPES: dict[str, np.dtype[Any]] = {
    "planes": np.dtype("<u8"),
    "labels": np.dtype("<i4"),
    "model": np.dtype("<i4"),
    "history": np.dtype("<i4"),
    "schedule": np.dtype("<u4"),
    "levels": np.dtype("<i4"),
    "derivative": np.dtype("<i4"),
    "full": np.dtype("<u8"),
}

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
#: Seconds after which a call to a remote board that does not answer fails: an access or allocation;
#: the transfer of a buffer.
CALL_TIMEOUT, TRANSFER_TIMEOUT = 30.0, 600.0
#: A call keeps at most so many bytes of history on the device (but at least one epoch).
HISTORY_BYTES = 4 << 20


# ---- Segments --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Segment:
    """The blocks of one kernel call and the registers that join it to its neighbours.

    Parameters
    ----------
    first, stop : int
        Blocks ``first`` to ``stop - 1`` of the data set lie in the buffer.
    samples : int
        Samples in them.
    skip, pending : int
        Batches that an earlier call has finished, and whose update it has left to this one.
    hold : bool
        Whether the last updates are left to the next call.
    """

    first: int
    stop: int
    samples: int
    skip: int
    pending: int
    hold: bool


def carried_blocks(delay: int, block_samples: int, batch: int) -> int:
    """Most blocks that a segment takes over from the one before, for its pending batches."""
    return -(-delay // (block_samples // batch))


def segments(
    samples: int, block_samples: int, batch: int, delay: int, capacity: int
) -> list[Segment]:
    """Cut an epoch into kernel calls over at most ``capacity`` blocks each.

    A call that is not the last leaves the updates of its last ``delay`` batches to the next one,
    whose buffer therefore begins with the blocks that hold these batches: that gives the bits of a
    single call.
    """
    if block_samples % batch != 0:
        raise ArgumentError(f"batch was {batch}; allowed are divisors of {block_samples}")
    per_block = block_samples // batch
    batches = -(-samples // batch)
    blocks = -(-samples // block_samples)
    if capacity < min(blocks, carried_blocks(delay, block_samples, batch) + 1):
        raise ArgumentError(f"capacity was {capacity} blocks; too few for a delay of {delay}")
    found = []
    done = 0
    while done < batches:
        pending = min(delay, done)
        first, skip = divmod(done - pending, per_block)
        stop = min(first + capacity, blocks)
        found.append(
            Segment(
                first,
                stop,
                min(stop * block_samples, samples) - first * block_samples,
                skip,
                pending,
                hold=stop < blocks,
            )
        )
        done = min(stop * per_block, batches)
    return found


def streamed_layout(layout: Layout, plan: Plan) -> Layout:
    """Layout of what goes to the device: the planes that ``plan`` streams, and no others."""
    if layout.value_format == "float32":
        return layout
    sampling = "double" if plan.sampling in ("plain", "symmetric") else plan.sampling
    independent = plan.degree + 1 if sampling == "independent" else 0
    return replace(layout, bits=(plan.bits,), sampling=sampling, independent=independent)


@dataclass
class _Slot:
    """Buffers for the planes, labels and float32 rows of one segment, and what lies in them."""

    planes: Any
    labels: Any
    full: Any = None
    content: tuple[PackedDataset, int, int] | None = None

    def fill(self, packed: PackedDataset, plan: Plan, segment: Segment) -> None:
        """Copy a segment in, unless it is there already."""
        here = self.content
        if here and here[0] is packed and here[1:] == (segment.first, segment.stop):
            return
        self.content = None  # in case the copy is interrupted
        blocks = segment.stop - segment.first
        source = packed.planes[segment.first : segment.stop]
        target = self.planes.view(np.ndarray)
        layout = packed.layout
        if layout.value_format == "float32":
            target[:blocks] = source
        else:
            plane = layout.block_samples * layout.chunks * (layout.word_bits // 64)
            base = (plan.bits - 1) * plane
            dithers = layout.dither_offset(plan.bits) * (layout.word_bits // 64)
            width = target.shape[1] - base
            target[:blocks, :base] = source[:, :base]
            target[:blocks, base:] = source[:, dithers : dithers + width]
        size = layout.block_samples
        rows = slice(segment.first * size, segment.stop * size)
        labels = self.labels.view(np.ndarray).reshape(-1, 1 if packed.weights is None else 2)
        labels[: blocks * size, 0] = packed.labels[rows]
        if packed.weights is not None:
            labels[: blocks * size, 1] = packed.weights[rows]
        if packed.full is not None:
            self.full.view(np.ndarray)[: blocks * size] = packed.full[rows]
            _to_device(self.full)
        _to_device(self.planes, self.labels)
        self.content = (packed, segment.first, segment.stop)


@dataclass(frozen=True)
class _Call:
    """One kernel call: ``epochs`` epochs from ``epoch`` on over one segment."""

    packed: PackedDataset
    segment: Segment
    epoch: int
    epochs: int


# ---- Buffers ---------------------------------------------------------------------------------


def _owner(buffer: Any) -> Any:
    """The buffer from ``allocate`` that ``buffer`` is or is a slice of; None if there is none.

    Only ``allocate`` gives a buffer its ``freed``. An array that was computed from a buffer is of
    the buffer's class too, but has memory of its own and a meaningless ``device_address``.
    """
    while buffer is not None and "freed" not in getattr(buffer, "__dict__", {}):
        buffer = buffer.base if isinstance(buffer, np.ndarray) else None
    return buffer


def _quarantine(device: Any) -> list[Any]:
    """Buffers of ``device`` that a kernel may still write to. They live as long as the device."""
    return vars(device).setdefault("_zipml_quarantine", [])


def _to_device(*buffers: Any) -> None:
    """Show the device what the host wrote."""
    for buffer in buffers:
        with device_errors(getattr(buffer, "device", None)):
            buffer.sync_to_device()


def _from_device(buffer: Any) -> None:
    """Show the host what the device wrote."""
    with device_errors(getattr(buffer, "device", None)):
        buffer.sync_from_device()


def _free(buffers: list[Any], keep: int = 0) -> None:
    """Free all but the first ``keep`` buffers of a list and take them off it."""
    while len(buffers) > keep:
        buffer = buffers.pop()
        with device_errors(getattr(buffer, "device", None)):
            buffer.freebuffer()


def _forget(buffers: list[Any]) -> None:
    """Give up buffers of a board that does not answer: their destructors would ask in vain."""
    while buffers:
        buffers.pop().freed = True


# ---- Errors of the device --------------------------------------------------------------------

#: What pynq raises for a call to a device that failed: over a wire, and otherwise.
DEVICE_ERRORS = (grpc.RpcError, RuntimeError)


def device_error(error: Exception, device: Any) -> DeviceError:
    """One of ``DEVICE_ERRORS`` as an error of this package."""
    if not isinstance(error, grpc.RpcError):
        return DeviceError(str(error))
    code, details = error.code(), error.details()
    board = f"the board at {device.ip_addr}:{device.port}" if device is not None else "the board"
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        return OutOfDeviceMemoryError(f"{board}: {details}")
    if code in (
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.DEADLINE_EXCEEDED,
    ):
        return DeviceConnectionError(
            f"{board} does not answer ({details}); what was on it is lost: when it is there again, "
            "load the overlay again"
        )
    return DeviceError(f"{board} refused ({code.name}): {details}")


@contextmanager
def device_errors(device: Any) -> Iterator[None]:
    """Turn errors of accesses to ``device`` into errors of this package."""
    try:
        yield
    except DeviceError:
        raise
    except DEVICE_ERRORS as error:
        raise device_error(error, device) from error


class _TimeLimit(
    grpc.UnaryUnaryClientInterceptor,
    grpc.StreamUnaryClientInterceptor,
    grpc.UnaryStreamClientInterceptor,
):
    """Limits the time of every call that has no limit of its own."""

    def intercept_unary_unary(self, call: Any, details: Any, request: Any) -> Any:
        return call(details._replace(timeout=details.timeout or CALL_TIMEOUT), request)

    def intercept_stream_unary(self, call: Any, details: Any, requests: Any) -> Any:
        return call(details._replace(timeout=details.timeout or TRANSFER_TIMEOUT), requests)

    intercept_unary_stream = intercept_stream_unary


def limit_calls(device: Any) -> None:
    """Let no call to a remote board last for ever, as pynq's do; other devices are left alone."""
    if device.has_capability("REMOTE") and not hasattr(device, "_zipml_limited"):
        channel = grpc.intercept_channel(device.client.channel, _TimeLimit())
        device._stub = {name: type(stub)(channel) for name, stub in device._stub.items()}
        device._zipml_limited = True


# ---- The driver ------------------------------------------------------------------------------


class SgdDriver(pynq.DefaultIP):
    """Driver of ``zipml_sgd`` and its kin, one a value format; pynq makes it from an overlay.

    :meth:`train` does everything. Below it are :meth:`allocate`, :meth:`write_registers`,
    :meth:`start`, :meth:`wait`, :meth:`wait_async` and :meth:`read_results`.
    """

    bindto: ClassVar[list[str]] = list(VLNV.values())

    def __init__(self, description: dict[str, Any]) -> None:
        limit_calls(description.get("device") or pynq.Device.active_device)
        super().__init__(description)
        self._value_format = VALUE_FORMATS[description["type"]]
        self._interface = INTERFACES[self._value_format]
        self._parameters: dict[str, Any] = description.get("parameters") or {}
        self._offsets = self._resolve_offsets()
        self._banks = self._resolve_banks()
        self._known: Capability | None = None
        self._scalars = dict.fromkeys(self._interface.scalars, 0)
        self._bound: dict[str, weakref.ref[Any] | None] = dict.fromkeys(self._interface.pointers)
        self._in_use: list[Any] = []
        self._modelled = 0.0

    def _resolve_offsets(self) -> dict[str, int]:
        """Offset of each register: the ``.hwh``'s, since tools differ in the gaps they leave."""
        if not self._registers:
            return dict(self._interface.offsets)
        offsets = {}
        for argument in self._interface.arguments:
            # a .hwh has a register for each word, an .xclbin one for each argument
            for name in (word_names(argument)[0], argument.name):
                if name in self._registers:
                    offsets[argument.name] = int(self._registers[name]["address_offset"])
                    break
            else:
                raise OverlayMismatchError(
                    f"the overlay's IP {self._fullpath} has no register {name!r}: its .hwh is of "
                    "another register interface than this package's "
                    f"{CONFIG.interface_version:#010x}"
                )
        return offsets

    def _resolve_banks(self) -> dict[str | None, Any]:
        """Memory of each pointer, where the metadata tell which bank its port is connected to."""
        return {
            name: self.device.get_memory_by_name(self._registers[name]["memory"])
            for name in self._interface.pointers
            if "memory" in (self._registers or {}).get(name, {})
        }

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
        OverlayMismatchError
            The kernel has another register interface or smaller limits than this package, or is
            not the one that the ``.hwh`` describes.
        KernelTimeoutError
            No kernel answers.
        """
        if self._known is None:
            self._require_idle()
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
            self._check_capability(found)
            self._known = found
        return self._known

    def _check_capability(self, found: Capability) -> None:
        described = self._value_format
        if found.value_format != described:
            raise OverlayMismatchError(
                f"the bitstream's kernel trains on {found.value_format}, its .hwh describes "
                f"{described}: they do not belong together"
            )
        width = self._parameters.get(f"C_M_AXI_{PLANES_BUNDLE.upper()}_DATA_WIDTH")
        if width is not None and int(width) != found.word_bits:
            raise OverlayMismatchError(
                f"the bitstream's kernel has words of {found.word_bits} bits, its .hwh describes "
                f"{width}: they do not belong together"
            )
        needed = Capability.expected(found.word_bits, found.value_format)
        for name in ("max_chunks", "max_batch", "block_words", "ring_words", "block_samples"):
            if getattr(found, name) < getattr(needed, name):
                raise OverlayMismatchError(
                    f"the overlay's kernel has {name} {getattr(found, name)}, this package needs "
                    f"{getattr(needed, name)}"
                )
        if found.max_delay < needed.max_delay:
            raise OverlayMismatchError(
                f"the overlay's kernel has max_delay {found.max_delay}, this package needs "
                f"{needed.max_delay}"
            )

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
                address = self._address(name, value)
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
        """The output registers by name."""
        return {
            name: sum(
                (int(self.read(self._offsets[name] + 4 * i)) & 0xFFFFFFFF) << (32 * i)
                for i in range(self._interface.by_name[name].words)
            )
            for name in self._interface.outputs
        }

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
        except grpc.RpcError as error:
            raise device_error(error, self.device) from error
        except (MemoryError, RuntimeError, OSError) as error:
            size = int(np.prod(shape)) * np.dtype(dtype).itemsize
            raise OutOfDeviceMemoryError(
                f"{size} bytes of device memory were asked for: {error}"
            ) from error

    def _address(self, name: str, buffer: Any) -> int:
        owner = _owner(buffer)
        if owner is None or not hasattr(buffer, "device_address"):
            raise DeviceBufferError(
                f"{name} was {type(buffer).__name__} without device memory of its own; allowed are "
                "buffers from allocate and contiguous slices of them (results of arithmetic and "
                "copies are ordinary arrays)"
            )
        if owner.freed:
            raise DeviceBufferError(f"{name} was a buffer that is freed already")
        device = getattr(buffer, "device", self.device)  # pynq 3.1's remote buffers do not know
        if device is not self.device:
            raise DeviceBufferError(
                f"{name} was a buffer of device {getattr(device, 'tag', None)!r}; allowed are "
                f"buffers of {self.device.tag!r}"
            )
        bank = self._banks.get(name)
        if bank is not None and getattr(owner, "memory", None) != bank:
            raise DeviceBufferError(
                f"{name} was a buffer outside of {bank.desc['tag']}, the memory bank that its port "
                f"is connected to; allocate(.., pointer={name!r}) gives one there"
            )
        if buffer.dtype != DTYPES[name]:
            raise DeviceBufferError(f"{name} had dtype {buffer.dtype}; allowed is {DTYPES[name]}")
        if not buffer.flags.c_contiguous:
            raise DeviceBufferError(f"{name} was not contiguous")
        if buffer is not owner and not isinstance(buffer, PynqBuffer):
            # a slice of a remote buffer has the address of the whole
            raise DeviceBufferError(f"{name} was a slice of a remote buffer; use the whole buffer")
        with device_errors(self.device):
            return int(buffer.device_address)

    def _release(self, buffers: list[Any]) -> None:
        """Free buffers, but keep them back while the kernel may still write to them."""
        if not buffers:
            return
        deadline = time.monotonic() + GRACE
        lost = False
        try:
            while not self._is_idle() and time.monotonic() < deadline:
                time.sleep(POLL_LONGEST)
        except DeviceConnectionError:
            lost = True  # the next call will tell
        finally:
            if lost:
                _forget(buffers)
            elif self._is_idle():
                _free(buffers)
            else:
                _quarantine(self.device).extend(buffers)
                warnings.warn(
                    f"the kernel still runs: {sum(b.nbytes for b in buffers)} bytes of device "
                    "memory are kept back until it is idle or the overlay is loaded again",
                    ZipmlWarning,
                    stacklevel=3,
                )

    def reclaim(self) -> int:
        """Free what was kept back from a running kernel, if it is idle now.

        Returns
        -------
        int
            Bytes that stay kept back.
        """
        kept = _quarantine(self.device)
        if kept and self._is_idle():
            _free(kept)
        return sum(buffer.nbytes for buffer in kept)

    # ---- runs ---------------------------------------------------------------------------------

    def _control(self) -> int:
        return int(self.read(CTRL))

    def _is_idle(self) -> bool:
        control = self._control()
        return bool(control & AP_IDLE) and not control & AP_START

    def _require_idle(self) -> None:
        self.reclaim()
        if not self._is_idle():
            raise DeviceError(
                f"the kernel is not idle (CTRL reads {self._control():#x}): it still runs an "
                "earlier call, so wait for it or load the overlay again; or no kernel answers"
            )

    def _launch(self, buffers: list[Any], modelled: float) -> None:
        self._in_use = buffers
        self._modelled = modelled
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
        self._require_idle()
        scalars = self._scalars
        buffers = []
        modelled = 0.0
        if expected_status(scalars, build.word_bits, build.value_format) == CONFIG.status_ok:
            needed = regions(scalars, build.word_bits, build.value_format)
            for name, reference in self._bound.items():
                if reference is None or not needed[name]:
                    continue
                buffer = reference()
                if buffer is None or _owner(buffer).freed:
                    raise DeviceBufferError(f"the buffer that was given for {name} is freed")
                if buffer.nbytes < needed[name]:
                    raise DeviceBufferError(
                        f"{name} has {buffer.nbytes} bytes; this run touches {needed[name]}"
                    )
                buffers.append(buffer)
            modelled = self._cycles_bound(build) / TIMEOUT_CLOCK
        self._launch(buffers, modelled)

    def _cycles_bound(self, build: Capability) -> int:
        """At least the cycles of the run that the registers describe."""
        r = self._scalars
        e = extent(r, build.word_bits, build.value_format)
        o = overlap(r["delay"])
        slots = o.slots_per_batch * e.batches + o.lag
        block = e.planes * r["block_samples"] * e.chunks + 2 * CONFIG.memory_latency
        turns = LIMITS[build.value_format].close_turns
        epoch = slots * slot_cycles(e.passes, r["batch"], e.cells, r["delay"], turns)
        epoch += (e.blocks + 1) * (block + CONFIG.pipeline_depth + turns) + e.entries
        tables = r.get("level_tables", 0) * e.level_count + e.derivatives
        if e.full_words:  # every sample may be fetched again, and every slot drains the pipeline
            epoch += r["samples"] * (e.full_words + CONFIG.memory_latency + CONFIG.residual_latency)
            epoch += slots * (CONFIG.pipeline_depth + turns)
        vectors = e.entries + tables + r["delay"] * r["batch"] + CONFIG.memory_latency
        return int(r["epochs"] * epoch + 4 * (vectors + CONFIG.draw_latency))

    def _finished(self) -> bool:
        control = self._control()
        # done is cleared by whoever reads it first; idle stays
        return bool(control & AP_DONE) or (bool(control & AP_IDLE) and not control & AP_START)

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
            f"{self._modelled:.3g} s at {TIMEOUT_CLOCK / 1e6:g} MHz)"
            + (f": {reason}" if reason else "")
            + ". An address outside of memory, a stopped clock or a bitstream that does not belong "
            "to its .hwh look like this; load the overlay again"
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
        self._in_use = []

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
            if wired:
                self.write(GIER, 0)
                self.write(IER, 0)
                # bits of ISR toggle when written
                self.write(ISR, int(self.read(ISR)))
        self._in_use = []

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
            From :func:`zipml_pynq.plan.make_plan`; by default made from ``options``.
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
        **options
            What :func:`zipml_pynq.plan.make_plan` takes: epochs, bits, sampling, batch, step,
            schedule, l2, delay.

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
            See :func:`zipml_pynq.divergence.judged`; the error's ``result`` is the TrainResult.
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
            plan = make_plan(packed, fresh=redraw is not None, **options)
        elif options:
            raise ArgumentError(f"both a plan and {', '.join(options)} were given; allowed is one")
        build = self.capability
        layout = packed.layout
        if (layout.word_bits, layout.value_format) != (build.word_bits, build.value_format):
            raise ArgumentError(
                f"the data set is packed as {layout.value_format} in words of {layout.word_bits} "
                f"bits; the overlay's kernel takes {build.value_format} in {build.word_bits}"
            )
        plan.check(layout)
        start = fixed_model(model, layout.features)
        self._require_idle()

        buffers: list[Any] = []
        try:
            run = _Training(self, packed, plan, redraw, progress, timeout, buffers)
            result = run.run(start, until)
        except DeviceConnectionError:
            _forget(buffers)
            raise
        finally:
            self._release(buffers)
            self._in_use = []
        return judged(result, packed, plan, start, allow_divergence)


class _Training:
    """One call of :meth:`SgdDriver.train`: its buffers, its kernel calls, its counters."""

    def __init__(
        self,
        driver: SgdDriver,
        packed: PackedDataset,
        plan: Plan,
        redraw: Callable[[int], PackedDataset] | None,
        progress: Any,
        timeout: float | None,
        buffers: list[Any],
    ) -> None:
        self.driver = driver
        self.packed = packed
        self.plan = plan
        self.redraw = redraw
        self.progress = progress
        self.timeout = timeout
        self.buffers = buffers
        self.layout = streamed_layout(packed.layout, plan)
        self.entries = self.layout.chunks * self.layout.lanes
        pairs = plan.delay * plan.batch
        self.model = self._allocate(self.entries + 2 * pairs, "model")
        group = max(1, min(plan.epochs, HISTORY_BYTES // (4 * self.entries)))
        self.history = self._allocate((group, self.entries), "history")
        self.schedule = self._allocate((group, SCHEDULE_COLUMNS), "schedule")
        # what all calls of the kernel share
        self.constants: dict[str, Any] = {
            "model": self.model,
            "history": self.history,
            "schedule": self.schedule,
            **plan.registers(self.layout),
        }
        if packed.levels is not None:
            levels = self._allocate(packed.levels.size, "levels")
            levels.view(np.ndarray)[:] = packed.levels.ravel()
            _to_device(levels)
            self.constants["levels"] = levels
        numbers = plan.derivative.numbers
        if numbers.size:
            derivative = self._allocate(numbers.size, "derivative")
            derivative.view(np.ndarray)[:] = numbers
            _to_device(derivative)
            self.constants["derivative"] = derivative
        self.slots, capacity = self._allocate_slots()
        self.segments = segments(
            self.layout.samples, self.layout.block_samples, plan.batch, plan.delay, capacity
        )
        self._check_segments()
        if redraw is not None or progress is not None or len(self.segments) > 1:
            group = 1
        if not plan.one_order:
            group = 1
        self.group = group
        counters = ("words", "cycles", "saturations", "outside", "clipped", "refetched")
        self.totals = dict.fromkeys(counters, 0)

    def _check_segments(self) -> None:
        """What a data set that is trained in segments rules out."""
        if len(self.segments) == 1:
            return
        if self.plan.orders is not None:
            raise ArgumentError(
                f"shuffle was true; the device's free memory holds {self.segments[0].stop} of "
                f"{self.layout.blocks} blocks at a time, and only a data set that fits whole can "
                "be taken in another order"
            )
        if self.plan.model_bits and self.plan.delay > 1:
            raise ArgumentError(
                f"model_bits was {self.plan.model_bits} at a delay of {self.plan.delay}; a data "
                "set that does not fit the device's free memory whole allows a delay of 0 or 1"
            )

    def _allocate(self, shape: int | tuple[int, ...], name: str) -> Any:
        buffer = self.driver.allocate(shape, DTYPES[name], name)
        self.buffers.append(buffer)
        return buffer

    def _allocate_slots(self) -> tuple[list[_Slot], int]:
        """One slot for the whole data set, else two for 2, 4, 8 .. segments, whichever fit."""
        layout, plan = self.layout, self.plan
        carried = carried_blocks(plan.delay, layout.block_samples, plan.batch)
        # data that changes every epoch is copied into one slot while the other is trained on
        attempts = [(1 if self.redraw is None else 2, layout.blocks)]
        number = 2
        while attempts[-1][1] > carried + 1:
            size = max(carried + 1, -(-(layout.blocks + (number - 1) * carried) // number))
            if size == attempts[-1][1]:
                size -= 1
            attempts.append((2, size))
            number *= 2
        for number, capacity in attempts:
            mark = len(self.buffers)
            try:
                return [self._allocate_slot(capacity) for _ in range(number)], capacity
            except OutOfDeviceMemoryError as error:
                failure = error
                _free(self.buffers, mark)
        number, capacity = attempts[-1]
        block = layout.block_stride * (layout.word_bits // 8) + 4 * layout.block_samples
        raise OutOfDeviceMemoryError(
            f"training needs at least {number} x {capacity} blocks of {block} bytes in device "
            f"memory beside model and history: {failure}"
        ) from failure

    def _allocate_slot(self, capacity: int) -> _Slot:
        words = self.layout.block_stride * (self.layout.word_bits // 64)
        rows = capacity * self.layout.block_samples
        planes = self._allocate((capacity, words), "planes")
        columns = 1 if self.packed.weights is None else 2
        labels = self._allocate(rows * columns, "labels")
        full = None
        if self.packed.full is not None:
            full = self._allocate((rows, self.packed.full.shape[1]), "full")
        return _Slot(planes, labels, full)

    def _calls(self) -> Iterator[_Call]:
        for epoch in range(0, self.plan.epochs, self.group):
            packed = self.packed
            if self.redraw is not None and epoch > 0:
                packed = self.redraw(epoch)
                if packed.layout != self.packed.layout:
                    raise ArgumentError(
                        f"redraw({epoch}) returned the layout {packed.layout}; allowed is the "
                        f"first epoch's, {self.packed.layout}"
                    )
                if (
                    packed.normalization != self.packed.normalization
                    or not np.array_equal(packed.labels, self.packed.labels)
                    or not np.array_equal(np.asarray(packed.levels), np.asarray(self.packed.levels))
                ):
                    raise ArgumentError(
                        f"redraw({epoch}) returned another normalization, other levels or other "
                        "labels; allowed are new draws of the same data (PackedDataset.redraw)"
                    )
            epochs = min(self.group, self.plan.epochs - epoch)
            for segment in self.segments:
                yield _Call(packed, segment, epoch, epochs)

    def _next(self, calls: Iterator[_Call], number: int) -> _Call | None:
        """The next call with its samples on the device."""
        call = next(calls, None)
        if call is not None:
            self.slots[number % len(self.slots)].fill(call.packed, self.plan, call.segment)
        return call

    def _start(self, call: _Call, slot: _Slot) -> None:
        flags = CONFIG.flag_hold if call.segment.hold else 0
        if self.packed.weights is not None:
            flags |= CONFIG.flag_weights
        first_block, block_step = self.plan.epoch_order(call.epoch)
        rows = self.plan.schedule_table()[call.epoch : call.epoch + call.epochs]
        self.schedule.view(np.ndarray)[: call.epochs] = rows
        _to_device(self.schedule)
        self.driver.write_registers(
            {
                "planes": slot.planes,
                "labels": slot.labels,
                **self.constants,
                **({} if slot.full is None else {"full": slot.full}),
                "samples": call.segment.samples,
                "epochs": call.epochs,
                "skip": call.segment.skip,
                "pending": call.segment.pending,
                "flags": flags,
                "first_update": self._first_update(call),
                "first_block": first_block,
                "block_step": block_step,
            }
        )
        self.driver.start()

    def _first_update(self, call: _Call) -> int:
        """Number of a call's first update since training began, modulo the register's width."""
        batches = -(-self.layout.samples // self.plan.batch)
        per_block = self.layout.block_samples // self.plan.batch
        oldest = call.segment.first * per_block + call.segment.skip
        return ((self.plan.first_epoch + call.epoch) * batches + oldest) % (1 << 32)

    def run(
        self,
        start: NDArray[np.int32],
        until: Callable[[NDArray[np.float64]], bool] | None = None,
    ) -> TrainResult:
        if until is not None:
            self.group = 1
        features = self.layout.features
        model = self.model.view(np.ndarray)
        model[:] = 0
        model[:features] = start
        _to_device(self.model)
        history = np.empty((self.plan.epochs, features), np.int32)
        calls = self._calls()
        number = 0
        call = self._next(calls, number)
        while call is not None:
            self._start(call, self.slots[number % len(self.slots)])
            # a single slot holds the whole data set, so there is nothing to fill but the second
            upcoming = self._next(calls, number + 1)
            self.driver.wait(self.timeout)
            self._account()
            if not call.segment.hold:
                _from_device(self.history)
                rows = self.history.view(np.ndarray)[: call.epochs, :features]
                history[call.epoch : call.epoch + call.epochs] = rows
                self._report(call.epoch + call.epochs)
                if until is not None and until(rows[0] / MODEL_ONE):
                    history = history[: call.epoch + 1].copy()
                    break
            call = upcoming
            number += 1
        _from_device(self.model)
        return TrainResult.from_fixed(
            model[:features].copy(),
            history,
            word_bits=self.layout.word_bits,
            fetched_bytes=self.totals["refetched"] * full_bytes(self.layout),
            **self.totals,
        )

    def _account(self) -> None:
        results = self.driver.read_results()
        status = results["status"]
        if status != CONFIG.status_ok:
            name, allowed = STATUS.get(status, ("", ""))
            if not name:
                raise KernelStatusError(f"the kernel ended with the unknown status {status}")
            raise KernelStatusError(
                f"the kernel refused register {name} = {self.driver._scalars[name]}: "
                f"allowed is {allowed} (status {status})"
            )
        for name in self.totals:
            self.totals[name] += results[name]

    def _report(self, epochs: int) -> None:
        if self.progress is None:
            return
        if hasattr(self.progress, "update"):
            self.progress.update(1)
        else:
            self.progress(epochs, self.plan.epochs)


# ---- Loading ---------------------------------------------------------------------------------


def find_driver(overlay: pynq.Overlay, name: str | None = None) -> SgdDriver:
    """The ZipML IP of an overlay.

    Parameters
    ----------
    overlay : pynq.Overlay
        Loaded.
    name : str, optional
        Path of the IP, for overlays with more than one.

    Raises
    ------
    OverlayMismatchError
        The overlay has no ZipML IP, or several and ``name`` does not say which.
    """
    found = [path for path, ip in overlay.ip_dict.items() if ip["type"] in VLNV.values()]
    if name is not None and name in found:
        found = [name]
    if len(found) != 1 or (name is not None and name not in found):
        raise OverlayMismatchError(
            f"the overlay {overlay.bitfile_name} has the ZipML IPs {found}"
            + (f", not {name!r}" if name is not None else "")
            + f"; needed is one of type {' or '.join(VLNV.values())}; all its IPs are "
            + str({path: ip["type"] for path, ip in overlay.ip_dict.items()})
        )
    target: Any = overlay
    for part in found[0].split("/"):
        target = getattr(target, part)
    return target

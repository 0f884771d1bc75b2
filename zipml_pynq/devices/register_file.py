"""The emulated device's registers: a kernel's control port, and an interrupt controller."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from typing import Any

from zipml_pynq.accelerator.interface import (
    AP_DONE,
    AP_IDLE,
    AP_READY,
    AP_START,
    AUTO_RESTART,
    CTRL,
    GIER,
    IER,
    INTERRUPT,
    INTERRUPT_DONE,
    INTERRUPT_READY,
    ISR,
    Interface,
)


class RegisterFile:
    """The ``s_axi_control`` port of the kernel: what the RTL that Vitis HLS writes does.

    CTRL: ``ap_start`` stays 1 until the kernel is ready; ``ap_done`` and ``ap_ready`` are cleared
    by reading; ``auto_restart`` starts again. ISR bits are set only while enabled in IER and toggle
    when 1 is written (as in 2020 to 2022.2 and since; 2022.1 alone cleared them by reading).
    Addresses wrap at the width of the port.

    Parameters
    ----------
    interface : Interface
        The registers of the kernel.
    start : callable
        Called with a snapshot of the input registers when the kernel starts, the lock not held; it
        must return at once, and :meth:`finish` is called when the run is over.
    changed : callable
        Called, the lock not held, whenever the interrupt output may have changed.
    """

    def __init__(
        self,
        interface: Interface,
        start: Callable[[RegisterFile, dict[str, int]], None],
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        self._interface = interface
        self._start = start
        self._changed = changed
        self._lock = threading.RLock()
        self._words: dict[int, int] = {}
        self._arguments = interface.pointers + interface.scalars
        self._inputs = {offset for name in self._arguments for offset in self._offsets(name)}
        self._valid = set(interface.valid_offsets.values())
        self._running = self._done = self._ready = self._auto_restart = False
        self._enabled = False
        self._ier = self._isr = 0

    def _offsets(self, name: str) -> list[int]:
        """Offsets of an argument's data words."""
        first = self._interface.offsets[name]
        return [first + 4 * i for i in range(self._interface.by_name[name].words)]

    @property
    def interrupt(self) -> bool:
        """Level of the interrupt output."""
        with self._lock:
            return self._enabled and self._isr != 0

    def value(self, name: str) -> int:
        """An argument's register, without side effects."""
        with self._lock:
            words = enumerate(self._offsets(name))
            return sum(self._words.get(offset, 0) << (32 * i) for i, offset in words)

    def read(self, offset: int) -> int:
        """One word, with the side effects of reading it."""
        offset &= (1 << self._interface.address_bits) - 1
        with self._lock:
            if offset == CTRL:
                word = (
                    AP_START * self._running
                    | AP_DONE * self._done
                    | AP_IDLE * (not self._running)
                    | AP_READY * self._ready
                    | AUTO_RESTART * self._auto_restart
                    | INTERRUPT * self.interrupt
                )
                self._done = self._ready = False
                return word
            if offset == GIER:
                return int(self._enabled)
            if offset == IER:
                return self._ier
            if offset == ISR:
                return self._isr
            if offset in self._valid:
                return self._words.pop(offset, 0)
            return self._words.get(offset, 0)

    def write(self, offset: int, word: int) -> None:
        """Write one word; reserved and read-only words ignore it."""
        offset &= (1 << self._interface.address_bits) - 1
        launch = None
        with self._lock:
            if offset == CTRL:
                self._auto_restart = bool(word & AUTO_RESTART)
                if word & AP_START and not self._running:
                    launch = self._begin()
            elif offset == GIER:
                self._enabled = bool(word & 1)
            elif offset == IER:
                self._ier = word & (INTERRUPT_DONE | INTERRUPT_READY)
            elif offset == ISR:
                self._isr ^= word & (INTERRUPT_DONE | INTERRUPT_READY)
            elif offset in self._inputs:
                self._words[offset] = word
        self._changed()
        if launch is not None:
            self._start(self, launch)

    def _begin(self) -> dict[str, int]:
        self._running = True
        return {name: self.value(name) for name in self._arguments}

    def finish(self, outputs: dict[str, int]) -> None:
        """The kernel's last cycle: outputs valid, done and ready."""
        launch = None
        with self._lock:
            for name, valid in self._interface.valid_offsets.items():
                for i, offset in enumerate(self._offsets(name)):
                    self._words[offset] = outputs[name] >> (32 * i) & 0xFFFFFFFF
                self._words[valid] = 1
            self._done = self._ready = True
            self._running = False
            self._isr |= self._ier
            if self._auto_restart:
                launch = self._begin()
        self._changed()
        if launch is not None:
            self._start(self, launch)


class InterruptController:
    """An AXI interrupt controller (PG099) with level-sensitive inputs, as far as pynq uses it.

    Parameters
    ----------
    levels : sequence of callable
        The inputs' levels.
    """

    ISR, IPR, IER, IAR, SIE, CIE, MER = 0x00, 0x04, 0x08, 0x0C, 0x10, 0x14, 0x1C

    def __init__(self, levels: Sequence[Callable[[], bool]]) -> None:
        self._levels = tuple(levels)
        self._inputs = (1 << len(self._levels)) - 1
        self._lock = threading.Lock()
        self._isr = self._ier = self._mer = 0
        self._waiting: list[tuple[Any, asyncio.AbstractEventLoop]] = []

    def _take(self) -> None:
        """Take the inputs' levels over."""
        for number, level in enumerate(self._levels):
            self._isr |= level() << number

    def read(self, offset: int) -> int:
        """One word."""
        with self._lock:
            self._take()
            return {
                self.ISR: self._isr,
                self.IPR: self._isr & self._ier,
                self.IER: self._ier,
                self.MER: self._mer,
            }.get(offset, 0)

    def write(self, offset: int, word: int) -> None:
        """Write one word."""
        with self._lock:
            if offset == self.IAR:
                self._isr &= ~word
            elif offset == self.IER:
                self._ier = word & self._inputs
            elif offset == self.SIE:
                self._ier |= word & self._inputs
            elif offset == self.CIE:
                self._ier &= ~word
            elif offset == self.MER:
                self._mer = word & 3
        self.update()

    def add_event(self, event: Any, _number: int) -> None:
        """What pynq calls on a UIO device: ``event.set()`` when the processor is interrupted."""
        with self._lock:
            self._waiting.append((event, asyncio.get_running_loop()))
        self.update()

    def update(self) -> None:
        """Take the inputs' levels over; interrupt the processor if that is due."""
        with self._lock:
            self._take()
            waiting = []
            if self._mer & 1 and self._isr & self._ier:
                waiting, self._waiting = self._waiting, []
        for event, loop in waiting:
            if not loop.is_closed():
                loop.call_soon_threadsafe(event.set)

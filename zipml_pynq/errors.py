"""Every error that this package raises on purpose; all derive from :class:`ZipmlError`."""

from __future__ import annotations

from typing import Any


class ZipmlError(Exception):
    """Base class: catch this to catch all of them."""

    def __reduce__(self) -> Any:
        # said here, and not left to the built-in bases, of which some have two: what carries errors
        # from process to process (tblib) would make such ones by the constructor of one of them
        return type(self), self.args, self.__dict__


class ArgumentError(ZipmlError, ValueError):
    """An argument is outside what is allowed; the message names it, its value and the range."""


class PackedFileError(ZipmlError, OSError):
    """A packed data set on disk is truncated, altered, of another version or no packed data set."""


class ModelFileError(ZipmlError, OSError):
    """A model on disk is truncated, altered, of another version or no model."""


class CheckpointError(ZipmlError, OSError):
    """A checkpoint of a distributed training is truncated, altered, or of another training."""


class WorkersLostError(ZipmlError, ConnectionError):
    """No worker is left that could train, or the scheduler is gone; a checkpoint goes on."""


class DownloadError(ZipmlError, ConnectionError):
    """A data set is neither in the cache nor to be had over the network."""


class DeviceError(ZipmlError, RuntimeError):
    """Base class of everything that goes wrong between driver and device."""


class DeviceConnectionError(DeviceError, ConnectionError):
    """The connection to a remote board broke, and what was on the board is lost."""


class OverlayMismatchError(DeviceError):
    """The overlay holds no ZipML IP, or one of another interface version, width or limits."""


class OverlayReplacedError(DeviceError):
    """The overlay that a driver was made for is not on the device any more, or was loaded again."""


class OverlayNotBuiltError(DeviceError, FileNotFoundError):
    """There is no bitstream for the board; the message says how to build one."""


class DeviceBufferError(DeviceError):
    """A buffer is of another device, too short, of the wrong dtype or not from ``allocate``."""


class OutOfDeviceMemoryError(DeviceError, MemoryError):
    """The device's contiguous memory does not hold what was asked for."""


class KernelTimeoutError(DeviceError, TimeoutError):
    """The kernel did not finish in time."""


class KernelStatusError(DeviceError):
    """The kernel ended with an error code in its status register."""


class DivergenceError(ZipmlError, ArithmeticError):
    """Training diverged: the model saturated or its loss grew without bound.

    Attributes
    ----------
    result : TrainResult or None
        What the run ended with, where there was one.
    """

    result: Any = None


class ZipmlWarning(UserWarning):
    """Something that a result should be read with: clamped values, buffers kept back."""

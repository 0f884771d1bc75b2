"""Boards for cases, runs by hand, memory that ends early, and the registers of a valid run."""

from zipml_pynq.accelerator.builds import load_build
from zipml_pynq.accelerator.run import Training
from zipml_pynq.accelerator.segments import streamed_layout
from zipml_pynq.errors import ArgumentError, OutOfDeviceMemoryError
from zipml_pynq.training.plan import SCHEDULE_COLUMNS


def engines():
    try:
        load_build("kernel")
    except ArgumentError:
        return ["engine"]
    return ["engine", "kernel"]


ENGINES = engines()


def board_for(board, case, **options):
    layout = case.packed.layout
    return board(word_bits=layout.word_bits, value_format=layout.value_format, **options)


def count_starts(driver, monkeypatch):
    starts = []
    start = driver.start
    monkeypatch.setattr(driver, "start", lambda: starts.append(1) or start())
    return starts


def limited(capacity):
    """_allocate_slot of a device whose memory holds slots of at most ``capacity`` blocks."""
    allocate = Training._allocate_slot

    def allocate_slot(training, size):
        if size > capacity:
            raise OutOfDeviceMemoryError(f"{size} blocks do not fit")
        return allocate(training, size)

    return allocate_slot


def prepared(driver, case):
    """Buffers for a run of ``case``, filled and bound, and the registers written."""
    layout = streamed_layout(case.packed.layout, case.plan)
    row = layout.chunks * layout.lanes
    buffers = {
        "planes": driver.allocate(case.packed.planes.shape, "u8"),
        "labels": driver.allocate(case.packed.labels.shape, "i4"),
        "model": driver.allocate(row, "i4"),
        "history": driver.allocate((case.plan.epochs, row), "i4"),
        "schedule": driver.allocate((case.plan.epochs, SCHEDULE_COLUMNS), "u4"),
    }
    buffers["planes"][:] = case.packed.planes
    buffers["labels"][:] = case.packed.labels
    buffers["model"][:] = 0
    buffers["model"][: layout.features] = case.model
    buffers["schedule"][:] = case.plan.schedule_table()
    driver.write_registers({**buffers, **case.plan.registers(case.packed.layout)})
    return buffers


def release(buffers):
    for buffer in buffers.values():
        buffer.freebuffer()


VALID = {
    "samples": 40,
    "features": 100,
    "batch": 8,
    "block_samples": 16,
    "block_stride": 16 * 2 * 5,
    "dither_offset": 16 * 2 * 3,
    "bits": 4,
    "sampling": 2,
    "epochs": 1,
    "delay": 2,
    "skip": 1,
    "pending": 1,
    "flags": 1,
    "loss": 0,
    "degree": 0,
    "range_log2": 0,
    "model_bits": 0,
    "model_shift": 0,
    "gradient_bits": 0,
    "seed": 0,
    "first_update": 0,
    "first_block": 0,
    "block_step": 1,
}

#: The same for a kernel with tables of levels.
VALID_LEVELS = {**VALID, "level_tables": 100}

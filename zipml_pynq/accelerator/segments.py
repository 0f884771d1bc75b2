"""A data set cut into what fits device memory: segments that give the bits of the whole."""

from __future__ import annotations

from dataclasses import dataclass, replace

from zipml_pynq.data.layout import Layout
from zipml_pynq.errors import ArgumentError
from zipml_pynq.training.plan import Plan


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

"""The file of a packed data set: its tensors and what it tells of itself (docs/data.md, "File")."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from zipml_pynq.data.layout import REFETCH, Layout, full_words
from zipml_pynq.data.names import Names
from zipml_pynq.data.normalization import Normalization
from zipml_pynq.data.tensor_file import FileKind
from zipml_pynq.errors import PackedFileError

#: The file of a packed data set.
FILE_KIND = FileKind(
    name="packed data set",
    format="zipml-pynq packed data set",
    version=2,
    error=PackedFileError,
    remedy="pack the data again",
    tensors={
        "planes": np.dtype("<u8"),
        "labels": np.dtype("<i4"),
        "mid": np.dtype("<f8"),
        "half": np.dtype("<f8"),
        "label_range": np.dtype("<f8"),
        "levels": np.dtype("<i2"),
        "full": np.dtype("<u8"),
        "weights": np.dtype("<i4"),
    },
    optional={
        "levels": lambda metadata: metadata.get("level_tables") != "0",
        "full": lambda metadata: metadata.get("value_format") == REFETCH,
        "weights": lambda metadata: metadata.get("weighted") == "1",
    },
)


def shapes_of(layout: Layout) -> dict[str, tuple[int, ...]]:
    """Shapes of what a layout alone says: planes, labels, and where it has them levels and rows."""
    rows = layout.blocks * layout.block_samples
    shapes: dict[str, tuple[int, ...]] = {
        "planes": (layout.blocks, layout.block_stride * layout.word_bits // 64),
        "labels": (rows,),
    }
    if layout.level_tables:
        shapes["levels"] = (layout.level_tables, layout.level_count)
    if layout.value_format == REFETCH:
        shapes["full"] = (rows, full_words(layout))
    return shapes


def metadata_of(
    layout: Layout,
    normalization: Normalization,
    names: Names,
    *,
    weighted: bool,
    seed: int,
    draw: int,
    batch: int,
    clipped: int,
) -> dict[str, str]:
    """What a file tells of a data set beside its tensors."""
    return {
        "samples": str(layout.samples),
        "features": str(layout.features),
        "word_bits": str(layout.word_bits),
        "block_samples": str(layout.block_samples),
        "bits": " ".join(map(str, layout.bits)),
        "sampling": layout.sampling,
        "value_format": layout.value_format,
        "level_tables": str(layout.level_tables),
        "independent": str(layout.independent),
        "weighted": str(int(weighted)),
        "intercept": str(int(normalization.intercept)),
        "seed": str(seed),
        "draw": str(draw),
        "batch": str(batch),
        "clipped": str(clipped),
        **names.metadata(),
    }


def normalization_tensors(normalization: Normalization) -> dict[str, NDArray]:
    return {
        "mid": normalization.mid,
        "half": normalization.half,
        "label_range": np.array(
            [normalization.label_mid, normalization.label_half], dtype=np.float64
        ),
    }

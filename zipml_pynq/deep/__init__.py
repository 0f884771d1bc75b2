"""Deep nets whose weights have few levels: ZipML's against XNOR-Net's; docs/deep.md.

Needs PyTorch: ``pip install 'zipml_pynq[deep]'``. Nothing else in this package imports it.
"""

try:
    import torch  # noqa: F401
except ImportError as error:
    raise ImportError(
        "zipml_pynq.deep needs PyTorch: pip install 'zipml_pynq[deep]'", name=error.name
    ) from error

from zipml_pynq.deep.quantizer import (
    RULES,
    LevelQuantizer,
    LevelTable,
    clipped_levels,
    freeze_weights,
    quantize_weights,
    quantized_layers,
    refresh_levels,
    remove_quantization,
    uniform_levels,
    xnor_levels,
)

__all__ = [
    "RULES",
    "LevelQuantizer",
    "LevelTable",
    "clipped_levels",
    "freeze_weights",
    "quantize_weights",
    "quantized_layers",
    "refresh_levels",
    "remove_quantization",
    "uniform_levels",
    "xnor_levels",
]

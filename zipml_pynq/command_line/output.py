"""What commands print: facts, as text or JSON, and bars on standard error."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import click
import numpy as np
from tqdm import tqdm

from zipml_pynq.data.packed import PackedDataset
from zipml_pynq.data.streams import RowFile
from zipml_pynq.learn.models import LinearModel


def report(facts: dict[str, Any], as_json: bool) -> None:
    """Print what came out: JSON, or a line a fact."""
    if as_json:
        click.echo(json.dumps(facts))
        return
    width = max(map(len, facts))
    for name, value in facts.items():
        if isinstance(value, float):
            value = f"{value:.6g}"
        elif isinstance(value, dict):
            value = ", ".join(f"{key}: {number:,}" for key, number in value.items())
        elif isinstance(value, list | tuple):
            value = ", ".join(map(str, value))
        elif isinstance(value, int) and not isinstance(value, bool):
            value = f"{value:,}"
        click.echo(f"{name.replace('_', ' '):{width}}  {value}")


@contextmanager
def bytes_bar(file: RowFile, passes: int, progress: bool | None, title: str) -> Iterator[RowFile]:
    """The same file, whose reading a bar follows."""
    size = file.size()
    with tqdm(
        total=None if size is None else passes * size,
        desc=title,
        unit="B",
        unit_scale=True,
        disable=not wanted(progress),
        leave=False,
    ) as bar:
        yield replace(file, advance=bar.update)


def wanted(progress: bool | None) -> bool:
    return sys.stderr.isatty() if progress is None else progress


def facts_of_packed(packed: PackedDataset, path: str) -> dict[str, Any]:
    layout, own = packed.layout, packed.normalization
    return {
        "kind": "packed data set",
        "samples": layout.samples,
        "columns": own.columns,
        "intercept": own.intercept,
        "bits": list(layout.bits),
        "sampling": layout.sampling,
        "value_format": layout.value_format,
        "labels": [own.label_mid - own.label_half, own.label_mid + own.label_half],
        "word_bits": layout.word_bits,
        "batch": packed.batch,
        "block_samples": layout.block_samples,
        "blocks": layout.blocks,
        "weighted": packed.weights is not None,
        "seed": packed.seed,
        "draw": packed.draw,
        "clipped": packed.clipped,
        "bytes_per_epoch": {str(b): layout.bytes_per_epoch(b) for b in layout.bits},
        "feature_names": None if packed.names.features is None else list(packed.names.features),
        "label_name": packed.names.label,
        "classes": None if packed.names.classes is None else list(packed.names.classes),
        "file_bytes": os.path.getsize(path) if os.path.isfile(path) else None,
    }


def facts_of_model(model: LinearModel) -> dict[str, Any]:
    told = model.details.get("told", {})
    return {
        "kind": "model",
        "task": "regression" if model.classes is None else "classification",
        "loss": model.loss,
        "classes": None if model.classes is None else model.classes.tolist(),
        "columns": model.normalization.columns,
        "feature_names": None if model.feature_names is None else list(model.feature_names),
        "label_name": model.label_name,
        "bits": list(model.bits),
        "epochs": told.get("n_iter_"),
        "bytes_streamed": told.get("bytes_streamed_"),
        "intercept": model.intercept.tolist(),
        "coef_sizes": np.abs(model.coef).max(axis=1).tolist(),
    }

"""A program that packs, trains, saves, loads and predicts with an installed package, and prints
hashes of what came out: on every machine, from every wheel, the same lines.

It needs nothing but the package, and draws its data as integers, whose bits no machine changes.
What depends on a mathematical library (a prediction is a sum of products, in an order that BLAS
chooses) is rounded before it is hashed. ``python -X warn_default_encoding`` makes it fail where the
package leaves the encoding of a file to the system. With the name of a file, it fails where its
lines are others than those in there.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np

import zipml_pynq
from zipml_pynq import LinearModel, PackedDataset, optimal_levels, pack, pack_file
from zipml_pynq._engine import ffi, lib
from zipml_pynq.accelerator.host import HostDriver
from zipml_pynq.data.streams import RowFile

#: Loss, sampling and bits of the model sent and of the gradient sent back.
RUNS: tuple[dict[str, Any], ...] = (
    {},
    {"sampling": "single"},
    {"loss": "logistic"},
    {"loss": "hinge", "delay": 3},
    {"loss": "squared_hinge", "l2": 1e-3},
    {"model_bits": 6, "gradient_bits": 8},
    {"feature_shifts": [j % 5 for j in range(131)]},
)
#: Numbers that a careless parser rounds otherwise: halves between float64, their neighbours, the
#: least normal one, and numbers whose exponents do not fit.
HARD = (
    "9007199254740993,1.00000000000000011102230246251565,179769313486231570000e288,4.9e-324",
    "2.2250738585072011e-308,1e-400,0.1000000000000000055511151231257827,123456789012345678901",
    "+3.14159265358979323846264338327950288,-7e22,8.5e-24,5e-324",
)

LINES: list[str] = []


def told(name: str, *arrays: Any) -> None:
    """One line: what it is, and the hash of the bytes of all."""
    digest = hashlib.sha256()
    for array in arrays:
        data = np.ascontiguousarray(array)
        # what is 32 bits wide on one machine is 64 on another
        data = data.astype(np.int64) if data.dtype.kind in "iu" and data.itemsize < 8 else data
        digest.update(data.tobytes())
    LINES.append(f"{name:32} {digest.hexdigest()[:24]}")
    print(LINES[-1])


def main() -> None:
    """Print all lines; on standard error, which package and which loops that was."""
    warnings.filterwarnings("error", category=EncodingWarning, module="zipml_pynq")
    loops = ffi.string(lib.zipml_engine_loops()).decode()
    print(f"{Path(zipml_pynq.__file__).parent}: {loops} loops", file=sys.stderr)
    integers = np.random.default_rng(24).integers
    X = integers(-(1 << 20), 1 << 20, (200, 130)) / float(1 << 18)
    w = integers(-8, 9, 130) / 16.0
    scores = X @ w  # exact: a few bits each
    labels = {True: np.where(scores >= 0, 1.0, -1.0), False: scores}
    for word_bits, bits in itertools.product((64, 512), (1, 2, 4, 8)):
        for loss in (False, True):
            packed = pack(X, labels[loss], bits=bits, word_bits=word_bits, batch=16)
            told(f"packed {word_bits} {bits} {loss}", packed.planes, packed.labels)
            for number, options in enumerate(RUNS):
                if ("loss" in options) != loss:
                    continue
                for threads in (1, 2):
                    driver = HostDriver(word_bits, threads=threads)
                    run = driver.train(packed, epochs=3, step=2.0**-10, judge=False, **options)
                    told(f"run {word_bits} {bits} {number} {threads}", run.history_fixed)
    files(X, scores)
    told("levels", optimal_levels(np.sort(X.ravel()), 9))


def files(X: Any, y: Any) -> None:
    """What goes through files and comes back."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "größe.zipml")  # a name that is not ASCII
        packed = pack(X, y, bits=4, batch=16)
        packed.save(path)
        told("file", np.frombuffer(path.read_bytes(), np.uint8))
        packed.save(path)  # over itself
        again = PackedDataset.load(path)
        driver = HostDriver(packed.layout.word_bits)
        run = driver.train(again, epochs=3, step=2.0**-8)
        told("run of the mapped file", run.history_fixed)
        del again
        model = LinearModel.from_result(run, packed.normalization, bits=4)
        model.save(Path(folder, "model"))
        told("model", np.frombuffer(Path(folder, "model").read_bytes(), np.uint8))
        told("predictions", np.round(LinearModel.load(Path(folder, "model")).predict(X), 9))
        text = Path(folder, "rows.csv")
        text.write_text("größe,b,c,y\n" + "".join(f"{row}\n" for row in HARD), encoding="utf-8")
        rows = RowFile(str(text), "csv", label="y")
        told("numbers of text", *(part for block in rows.blocks() for part in block))
        table = np.column_stack([X, y]).tolist()
        text.write_text("".join(",".join(map(repr, row)) + "\n" for row in table), encoding="utf-8")
        pack_file(RowFile(str(text)).blocks, Path(folder, "rows"), bits=4, batch=16)
        told("file of text", np.frombuffer(Path(folder, "rows").read_bytes(), np.uint8))
        left = sorted(os.listdir(folder))
        assert left == ["größe.zipml", "model", "rows", "rows.csv"], left


if __name__ == "__main__":
    main()
    for name in sys.argv[1:]:
        if Path(name).read_text(encoding="utf-8").splitlines() != LINES:
            sys.exit(f"not the lines of {name}")

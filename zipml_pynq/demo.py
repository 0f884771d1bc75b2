"""``make demo``: precision against convergence, on the emulated accelerator through real pynq.

Two data sets are trained at float32 and at 1 to 8 bits with nearest rounding, single sampling, and
double sampling with draws made once or afresh for every epoch. Every quantized row goes through
``pynq.Overlay`` and the driver; the 4-bit double-sampled row of the first data set runs the HLS
kernel itself and is compared with the engine, bit for bit.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zipml_pynq.data import datasets
from zipml_pynq.data.normalization import Normalization
from zipml_pynq.data.pack import pack
from zipml_pynq.data.packed import PackedDataset
from zipml_pynq.devices.overlay import load_overlay
from zipml_pynq.training import baseline
from zipml_pynq.training.make_plan import make_plan
from zipml_pynq.training.plan import Plan
from zipml_pynq.training.schedule import BOARDS, epoch_schedule, modelled_seconds

BITS = (1, 2, 4, 6, 8)
#: Rows of the table by the titles of the plot's panels.
SAMPLINGS = {
    "nearest": "nearest rounding",
    "single": "single sampling",
    "double": "double sampling, drawn once",
    "fresh": "double sampling, drawn every epoch",
}
#: The row that runs the HLS kernel instead of the engine.
KERNEL_ROW = ("double", 4)
BOARD = BOARDS["PYNQ-Z2"]
#: Float32 rows stream four bytes a value.
FLOAT_BITS = 32


@dataclass(frozen=True)
class Row:
    """One line of the demo's table.

    ``gap`` is the training loss's distance to float32's, relative; ``modelled_ms`` the modelled
    time of an epoch on the board; ``wall_ms`` the time of an epoch in emulation, here.
    """

    data: str
    sampling: str
    bits: int
    device: str
    train_loss: float
    test_loss: float
    gap: float
    bytes_per_epoch: int
    ratio: float
    modelled_ms: float
    wall_ms: float
    losses: list[float]


class Experiment:
    """One data set, normalized once, trained at every precision."""

    def __init__(
        self, data: datasets.Dataset, epochs: int, batch: int, kernel: bool = False
    ) -> None:
        self.data = data
        self.kernel = kernel
        self.epochs = epochs
        self.batch = batch
        self.normalization = Normalization.fit(data.X_train, data.y_train)
        self.values = self.normalization.transform(data.X_train)
        self.labels = self.normalization.transform_labels(data.y_train)
        self.test_values = self.normalization.transform(data.X_test)
        self.test_labels = self.normalization.transform_labels(data.y_test)
        self.float_loss = float("nan")

    def pack(self, bits: int, sampling: str) -> PackedDataset:
        """The training set at one precision, for a row of that sampling."""
        return pack(
            self.data.X_train,
            self.data.y_train,
            bits=bits,
            sampling="double" if sampling == "fresh" else sampling,
            batch=self.batch,
            normalization=self.normalization,
            value_format="float32" if bits == FLOAT_BITS else "bitplanes",
        )

    def row(
        self,
        packed: PackedDataset,
        plan: Plan,
        sampling: str,
        device: str,
        history: NDArray[np.float64],
        seconds: float,
    ) -> Row:
        """A line of the table out of the model after every epoch."""
        schedule = epoch_schedule(packed.layout, plan)
        floats = 4 * packed.layout.samples * packed.layout.features
        start = baseline.loss(self.values, self.labels, np.zeros(packed.layout.features))
        losses = [float(baseline.loss(self.values, self.labels, x)) for x in history]
        if packed.layout.value_format == "float32":
            self.float_loss = losses[-1]
        streamed = schedule.words * packed.layout.word_bits // 8
        return Row(
            data=self.data.name,
            sampling=sampling,
            bits=max(packed.layout.bits),
            device=device,
            train_loss=losses[-1],
            test_loss=float(baseline.loss(self.test_values, self.test_labels, history[-1])),
            gap=losses[-1] / self.float_loss - 1,
            bytes_per_epoch=streamed,
            ratio=floats / streamed,
            modelled_ms=1e3 * modelled_seconds(schedule, BOARD),
            wall_ms=1e3 * seconds / self.epochs,
            losses=[float(start), *losses],
        )

    def float32(self) -> Row:
        """Mini-batch SGD in float32 on the CPU: what every other row is compared with."""
        packed = self.pack(FLOAT_BITS, "single")
        plan = make_plan(packed, epochs=self.epochs)
        start = time.perf_counter()
        history = baseline.float_sgd(self.values, self.labels, plan.step, batch=self.batch)
        seconds = time.perf_counter() - start
        return self.row(packed, plan, "-", "CPU float32", history.astype(np.float64), seconds)

    def quantized(self, sampling: str, bits: int) -> Row:
        """One precision through Overlay and driver."""
        packed = self.pack(bits, sampling)
        plan = make_plan(packed, epochs=self.epochs, fresh=sampling == "fresh")
        redraw = (
            (lambda draw: packed.redraw(self.data.X_train, draw)) if sampling == "fresh" else None
        )
        engine = "kernel" if self.kernel and (sampling, bits) == KERNEL_ROW else "engine"
        with load_overlay("emulated", word_bits=packed.layout.word_bits, engine=engine) as loaded:
            start = time.perf_counter()
            result = loaded.driver.train(packed, plan, redraw=redraw)
            seconds = time.perf_counter() - start
        if engine == "kernel":
            with load_overlay("emulated", word_bits=packed.layout.word_bits) as loaded:
                again = loaded.driver.train(packed, plan)
            if not np.array_equal(again.history_fixed, result.history_fixed):
                raise SystemExit("the HLS kernel and the engine disagree: this is a bug")
        device = "HLS kernel" if engine == "kernel" else "engine"
        return self.row(packed, plan, sampling, device, result.history, seconds)


def table(rows: list[Row]) -> str:
    """The rows as text."""
    lines = []
    for name in dict.fromkeys(row.data for row in rows):
        lines += [
            "",
            f"{name}: loss is half the mean squared error of labels normalized to [-1, 1]",
            f"{'sampling':9} {'bits':>4} {'train loss':>11} {'test loss':>11} {'vs float32':>10} "
            f"{'bytes/epoch':>11} {'ratio':>6} {'board ms':>9} {'here ms':>8}  run by",
        ]
        for row in rows:
            if row.data == name:
                lines.append(
                    f"{row.sampling:9} {row.bits:4} {row.train_loss:11.6f} {row.test_loss:11.6f} "
                    f"{row.gap:+10.2%} {row.bytes_per_epoch:11,} {row.ratio:5.1f}x "
                    f"{row.modelled_ms:9.3f} {row.wall_ms:8.2f}  {row.device}"
                )
    lines += [
        "",
        f"board ms: one epoch on {BOARD.name}, modelled: {BOARD.clock / 1e6:.0f} MHz, "
        f"{BOARD.word_bits}-bit words, {BOARD.bandwidth / 1e9:.1f} GB/s peak (docs/schedule.md); "
        "the float32 row is the 32-bit kernel's.",
        "here ms: one epoch here, measured: float32 on the CPU, the others in software emulation "
        "with the driver's work around it.",
        "double: two draws of every value, made once and stored. fresh: the same, drawn again for "
        "every epoch.",
    ]
    return "\n".join(lines)


def plot(rows: list[Row], path: Path) -> None:
    """Training loss by epoch, a panel a data set and sampling."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    names = list(dict.fromkeys(row.data for row in rows))
    figure, axes = plt.subplots(
        len(names),
        len(SAMPLINGS),
        figsize=(15, 3.6 * len(names)),
        squeeze=False,
        sharex=True,
        sharey="row",
        layout="constrained",
    )
    colors = plt.get_cmap("viridis")(np.linspace(0.05, 0.85, len(BITS)))
    for i, name in enumerate(names):
        own = [row for row in rows if row.data == name]
        for axis, sampling in zip(axes[i], SAMPLINGS, strict=True):
            for bits, color in zip(BITS, colors, strict=True):
                row = next(r for r in own if (r.sampling, r.bits) == (sampling, bits))
                axis.plot(row.losses, color=color, label=f"{bits} bit" + "s" * (bits > 1))
            axis.plot(own[0].losses, "k--", label="float32", linewidth=1.2)
            axis.set_title(f"{name}\n{SAMPLINGS[sampling]}", fontsize=10)
            axis.set_yscale("log")
            axis.grid(alpha=0.3)
            if i == len(names) - 1:
                axis.set_xlabel("epoch")
        axes[i][0].set_ylabel("training loss")
    axes[0][-1].legend(fontsize=8)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def main(arguments: list[str] | None = None) -> int:
    """Run the demo; see ``python -m zipml_pynq.demo --help``."""
    parser = argparse.ArgumentParser(prog="zipml_pynq.demo", description=__doc__)
    parser.add_argument("--epochs", type=int, default=25, help="epochs for every row")
    parser.add_argument("--batch", type=int, default=16, help="samples a batch")
    parser.add_argument("--output", type=Path, default=Path("demo"), help="folder of the results")
    options = parser.parse_args(arguments)
    from tqdm import tqdm

    experiments = [
        Experiment(
            datasets.synthetic_regression(n_features=100),
            options.epochs,
            options.batch,
            kernel=True,
        ),
        Experiment(datasets.photo(), options.epochs, options.batch),
    ]
    rows: list[Row] = []
    modes = [(s, b) for s in SAMPLINGS for b in BITS]
    with tqdm(total=len(experiments) * (1 + len(modes)), unit="run") as bar:
        for experiment in experiments:
            bar.set_description(experiment.data.name)
            rows.append(experiment.float32())
            bar.update()
            for sampling, bits in modes:
                bar.set_postfix_str(f"{sampling} {bits} bit")
                rows.append(experiment.quantized(sampling, bits))
                bar.update()
    options.output.mkdir(parents=True, exist_ok=True)
    text = table(rows)
    print(text)
    picture = options.output / "convergence.png"
    plot(rows, picture)
    report: dict[str, Any] = {
        "epochs": options.epochs,
        "batch": options.batch,
        "board": asdict(BOARD),
        "rows": [asdict(row) for row in rows],
    }
    (options.output / "demo.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    (options.output / "table.txt").write_text(text.lstrip("\n") + "\n", encoding="utf-8")
    print(f"\nconvergence plot: {picture}   numbers: {options.output / 'demo.json'}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

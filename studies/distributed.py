"""``make study-distributed``: what averaging costs, and how far it scales.

Shards' models are averaged in rounds of a quarter, one and four epochs, their changes sent at 32
(exact), 8, 4 and 2 bits; the loss is compared with one machine's after as many passes. Then from 1
to 1,000 shards: losses are those of real arithmetic, seconds are modelled, of boards as of the
coordinator. Results: ``studies/results/distributed.json`` and ``.md``.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from benchmarks.common import data_file, parser_of, publish
from docs.write_numbers.markdown import percent, table
from zipml_pynq.accelerator.host import HostDriver
from zipml_pynq.constants import LIMITS, MODEL_ONE
from zipml_pynq.data import datasets
from zipml_pynq.data.normalization import Normalization
from zipml_pynq.data.pack import pack
from zipml_pynq.data.packed import PackedDataset
from zipml_pynq.distributed import train_on
from zipml_pynq.distributed.averaging import AUTO_MOMENTUM, EXACT, shard_seed
from zipml_pynq.distributed.measures import common_plans
from zipml_pynq.errors import ZipmlWarning
from zipml_pynq.learn.objective import Course
from zipml_pynq.learn.problem import SIGNS
from zipml_pynq.training.losses import objective
from zipml_pynq.training.plan import Plan
from zipml_pynq.training.schedule import BOARDS, Mode, epoch_schedule, modelled_seconds

BITS, BATCH, DELAY = 4, 16, 1
SHARDS = 4
LENGTHS, CHANGES = (0.25, 1, 4), (EXACT, 8, 4, 2)
MOMENTA = (AUTO_MOMENTUM, 0.0)
#: Training rows that losses are taken on, at most.
SEEN = 20_000
#: Shards of the second part, its rows and features, and passes over them.
SCALE, ROWS, FEATURES, PASSES = (1, 4, 16, 64, 256, 1000), 400_000, 100, 40
#: What a round costs beside training: a network of 1 Gbit/s at the coordinator; seconds of the
#: scheduler and the client for each task (``make bench`` measures them); bytes of a task's and an
#: answer's envelope; seconds of a message there and back.
BANDWIDTH, TASK_SECONDS, ENVELOPE, TRIP = 125e6, 1e-3, 2_000, 5e-3
BOARD = BOARDS["PYNQ-Z2"]


@dataclass(frozen=True)
class Problem:
    """Raw samples, the labels of one or more models, loss, and passes."""

    name: str
    X: NDArray[np.float32]
    labels: list[NDArray[np.float64]]
    loss: str = "least_squares"
    passes: int = 60


def problems() -> Iterator[Problem]:
    """The paper's sets; real ones where their files are at hand."""
    for features in (10, 100, 1000):
        data = datasets.synthetic_regression(features, n_test=1)
        yield Problem(f"Synthetic {features}", data.X_train, [data.y_train.astype(float)])
    for name in ("cadata", "cpusmall"):
        if path := data_file(name):
            data = datasets.load_npz(path)
            yield Problem(name, data.X_train, [data.y_train.astype(float)])
    if path := data_file("mnist"):
        with np.load(path) as archive:
            X = archive["X_train"].reshape(60_000, -1).astype(np.float32)
            digits = archive["y_train"]
        labels = [np.where(digits == digit, 1.0, -1.0) for digit in range(10)]
        yield Problem("MNIST, ten classes", X, labels, "squared_hinge", 40)


class Here:
    """Shards in this process, asked as :mod:`zipml_pynq.distributed.measures` asks a cluster's."""

    def __init__(self, shards: Sequence[PackedDataset]) -> None:
        self.shards = shards

    def each(self, work: Any, *arguments: Any) -> list[Any]:
        return [work(shard, *arguments) for shard in self.shards]

    def first(self, work: Any, *arguments: Any) -> Any:
        return work(self.shards[0], *arguments)


class Study:
    """One data set, dealt out to some shards in random order."""

    def __init__(self, problem: Problem, shards: int) -> None:
        self.problem = problem
        self.normalization = Normalization.fit(problem.X, problem.labels[0])
        order = np.random.default_rng(0).permutation(len(problem.X))
        self.rows = np.array_split(order, shards)
        self.packed = [
            pack(
                problem.X[rows],
                problem.labels[0][rows],
                bits=BITS,
                batch=BATCH,
                block_samples=self._block(len(rows)),
                normalization=self.normalization,
                seed=shard_seed(0, number),
            )
            for number, rows in enumerate(self.rows)
        ]
        # float64, so that taking an objective converts nothing
        self.seen = order[:SEEN]
        self.values = self.normalization.transform(problem.X[self.seen]).astype(np.float64)

    def _block(self, rows: int) -> int:
        """Samples of a block: eight blocks a shard, or more, and what fits on chip."""
        chunks = -(-self.normalization.features // 64)
        most = LIMITS["bitplanes"].block_words // ((BITS + 1) * chunks)
        return max(BATCH, min(256, most, rows // 8) // BATCH * BATCH)

    def shards(self, model: int) -> list[PackedDataset]:
        """With the labels of one model."""
        if self.problem.loss == "least_squares":
            return self.packed
        labels = self.problem.labels[model]
        return [
            p.relabel(labels[r], None, SIGNS) for p, r in zip(self.packed, self.rows, strict=True)
        ]

    def plan(self, shards: Sequence[PackedDataset]) -> Plan:
        options = {
            "bits": BITS,
            "sampling": "symmetric",
            "batch": BATCH,
            "delay": DELAY,
            "l2": 0.0,
            "loss": self.problem.loss,
            "epochs": self.problem.passes,
            "step": "auto",
            "schedule": "constant",
            "shuffle": True,
            "feature_shifts": "auto",
        }
        return common_plans(Here(shards), [0], options, self.problem.passes)[0]  # type: ignore[arg-type]

    def loss(self, histories: Sequence[NDArray[np.int32]], number: int = 0) -> float:
        """Objective, mean over models, of the mean of the later half of so many first rounds."""
        losses = []
        for model, history in enumerate(histories):
            mean = Course(True, history=[history]).models([number or len(history)])[0] / MODEL_ONE
            z = self.labels(model)
            losses.append(objective(self.problem.loss, self.values, z, mean))
        return float(np.mean(losses))

    def labels(self, model: int) -> NDArray[np.float64]:
        if self.problem.loss == "least_squares":
            return self.normalization.transform_labels(self.problem.labels[0][self.seen])
        return self.problem.labels[model][self.seen]

    def histories(self, **options: Any) -> tuple[list[NDArray[np.int32]], int]:
        """Models after every round, of each model, and bytes sent."""
        found, sent = [], 0
        for model in range(len(self.problem.labels)):
            shards = self.shards(model)
            result = train_on(drivers(), shards, self.plan(shards), **options)
            found.append(result.history_fixed)
            sent += result.bytes_sent
        return found, sent


def drivers() -> list[HostDriver]:
    return [HostDriver()] * len(os.sched_getaffinity(0))


def averaging(problem: Problem) -> dict[str, Any]:
    """Losses of rounds and bits, beside one machine's."""
    one = Study(problem, 1)
    alone = one.loss(one.histories(round_epochs=1, change_bits=EXACT)[0])
    study = Study(problem, SHARDS)
    rows = []
    runs = [
        (length, bits, momentum) for momentum in MOMENTA for length in LENGTHS for bits in CHANGES
    ]
    for length, bits, momentum in tqdm(runs, desc=problem.name, unit="run"):
        histories, sent = study.histories(round_epochs=length, change_bits=bits, momentum=momentum)
        row = {"round_epochs": length, "bits": bits, "momentum": momentum, "bytes_sent": sent}
        rows.append({**row, "loss": study.loss(histories)})
    zero = study.loss([np.zeros((1, h.shape[1]), np.int32) for h in histories])
    return {
        "name": problem.name,
        "samples": len(problem.X),
        "features": study.normalization.features,
        "loss": problem.loss,
        "passes": problem.passes,
        "start": zero,
        "one": alone,
        "rows": rows,
    }


def round_seconds(shards: int, packed: PackedDataset, sent: int) -> tuple[float, float]:
    """Seconds of an epoch's training on a board, and of a round's messages, both modelled."""
    layout = packed.layout
    epoch = modelled_seconds(epoch_schedule(layout, Mode(BITS, "symmetric", BATCH, DELAY)), BOARD)
    moved = shards * (sent + 4 * layout.features + 2 * ENVELOPE)
    return epoch, TRIP + moved / BANDWIDTH + shards * TASK_SECONDS


def scale() -> dict[str, Any]:
    """Losses by passes from 1 to 1,000 shards, rounds of an epoch at 8 bits."""
    data = datasets.synthetic_regression(FEATURES, n_train=ROWS, n_test=1)
    problem = Problem("scale", data.X_train, [data.y_train.astype(float)], passes=PASSES)
    rows = []
    for shards in tqdm(SCALE, desc="shards", unit="run"):
        study = Study(problem, shards)
        (history,), sent = study.histories(round_epochs=1, change_bits=8)
        a_shard = sent // shards // PASSES
        epoch, messages = round_seconds(shards, study.packed[0], a_shard)
        rows.append(
            {
                "shards": shards,
                "losses": [study.loss([history], n) for n in range(1, PASSES + 1)],
                "bytes_a_shard": a_shard,
                "epoch_seconds": epoch,
                "message_seconds": messages,
            }
        )
    best = min(min(row["losses"]) for row in rows)
    for row in rows:
        near = [n for n, loss in enumerate(row["losses"], 1) if loss <= 1.01 * best]
        row["rounds_to_1_percent"] = near[0] if near else None
    return {"samples": ROWS, "features": FEATURES + 1, "passes": PASSES, "rows": rows}


# ---- Tables ------------------------------------------------------------------------------------


def length_shown(length: float) -> str:
    return {0.25: "1/4 epoch", 1: "1 epoch"}.get(length, f"{length:g} epochs")


def averaging_table(reports: Sequence[dict[str, Any]]) -> str:
    """Losses above one machine's after as many passes."""
    names = (report["name"] for report in reports)
    rows = []
    for momentum in MOMENTA:
        for length in LENGTHS:
            for bits in CHANGES:
                cells = []
                for report in reports:
                    (row,) = (
                        r
                        for r in report["rows"]
                        if (r["round_epochs"], r["bits"], r["momentum"]) == (length, bits, momentum)
                    )
                    cells.append(percent(row["loss"] / report["one"] - 1, 2))
                first = bits == CHANGES[0]
                shown = [f"{momentum:g}", length_shown(length)] if first else ["", ""]
                rows.append([*shown, "32 (exact)" if bits == EXACT else str(bits), *cells])
    return table(["momentum", "rounds of", "bits of a change", *names], rows, 3)


def scale_table(report: dict[str, Any]) -> str:
    """Passes and modelled seconds from 1 to 1,000 shards."""
    head = [
        "shards",
        "rows each",
        "loss after 5 passes, above the best",
        f"after {report['passes']}",
        "rounds to within 1 %",
        "an epoch's training",
        "a round's messages",
        "time to within 1 %",
    ]
    best = min(min(row["losses"]) for row in report["rows"])
    rows = []
    for row in report["rows"]:
        near = row["rounds_to_1_percent"]
        each = row["epoch_seconds"] + row["message_seconds"]
        rows.append(
            [
                f"{row['shards']:,}",
                f"{report['samples'] // row['shards']:,}",
                percent(row["losses"][4] / best - 1),
                percent(row["losses"][-1] / best - 1),
                str(near or "-"),
                f"{1e3 * row['epoch_seconds']:.3g} ms",
                f"{1e3 * row['message_seconds']:.3g} ms",
                f"{near * each:.2f} s" if near else "-",
            ]
        )
    return table(head, rows)


def markdown(report: dict[str, Any]) -> str:
    return "\n".join(
        [
            "# Averaging over shards\n",
            f"Emulated: {SHARDS} shards, {BITS} bits a value, drawn once. Losses above one "
            "machine's after as many passes.\n",
            averaging_table(report["averaging"]),
            f"\nSynthetic, {report['scale']['samples']:,} x {report['scale']['features']}, rounds "
            f"of an epoch at 8 bits; seconds modelled, for a {BOARD.name} a shard.\n",
            scale_table(report["scale"]),
            "",
        ]
    )


def main() -> None:
    parser = parser_of(__doc__, "studies")
    parser.add_argument("--only", help="a part of the names of the data sets to run")
    options = parser.parse_args()
    warnings.simplefilter("ignore", ZipmlWarning)
    chosen = [p for p in problems() if not options.only or options.only in p.name]
    report = {"scale": scale(), "averaging": [averaging(problem) for problem in chosen]}
    publish(options.output, "distributed", report, markdown(report))


if __name__ == "__main__":
    main()

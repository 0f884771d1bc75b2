"""The command ``zipml``: data sets packed, models trained, predictions made from a shell.

Needs click and tqdm (``pip install 'zipml_pynq[cli]'``); docs/command_line.md shows every command.
Exit codes: 0 all is well, 1 it failed, 2 an argument is not what is allowed. An error is one line
on standard error. Files are written whole or not at all.
"""

from __future__ import annotations

import json
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any, TextIO

import click
import numpy as np
from click.shell_completion import get_completion_class
from numpy.typing import NDArray
from tqdm import tqdm

from zipml_pynq.constants import MAX_BITS, WORD_BITS
from zipml_pynq.errors import ArgumentError, ZipmlError
from zipml_pynq.losses import APPROXIMATIONS, LOSSES
from zipml_pynq.models import FILE_KIND as MODEL_KIND
from zipml_pynq.models import LinearModel
from zipml_pynq.pack import (
    BITPLANES,
    FLOAT32,
    LEVEL_CHOICES,
    REFETCH,
    PackedDataset,
    pack,
    pack_file,
)
from zipml_pynq.pack import FILE_KIND as PACKED_KIND
from zipml_pynq.plan import SCHEDULES
from zipml_pynq.quantize import SAMPLINGS
from zipml_pynq.streams import FORMATS, RowFile
from zipml_pynq.tensor_file import check_target, format_of, written

FAILURE, USAGE = 1, 2
SHELLS = ("bash", "zsh", "fish")
#: Environment variable that click's completion scripts set.
_COMPLETE = "_ZIPML_COMPLETE"
#: Shells complete names of files; what they hold is checked where they are read.
_FILE = click.Path(allow_dash=True)
#: Of the board's command; importing its module takes pynq.
_PYNQ_PORT = 7967


# ---- Parameters --------------------------------------------------------------------------------


class Bits(click.ParamType):
    """Precisions: "4", "2,4", "1-8"; as a schedule also "2x5,4", five epochs of 2 and then 4."""

    name = "bits"

    def __init__(self, schedule: bool = False, also: tuple[int, ...] = ()) -> None:
        self.schedule = schedule
        self.also = also

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[int, ...]:
        if isinstance(value, tuple):
            return value
        found: list[int] = []
        try:
            for part in value.split(","):
                first, _, times = part.partition("x")
                low, _, high = first.partition("-")
                span = range(int(low), int(high or low) + 1)
                found += [*span] * (int(times) if times and self.schedule else 1)
                if not span or (times and not self.schedule) or (times and int(times) < 1):
                    raise ValueError
            if not all(1 <= bits <= MAX_BITS or bits in self.also for bits in found):
                raise ValueError
        except ValueError:
            example = "2x5,4 (five epochs of 2, then 4)" if self.schedule else "2,4 or 1-8"
            also = "".join(f", {bits}" for bits in self.also)
            self.fail(f"it was {value!r}; allowed are 1..{MAX_BITS}{also}, such as 4, or {example}")
        return tuple(found)


class Auto(click.ParamType):
    """ "auto" or a number above 0."""

    name = "auto|number"

    def convert(self, value: Any, param: Any, ctx: Any) -> float | str:
        if value == "auto" or isinstance(value, float):
            return value
        try:
            number = float(value)
        except ValueError:
            number = 0.0
        if not (np.isfinite(number) and number > 0):
            self.fail(f"it was {value!r}; allowed are 'auto' and numbers above 0")
        return number


def rows_options(command: Any) -> Any:
    """How files of samples are read."""
    for option in (
        click.option(
            "--format",
            "file_format",
            type=click.Choice(["auto", *FORMATS]),
            default="auto",
            help="Of INPUT; auto: by its name, else by its first line.",
        ),
        click.option(
            "--label",
            metavar="COLUMN",
            help="Name, or number from 1 on, of the column of labels of a table [the last].",
        ),
        click.option("--zero-based", is_flag=True, help="LIBSVM indices begin with 0, not 1."),
        click.option(
            "--part",
            type=click.Choice(["train", "test"]),
            default="train",
            help="Of an .npz that holds both.",
        ),
    ):
        command = option(command)
    return command


def common_options(command: Any) -> Any:
    """What every command that takes a while has."""
    command = click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")(command)
    return click.option(
        "--progress/--no-progress",
        default=None,
        help="A progress bar on standard error [where that is a terminal].",
    )(command)


# ---- Output ------------------------------------------------------------------------------------


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
    size = None if file.format == "npz" or file.path.endswith(".npz") else file.size()
    with tqdm(
        total=None if size is None else passes * size,
        desc=title,
        unit="B",
        unit_scale=True,
        disable=not _wanted(progress),
        leave=False,
    ) as bar:
        yield replace(file, advance=bar.update)


def _wanted(progress: bool | None) -> bool:
    return sys.stderr.isatty() if progress is None else progress


# ---- Commands ----------------------------------------------------------------------------------


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="zipml_pynq", message="%(package)s %(version)s")
def zipml() -> None:
    """Linear models trained from data at 1 to 8 bits a value.

    `zipml COMMAND --help` tells of each command; `zipml completion --help` of the shell's.
    """


@zipml.command()
@click.argument("source", metavar="INPUT", type=_FILE)
@click.argument("output", type=_FILE)
@rows_options
@click.option("--bits", type=Bits(), default="4", show_default=True, help="Precisions to store.")
@click.option("--sampling", type=click.Choice(SAMPLINGS), help="Dithers to store [double].")
@click.option("--dithers", type=int, help="Of --sampling independent, 2 to 8.")
@click.option(
    "--levels",
    type=click.Choice(LEVEL_CHOICES),
    default="uniform",
    show_default=True,
    help="Fitted ones take all samples in memory.",
)
@click.option(
    "--value-format",
    type=click.Choice([BITPLANES, FLOAT32, REFETCH]),
    default=BITPLANES,
    show_default=True,
)
@click.option(
    "--word-bits",
    type=click.Choice([str(bits) for bits in WORD_BITS]),
    default="64",
    show_default=True,
    help="Of the device's memory port.",
)
@click.option("--batch", type=int, default=16, show_default=True, help="Samples a batch.")
@click.option("--no-intercept", is_flag=True, help="Leave out the feature that is always 1.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of all draws.")
@common_options
def prepare(
    source: str,
    output: str,
    file_format: str,
    label: str | None,
    zero_based: bool,
    part: str,
    bits: tuple[int, ...],
    sampling: str | None,
    dithers: int | None,
    levels: str,
    value_format: str,
    word_bits: str,
    batch: int,
    no_intercept: bool,
    seed: int,
    as_json: bool,
    progress: bool | None,
) -> None:
    """Pack the samples of INPUT (LIBSVM, CSV or .npz; - for standard input) into the file OUTPUT.

    INPUT is read twice, a few megabytes at a time, so it may be larger than memory; standard input
    is copied to a temporary file for that. Rows keep their order: shuffle a file that is sorted.
    """
    start = time.perf_counter()
    check_target(output)
    options: dict[str, Any] = {
        "sampling": sampling,
        "dithers": dithers,
        "value_format": value_format,
        "word_bits": int(word_bits),
        "batch": batch,
        "intercept": not no_intercept,
        "seed": seed,
    }
    if value_format != FLOAT32:
        options["bits"] = bits
    with ExitStack() as stack:
        file = RowFile(source, file_format, label, zero_based, part=part).spooled(stack)
        fitted = levels != "uniform"
        file = stack.enter_context(bytes_bar(file, 1 if fitted else 2, progress, "prepare"))
        if fitted:
            X, y = _whole(file)
            packed = pack(X, y, levels=levels, **options)
            packed.save(output)
        else:
            packed = pack_file(_labelled(file), output, **options)
    facts = _facts_of_packed(packed, output)
    report({**facts, "seconds": time.perf_counter() - start}, as_json)


def _labelled(file: RowFile) -> Callable[[], Iterator[tuple[Any, NDArray]]]:
    """The blocks of a file that must have labels."""

    def blocks() -> Iterator[tuple[Any, NDArray]]:
        for X, y in file.blocks():
            if y is None:
                raise ArgumentError(f"INPUT was '{file.shown}', which has no labels")
            yield X, y

    return blocks


def _whole(file: RowFile) -> tuple[Any, NDArray]:
    """All samples of a file, and their labels."""
    from scipy.sparse import csr_matrix, issparse, vstack

    blocks = list(_labelled(file)())
    labels = np.concatenate([y for _, y in blocks])
    parts = [X for X, _ in blocks]
    if not issparse(parts[0]):
        return np.concatenate(parts), labels
    width = max(X.shape[1] for X in parts)
    for X in parts:
        X.resize(X.shape[0], width)
    return csr_matrix(vstack(parts)), labels


@zipml.command()
@click.argument("data", metavar="PACKED", type=_FILE)
@click.argument("output", metavar="MODEL", type=_FILE)
@click.option(
    "--loss",
    type=click.Choice(tuple(LOSSES)),
    default="least_squares",
    show_default=True,
    help="Others than least squares classify.",
)
@click.option("--classify", is_flag=True, help="Least squares on classes (LS-SVM).")
@click.option(
    "--bits",
    type=Bits(schedule=True, also=(32,)),
    help="Of every epoch, the last for all that follow: 4, or 2x5,4 [the most that are stored].",
)
@click.option(
    "--sampling",
    type=click.Choice(["auto", "double", "plain", "single", "nearest", "independent"]),
    default="auto",
    show_default=True,
)
@click.option("--approximation", type=click.Choice(APPROXIMATIONS), default="direct")
@click.option("--degree", type=int, help="Of --approximation chebyshev, 1 to 7.")
@click.option("--epochs", type=int, default=20, show_default=True, help="At most.")
@click.option("--tol", type=float, help="Stop when the objective falls by less, relative.")
@click.option("--early-stopping", is_flag=True, help="Hold a tenth out and keep its best epoch.")
@click.option("--batch", type=int, help="Samples a batch [what the data were packed for].")
@click.option("--step", type=Auto(), default="auto", show_default=True, help="Of the first epoch.")
@click.option("--schedule", type=click.Choice(tuple(SCHEDULES)), default="inverse")
@click.option("--l2", type=float, default=0.0, show_default=True, help="Weight of |x|^2 / 2.")
@click.option("--model-bits", type=int, default=0, help="Quantize the model on its way.")
@click.option("--gradient-bits", type=int, default=0, help="Quantize the gradient on its way.")
@click.option("--shuffle-blocks", is_flag=True, help="Take blocks in another order every epoch.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option(
    "--device",
    default="emulated",
    show_default=True,
    help="A board's name, or the path of a bitstream.",
)
@common_options
def train(
    data: str,
    output: str,
    loss: str,
    classify: bool,
    bits: tuple[int, ...] | None,
    sampling: str,
    approximation: str,
    degree: int | None,
    epochs: int,
    tol: float | None,
    early_stopping: bool,
    batch: int | None,
    step: float | str,
    schedule: str,
    l2: float,
    model_bits: int,
    gradient_bits: int,
    shuffle_blocks: bool,
    seed: int,
    device: str,
    as_json: bool,
    progress: bool | None,
) -> None:
    """Train a linear model on the file PACKED (from `zipml prepare`) and write it to MODEL.

    Least squares is regression unless --classify is given; other losses classify, several classes
    one against the rest. PACKED is mapped, not read, and streamed to the device in segments.
    """
    check_target(output)
    packed = PackedDataset.load(data)
    from zipml_pynq.estimators import ZipMLClassifier, ZipMLRegressor

    start = time.perf_counter()
    classifies = classify or loss != "least_squares"
    stored = max(packed.layout.bits)
    chosen: Any = bits or (stored,)
    estimator = (ZipMLClassifier if classifies else ZipMLRegressor)(
        loss,
        bits=chosen[0] if len(chosen) == 1 else chosen,
        sampling=sampling,
        approximation=approximation,
        degree=degree,
        refetch=packed.layout.value_format == REFETCH,
        fit_intercept=packed.normalization.intercept,
        max_iter=epochs,
        tol=tol,
        early_stopping=early_stopping,
        batch_size=packed.batch if batch is None else batch,
        eta0=step,
        learning_rate=schedule,
        alpha=l2,
        model_bits=model_bits,
        gradient_bits=gradient_bits,
        shuffle="epochs" if shuffle_blocks else True,
        random_state=seed,
        device=device,
        verbose=int(_wanted(progress)),
    )
    estimator.fit(packed)
    seconds = time.perf_counter() - start
    model = estimator.to_model()
    model.save(output)
    facts = {
        "model": output,
        "loss": loss,
        "bits": list(model.bits),
        "epochs": estimator.n_iter_,
        "objective": float(estimator.loss_curve_[-1]),
        "bytes_streamed": estimator.bytes_streamed_,
        "saturated": estimator.saturated_,
    }
    if model.classes is not None:
        facts["classes"] = model.classes.tolist()
    report({**facts, "seconds": seconds}, as_json)


@zipml.command()
@click.argument("model_path", metavar="MODEL", type=_FILE)
@click.argument("source", metavar="INPUT", type=_FILE)
@rows_options
@click.option(
    "--output", "-o", type=_FILE, help="Write predictions to this file, not to standard output."
)
@click.option("--probabilities", is_flag=True, help="Of every class, separated by commas.")
@common_options
def predict(
    model_path: str,
    source: str,
    file_format: str,
    label: str | None,
    zero_based: bool,
    part: str,
    output: str | None,
    probabilities: bool,
    as_json: bool,
    progress: bool | None,
) -> None:
    """Predict the samples of INPUT (LIBSVM, CSV or .npz; - for standard input), a line each.

    Samples are read and predictions written a few megabytes at a time. Where INPUT has labels,
    scores go to standard error. --json prints a summary with them in place of the predictions,
    which then go to --output or nowhere.
    """
    start = time.perf_counter()
    model = LinearModel.load(model_path)
    if probabilities and model.loss != "logistic":
        raise ArgumentError(
            f"--probabilities was given for the loss {model.loss!r}; allowed is 'logistic'"
        )
    columns = model.normalization.columns
    file = RowFile(source, file_format, label, zero_based, columns, part)
    scores = _Scores(model.classes is not None)
    with ExitStack() as stack:
        file = stack.enter_context(bytes_bar(file, 1, progress, "predict"))
        out: TextIO | None = None if as_json else sys.stdout
        if output is not None:
            out = stack.enter_context(written(output))
        for X, y in file.blocks():
            found = model.predict(X)
            if out is not None:
                lines = _lines(model.predict_proba(X) if probabilities else found)
                out.write("\n".join(lines) + "\n")
            scores.update(found, y)
    facts = scores.facts()
    if as_json:
        seconds = time.perf_counter() - start
        report({"rows": scores.rows, "output": output, **facts, "seconds": seconds}, True)
    elif facts:
        click.echo("  ".join(f"{name} {value:.6g}" for name, value in facts.items()), err=True)


def _lines(found: NDArray) -> list[str]:
    """A line of text for each row: numbers as they are read back, classes as they are called."""
    if found.ndim == 2:
        return [",".join(map(repr, row)) for row in found.tolist()]
    values = found.tolist()
    return values if found.dtype.kind == "U" else list(map(repr, values))


class _Scores:
    """How well predictions meet labels, row block by row block."""

    def __init__(self, classes: bool) -> None:
        self.classes = classes
        self.rows = self.labelled = 0
        self.right = 0
        self.shift = self.squares = self.total = self.errors = 0.0

    def update(self, found: NDArray, y: NDArray | None) -> None:
        self.rows += len(found)
        if y is None:
            return
        if self.classes:
            labels = found.astype(np.float64) if found.dtype.kind in "biuf" else None
            self.right += 0 if labels is None else int((labels == y).sum())
            self.labelled += 0 if labels is None else len(y)
            return
        y = np.asarray(y, dtype=np.float64)
        if self.labelled == 0:
            # sums of squares of numbers far from 0 would cancel
            self.shift = float(y[0])
        self.labelled += len(y)
        self.total += float((y - self.shift).sum())
        self.squares += float(((y - self.shift) ** 2).sum())
        self.errors += float(((found - y) ** 2).sum())

    def facts(self) -> dict[str, float]:
        if self.labelled == 0:
            return {}
        if self.classes:
            return {"accuracy": self.right / self.labelled}
        spread = self.squares - self.total**2 / self.labelled
        facts = {"rmse": (self.errors / self.labelled) ** 0.5}
        if spread > 0:
            facts["r2"] = 1 - self.errors / spread
        return facts


@zipml.command()
@click.argument("path", type=_FILE)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")
def inspect(path: str, as_json: bool) -> None:
    """Tell what the file PATH holds, a packed data set or a model, and whether it is whole."""
    try:
        found = format_of(path)
    except OSError as error:
        raise ArgumentError(f"PATH was '{path}', which cannot be read: {error.strerror}") from error
    if found == PACKED_KIND.format:
        report(_facts_of_packed(PackedDataset.load(path), path), as_json)
    elif found == MODEL_KIND.format:
        report(_facts_of_model(LinearModel.load(path)), as_json)
    else:
        raise ZipmlError(f"'{path}' is neither a packed data set nor a model")


def _facts_of_packed(packed: PackedDataset, path: str) -> dict[str, Any]:
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
        "file_bytes": os.path.getsize(path),
    }


def _facts_of_model(model: LinearModel) -> dict[str, Any]:
    told = model.details.get("told", {})
    return {
        "kind": "model",
        "task": "regression" if model.classes is None else "classification",
        "loss": model.loss,
        "classes": None if model.classes is None else model.classes.tolist(),
        "columns": model.normalization.columns,
        "feature_names": None if model.feature_names is None else list(model.feature_names),
        "bits": list(model.bits),
        "epochs": told.get("n_iter_"),
        "bytes_streamed": told.get("bytes_streamed_"),
        "intercept": model.intercept.tolist(),
        "coef_sizes": np.abs(model.coef).max(axis=1).tolist(),
    }


@zipml.command()
@click.argument("model_path", metavar="MODEL", type=_FILE)
@click.argument("output", metavar="ONNX", type=_FILE)
@click.option(
    "--dtype",
    type=click.Choice(["float32", "float64"]),
    default="float32",
    show_default=True,
    help="Of the samples, and of what comes out.",
)
def export(model_path: str, output: str, dtype: str) -> None:
    """Write the model MODEL as an ONNX graph to the file ONNX (extra `onnx`)."""
    check_target(output)
    LinearModel.load(model_path).to_onnx(output, dtype)


@zipml.command()
@click.option("--samples", type=click.IntRange(64), default=50_000, show_default=True)
@click.option("--features", type=click.IntRange(1, 32_000), default=100, show_default=True)
@click.option("--batch", type=click.IntRange(1, 256), default=64, show_default=True)
@click.option("--bits", type=Bits(), default="1,2,4,8", show_default=True)
@click.option("--epochs", type=click.IntRange(1, 1000), default=10, show_default=True)
@click.option("--threads", type=click.IntRange(0, 1024), default=1, show_default=True)
@common_options
def bench(
    samples: int,
    features: int,
    batch: int,
    bits: tuple[int, ...],
    epochs: int,
    threads: int,
    as_json: bool,
    progress: bool | None,
) -> None:
    """Measure this machine: seconds an epoch of the emulated device at several precisions.

    Made-up data, double sampled, least squares, beside our float32 SGD with as many threads. An
    epoch's time is what more epochs add to a training, each the best of three, so that what starts
    and ends a training is not in it.
    """
    from zipml_pynq import reference
    from zipml_pynq.datasets import synthetic_regression
    from zipml_pynq.devices import load_overlay
    from zipml_pynq.native import machine

    made = synthetic_regression(features, samples, 1)
    packed = pack(made.X_train, made.y_train, bits=bits, word_bits=512, batch=batch)
    values = packed.normalization.transform(made.X_train)
    labels = packed.normalization.transform_labels(made.y_train)
    memory = max(64 << 20, 2 * packed.planes.nbytes)
    rows: list[dict[str, Any]] = []
    with (
        load_overlay("emulated", word_bits=512, memory_bytes=memory, threads=threads) as loaded,
        tqdm(total=len(bits) + 1, desc="bench", disable=not _wanted(progress), leave=False) as bar,
    ):

        def measure(bits: int, size: int, run: Callable[[int], Any]) -> None:
            short, long = (_best(run, count) for count in (epochs, 3 * epochs))
            rows.append({"bits": bits, "seconds": (long - short) / (2 * epochs), "bytes": size})
            bar.update()

        measure(
            32,
            values.nbytes,
            lambda count: reference.float_sgd(
                values, labels, np.full(count, 1e-3), batch=batch, threads=threads
            ),
        )
        for b in bits:

            def run(count: int, b: int = b) -> None:
                loaded.driver.train(packed, bits=b, epochs=count, step=1e-3)

            measure(b, packed.layout.bytes_per_epoch(b), run)
    for row in rows:
        row["times_float32"] = rows[0]["seconds"] / row["seconds"]
    about = machine()
    if as_json:
        shape = {"samples": samples, "features": features, "batch": batch, "threads": threads}
        report({"machine": about, **shape, "rows": rows}, True)
        return
    click.echo(f"{about['cpu']}, {about['cores']} cores, {about['loops']} loops")
    click.echo(f"{samples:,} x {features:,}, batch {batch}, double sampled, {threads} thread(s)")
    click.echo("bits  ms an epoch  MB an epoch  x float32")
    for row in rows:
        click.echo(
            f"{row['bits']:4}  {1e3 * row['seconds']:11.3f}  {row['bytes'] / 1e6:11.2f}  "
            f"{row['times_float32']:9.2f}"
        )


def _best(run: Callable[[int], Any], epochs: int) -> float:
    """Seconds of the quickest of three trainings."""
    times = []
    for _ in range(3):
        start = time.perf_counter()
        run(epochs)
        times.append(time.perf_counter() - start)
    return min(times)


@zipml.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen at.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=_PYNQ_PORT,
    show_default=True,
    help="pynq asks at the default; 0 takes any free one.",
)
@click.option(
    "--allow-remote",
    is_flag=True,
    help="Allow a --host that other machines reach; there is no authentication.",
)
@click.option("--clients", type=int, default=4, show_default=True, help="At a time.")
@click.option(
    "--memory-mib",
    type=int,
    default=128,
    show_default=True,
    help="Contiguous memory of each client's board.",
)
@click.option("--engine", type=click.Choice(["engine", "kernel"]), default="engine")
@click.option("--clock-mhz", type=float, help="Let runs last as long as at this clock.")
@click.option("--verbose", is_flag=True, help="Tell who connects.")
def board(
    host: str,
    port: int,
    allow_remote: bool,
    clients: int,
    memory_mib: int,
    engine: str,
    clock_mhz: float | None,
    verbose: bool,
) -> None:
    """Serve the emulated board to pynq (PYNQ_REMOTE_DEVICES=127.0.0.1), until it is interrupted."""
    import logging

    from zipml_pynq.board import serve

    logging.basicConfig(level=logging.INFO if verbose else logging.WARNING, format="%(message)s")
    serve(
        host,
        port,
        allow_remote=allow_remote,
        clients=clients,
        memory_bytes=memory_mib << 20,
        engine=engine,
        clock_mhz=clock_mhz,
    )


@zipml.command()
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")
def devices(as_json: bool) -> None:
    """List what --device takes, and the devices that pynq finds here."""
    import pynq

    from zipml_pynq import bitstreams
    from zipml_pynq.interface import VLNV
    from zipml_pynq.native import machine

    boards: list[dict[str, Any]] = []
    for name, target in bitstreams.TARGETS.items():
        boards.append(
            {
                "device": name,
                "board": target.board.name,
                "word_bits": target.board.word_bits,
                "clock_mhz": target.board.clock / 1e6,
                "built": [kind for kind in VLNV if bitstreams.at_hand(name, kind)],
            }
        )
    try:
        found = [f"{type(device).__name__} {device.name}" for device in pynq.Device.devices]
    except Exception as error:  # a board in the network that does not answer, for one
        raise ZipmlError(f"pynq cannot list its devices: {error}") from error
    emulated: dict[str, Any] = {
        "device": "emulated",
        "word_bits": list(WORD_BITS),
        "loops": machine()["loops"],
    }
    if as_json:
        report({"emulated": emulated, "boards": boards, "pynq": found}, True)
        return
    words = "/".join(map(str, WORD_BITS))
    click.echo(f"emulated   words of {words} bits, {emulated['loops']} loops")
    for entry in boards:
        built = ", ".join(entry["built"]) or "none"
        click.echo(
            f"{entry['device']:9}  {entry['board']}, words of {entry['word_bits']} bits, "
            f"{entry['clock_mhz']:g} MHz; bitstreams: {built}"
        )
    click.echo(f"pynq       {', '.join(found) or 'finds no device here'}")


@zipml.command()
@click.argument("shell", type=click.Choice(SHELLS))
def completion(shell: str) -> None:
    """Print the script that completes commands and options in SHELL.

    bash: eval "$(zipml completion bash)" in ~/.bashrc; zsh: the same with zsh in ~/.zshrc; fish:
    zipml completion fish > ~/.config/fish/completions/zipml.fish
    """
    found = get_completion_class(shell)
    assert found is not None
    click.echo(found(zipml, {}, "zipml", _COMPLETE).source())


# ---- Errors ------------------------------------------------------------------------------------


def _show_warning(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
    """Warnings of ours as one line; those of libraries are for programmers."""
    from zipml_pynq.errors import ZipmlWarning

    ours = issubclass(category, ZipmlWarning | RuntimeWarning)
    if ours or category.__name__ == "ConvergenceWarning":
        click.echo(f"zipml: warning: {_one_line(message)}", err=True)


def _one_line(message: object) -> str:
    return " ".join(str(message).split())


def _fail(message: object, code: int) -> int:
    click.echo(f"zipml: error: {_one_line(message)}", err=True)
    return code


def main(arguments: list[str] | None = None) -> int:
    """Run the command; the exit code."""
    with warnings.catch_warnings():
        warnings.showwarning = _show_warning
        try:
            result = zipml.main(arguments, prog_name="zipml", standalone_mode=False)
            sys.stdout.flush()
            return int(result or 0)
        except click.exceptions.NoArgsIsHelpError as error:
            click.echo(error.format_message(), err=True)
            return USAGE
        except click.UsageError as error:
            where = error.ctx.command_path.removeprefix("zipml").strip() if error.ctx else ""
            return _fail(f"{where}: {error.format_message()}".removeprefix(": "), USAGE)
        except click.Abort:
            return _fail("interrupted", FAILURE)
        except ArgumentError as error:
            return _fail(error, USAGE)
        except BrokenPipeError:
            # who read our output has gone; Python would complain about it again at its end
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return FAILURE
        except (ZipmlError, OSError, ImportError, MemoryError) as error:
            return _fail(error or type(error).__name__, FAILURE)

"""``zipml train``: a linear model from a packed file."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import click

from zipml_pynq.command_line.group import zipml
from zipml_pynq.command_line.options import FILE, Auto, Bits, common_options
from zipml_pynq.command_line.output import (
    report,
    wanted,
)
from zipml_pynq.data.files import check_target
from zipml_pynq.data.layout import REFETCH
from zipml_pynq.data.packed import PackedDataset
from zipml_pynq.training.losses import APPROXIMATIONS, LOSSES
from zipml_pynq.training.make_plan import SCHEDULES


@zipml.command()
@click.argument("data", metavar="PACKED", type=FILE)
@click.argument("output", metavar="MODEL", type=FILE)
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
@click.option("--epochs", type=int, default=1000, show_default=True, help="At most.")
@click.option(
    "--tol",
    type=float,
    default=1e-3,
    show_default=True,
    help="Stop when so little is left to gain; 0 or less: never.",
)
@click.option("--early-stopping", is_flag=True, help="Hold a tenth out and keep its best epoch.")
@click.option("--batch", type=int, help="Samples a batch [what the data were packed for].")
@click.option("--step", type=Auto(), default="auto", show_default=True, help="Of the first epoch.")
@click.option("--schedule", type=click.Choice(("auto", *SCHEDULES)), default="auto")
@click.option(
    "--l2",
    type=Auto(zero=True),
    default="auto",
    show_default=True,
    help="Weight of |x|^2 / 2; auto: as Ridge has it on standardized columns.",
)
@click.option("--model-bits", type=int, default=0, help="Quantize the model on its way.")
@click.option("--gradient-bits", type=int, default=0, help="Quantize the gradient on its way.")
@click.option("--shuffle-blocks", is_flag=True, help="Take blocks in another order every epoch.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option(
    "--device",
    default="host",
    show_default=True,
    help="This machine, emulated, a board's name, or the path of a bitstream.",
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
    tol: float,
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
    from zipml_pynq.learn.classifier import ZipMLClassifier
    from zipml_pynq.learn.regressor import ZipMLRegressor

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
        tol=tol if tol > 0 else None,
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
        verbose=int(wanted(progress)),
    )
    estimator.fit(packed)
    seconds = time.perf_counter() - start
    model = replace(estimator.to_model(), label_name=packed.names.label)
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

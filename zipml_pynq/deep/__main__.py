"""``python -m zipml_pynq.deep``: train on CIFAR-10 or MNIST, draw the curves."""

from __future__ import annotations

import argparse
import json
from dataclasses import fields
from pathlib import Path

import torch

from zipml_pynq.deep.data import DATA_SETS, load_pictures
from zipml_pynq.deep.quantizer import PARTS, ROUNDINGS, RULES, freeze_weights
from zipml_pynq.deep.train import Settings, plot_curves, train
from zipml_pynq.errors import ZipmlError

CHOICES = {"levels": ("full", *RULES), "rounding": ROUNDINGS, "per": PARTS}


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m zipml_pynq.deep",
        description="Train Caffe's small CIFAR-10 network with weights on few levels.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--data", choices=tuple(DATA_SETS), default="cifar10")
    parser.add_argument("--folder", type=Path, default=Path("data"), help="where pictures are kept")
    parser.add_argument("--output", type=Path, default=Path("deep"), help="checkpoint, curves, net")
    for field in fields(Settings):
        flag = f"--{field.name}"
        if isinstance(field.default, bool):
            parser.add_argument(
                flag, action=argparse.BooleanOptionalAction, default=field.default, help=" "
            )
        else:
            parser.add_argument(
                flag,
                type=type(field.default),
                choices=CHOICES.get(field.name),
                default=field.default,
                help=" ",
            )
    options = parser.parse_args(arguments)
    try:
        settings = Settings(**{f.name: getattr(options, f.name) for f in fields(Settings)})
        pictures = load_pictures(options.data, options.folder)
        from tqdm import tqdm

        name = f"{options.data}-{settings.name}-seed{settings.seed}"
        steps = settings.epochs * (len(pictures.train) // settings.batch)
        with tqdm(total=steps, desc=name, unit="step") as bar:
            trained = train(
                pictures, settings, options.output / f"{name}.checkpoint", progress=bar.update
            )
    except ZipmlError as error:
        parser.error(str(error))
    for epoch, row in enumerate(trained.history, 1):
        print(f"epoch {epoch}: loss {row['loss']:.4f}, test accuracy {100 * row['accuracy']:.2f} %")
    (options.output / f"{name}.json").write_text(
        json.dumps(trained.history, indent=1) + "\n", encoding="utf-8"
    )
    plot_curves({settings.name: [trained.history]}, options.output / f"{name}.png")
    torch.save(freeze_weights(trained.net.eval()).state_dict(), options.output / f"{name}.pt")
    print(f"checkpoint, curves and weights are in {options.output}")


if __name__ == "__main__":
    main()

"""The table of default steps in docs/step.md: ``python -m studies.step`` prints it."""

from __future__ import annotations

from zipml_pynq import load_overlay, make_plan, pack
from zipml_pynq.data.datasets import synthetic_regression
from zipml_pynq.training import baseline
from zipml_pynq.training.make_plan import step_sizes

EPOCHS = 25
BITS = range(1, 9)


def table() -> str:
    """The Markdown table: step and loss over float32's, by sampling and bits."""
    data = synthetic_regression(100, n_test=1)
    exact = None
    lines = ["| bits | " + " | ".join(map(str, BITS)) + " |", "|---|" + "---|" * len(BITS)]
    for row in ("symmetric", "fresh", "plain", "single", "nearest"):
        stored = row if row in ("single", "nearest") else "double"
        sampling = "symmetric" if row == "fresh" else row
        steps, losses = [], []
        for bits in BITS:
            packed = pack(data.X_train, data.y_train, bits=bits, sampling=stored)
            values = packed.normalization.transform(data.X_train)
            labels = packed.normalization.transform_labels(data.y_train)
            if exact is None:
                known = baseline.float_sgd(values, labels, step_sizes(0.5, "inverse", EPOCHS))
                exact = baseline.loss(values, labels, known[-1])
            plan = make_plan(packed, sampling=sampling, epochs=EPOCHS, fresh=row == "fresh")

            def again(epoch: int, packed=packed):
                return packed.redraw(data.X_train, epoch)

            with load_overlay("emulated") as (_, driver):
                result = driver.train(packed, plan, redraw=again if row == "fresh" else None)
            steps.append(f"{plan.step[0]:.3g}")
            losses.append(f"{baseline.loss(values, labels, result.model) / exact:.3f}")
        name = "symmetric, fresh draws" if row == "fresh" else row
        lines.append(f"| step, {name} | " + " | ".join(steps) + " |")
        lines.append(f"| loss, {name} | " + " | ".join(losses) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())

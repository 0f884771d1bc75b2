"""What hypothesis draws for the builds: any combination that the accelerator takes."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from tests.cases import Case, random_case
from zipml_pynq.constants import CONFIG, LIMITS, WORD_BITS
from zipml_pynq.data.layout import most_bits
from zipml_pynq.training.losses import LOSSES

#: Outputs of a build that count something, as the reference calls them.
COUNTERS = ("words", "modelled_cycles", "saturations", "outside", "clipped", "refetched")

#: Value formats, those of a kernel each.
FORMATS = tuple(LIMITS)
#: Largest shifts of steps of features; 0: all have the run's.
SHIFTS = (0, 0, 1, 4, CONFIG.max_feature_shift)
#: Sizes of corrections: none, small, and up to what their words hold.
CORRECTIONS = (0.0, 1e-6, 0.3)


@st.composite
def any_options(draw: Any, value_format: str) -> dict[str, Any]:
    """Arguments of make_plan: loss and its derivative, costs, quantization, order."""
    loss = "hinge" if value_format == "refetch" else draw(st.sampled_from(sorted(LOSSES)))
    options: dict[str, Any] = {"loss": loss, "seed": draw(st.integers(0, 2**32 - 1))}
    if loss != "least_squares":
        options["class_costs"] = draw(st.sampled_from([(1.0, 1.0), (0.25, 2.5), (3.0, 0.5)]))
    if value_format in ("bitplanes", "wide") and loss != "least_squares" and draw(st.booleans()):
        options["approximation"] = "chebyshev"
        options["degree"] = draw(st.integers(1, CONFIG.max_degree))
        options["range_log2"] = draw(st.integers(0, 2))
    elif loss == "logistic":
        options["range_log2"] = draw(st.integers(0, CONFIG.max_range_log2))
    options["l1"] = draw(st.sampled_from([0.0, 0.0, 1e-3, 0.2]))
    for name, ranges in (("model", (0.25, 1.0, 4.0)), ("gradient", (0.01, 1.0))):
        bits = draw(st.sampled_from([0, CONFIG.min_quantized_bits, 5, CONFIG.max_quantized_bits]))
        if bits:
            options |= {f"{name}_bits": bits, f"{name}_range": draw(st.sampled_from(ranges))}
    return options


@st.composite
def any_case(draw: Any) -> Case:
    """A case of any format, loss, approximation, sampling and quantization."""
    value_format = draw(st.sampled_from(FORMATS))
    options = draw(any_options(value_format))
    word_bits = draw(st.sampled_from(WORD_BITS))
    features = draw(st.integers(1, 140))
    batch = draw(st.integers(1, 20))
    sampling = draw(st.sampled_from(["single", "nearest", "plain", "symmetric"]))
    if "approximation" in options:
        sampling = "independent"
        batch = max(batch, -(-CONFIG.polynomial_distance // -(-features // word_bits)))
    # one call runs one order
    options["shuffle"] = draw(st.booleans())
    epochs = 1 if options["shuffle"] else draw(st.integers(1, 3))
    l2 = draw(st.sampled_from([0.0, 0.02]))
    frozen = epochs == 1 and l2 == 0 and options["l1"] == 0 and draw(st.booleans())
    return random_case(
        draw(st.integers(0, 2**31)),
        sampling=sampling,
        bits=draw(st.integers(1, most_bits(value_format))),
        epochs=epochs,
        step=draw(st.sampled_from([0.01, 0.3, 1.2])),
        l2=l2,
        delay=draw(st.integers(0, CONFIG.max_delay)),
        model_scale=draw(st.sampled_from([0.0, 0.1, 1.0, 50.0])),
        value_format=value_format,
        options=options,
        samples=draw(st.integers(1, 70)),
        features=features,
        word_bits=word_bits,
        batch=batch,
        blocks=draw(st.integers(1, 5)),
        own_tables=draw(st.booleans()),
        largest_shift=draw(st.sampled_from(SHIFTS)),
        correction=0.0 if value_format == "float32" else draw(st.sampled_from(CORRECTIONS)),
        frozen=frozen,
        weighted=draw(st.booleans()),
    )


@st.composite
def segmented_case(draw: Any) -> tuple[Case, int]:
    """A case that runs in segments, and how many blocks a segment has.

    What dot products see of a quantized model is drawn anew from the model that a call starts with;
    from a delay of 2 on that is not the model that they would have seen in one piece.
    """
    value_format = draw(st.sampled_from(FORMATS))
    options = draw(any_options(value_format))
    delay = draw(st.integers(0, 1 if options.get("model_bits") else 5))
    independent = "approximation" in options
    case = random_case(
        draw(st.integers(0, 2**31)),
        sampling="independent" if independent else draw(st.sampled_from(["plain", "symmetric"])),
        bits=draw(st.integers(1, most_bits(value_format))),
        step=0.1,
        l2=0.1,
        delay=delay,
        value_format=value_format,
        options=options,
        samples=draw(st.integers(33, 83)),
        features=70,
        batch=8 if independent else draw(st.sampled_from([4, 8])),
        blocks=5,
        largest_shift=draw(st.sampled_from(SHIFTS)),
        correction=0.0 if value_format == "float32" else draw(st.sampled_from(CORRECTIONS)),
        weighted=draw(st.booleans()),
    )
    return case, draw(st.integers(1, 3))

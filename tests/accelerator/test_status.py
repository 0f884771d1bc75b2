"""What the builds report: their capability, and their judgement of registers."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.accelerator.runs import VALID, VALID_LEVELS
from zipml_pynq.accelerator import interface
from zipml_pynq.accelerator.builds import load_build
from zipml_pynq.accelerator.capability import Capability
from zipml_pynq.accelerator.status import STATUS, expected_status
from zipml_pynq.constants import CONFIG, WORD_BITS
from zipml_pynq.data.layout import FORMAT_CODES
from zipml_pynq.errors import ArgumentError


def builds():
    for name in ("engine", "kernel"):
        try:
            yield load_build(name)
        except ArgumentError:
            assert name == "kernel"  # which needs the vendor's headers


BUILDS = list(builds())


def judge(build, registers, word_bits, value_format):
    """Results of a run with these registers and no memory: for invalid registers only."""
    code = FORMAT_CODES[value_format]
    pointers = dict.fromkeys(interface.INTERFACES[value_format].pointers, 0)
    return build.run(word_bits, code, pointers, registers)


@pytest.mark.parametrize("build", BUILDS, ids=lambda b: b.name)
@pytest.mark.parametrize("word_bits", WORD_BITS)
@pytest.mark.parametrize("value_format", interface.VLNV)
def test_capability(build, word_bits, value_format):
    results = judge(
        build, dict.fromkeys(interface.INTERFACES[value_format].scalars, 0), word_bits, value_format
    )
    assert results["status"] == CONFIG.status_samples
    assert results["version"] == CONFIG.interface_version
    found = Capability.decode(results["capability"])
    assert found == Capability.expected(word_bits, value_format)


def test_capability_of_an_unknown_format():
    assert Capability.decode(9 << 56).value_format == "format 9"


def edges(name):
    """Values at which the judgement on a register may change."""
    limits = {
        "samples": [0, 1, 8, 16, 17, 1 << 31],
        "features": [0, 1, 64, 65, 4096, 4097, 8192, 8193, 32768, 32769, (1 << 32) - 1],
        "batch": [0, 1, 3, 16, 256, 257, (1 << 32) - 1],
        "block_samples": [0, 8, 12, 256, 819, 820, 4096, 4104],
        "block_stride": [0, (1 << 32) - 1],
        "dither_offset": [0, (1 << 32) - 1],
        "bits": [0, 1, 2, 8, 9, 31, 32, 33],
        "sampling": [0, 1, 3, 4],
        "epochs": [0, 2, 65536, 65537],
        "delay": [0, 1, 3, 7, 8],
        "skip": [0, 2, 4, 5, 4095, (1 << 32) - 1],
        "pending": [0, 2, 3, 7, 8],
        "flags": [0, 2, 3, 4, 5, 8, 15, 16, 17, 31, 32, 1 << 31],
        "loss": [0, 1, 2, 3, 4, 5],
        "degree": [0, 1, 7, 8, (1 << 32) - 1],
        "range_log2": [0, 6, 7],
        "model_bits": [0, 1, 2, 16, 17],
        "model_shift": [0, (1 << 32) - 1],
        "gradient_bits": [0, 1, 2, 16, 17],
        "seed": [0, (1 << 32) - 1],
        "first_update": [0, (1 << 32) - 1],
        "first_block": [0, 1, 2, 3, (1 << 32) - 1],
        "block_step": [0, 1, 2, 3, 4],
        "level_tables": [0, 1, 2, 64, 65, 4096, 8192, 32768, (1 << 32) - 1],
    }
    return limits[name]


@st.composite
def registers(draw):
    """Valid registers with a few of them at an edge."""
    values = dict(VALID_LEVELS)
    for name in draw(st.lists(st.sampled_from(list(values)), max_size=5, unique=True)):
        values[name] = draw(st.sampled_from(edges(name)))
    if draw(st.booleans()):  # independent samples and a polynomial go together
        values |= {"sampling": 3, "loss": 4, "degree": draw(st.sampled_from(edges("degree")))}
    if draw(st.booleans()):  # nothing that holds back rules other registers out
        values |= {"flags": values["flags"] & 30, "skip": 0, "pending": 0}
    if draw(st.booleans()):  # one table a feature, whatever number of them
        values["level_tables"] = values["features"]
    return values


@pytest.mark.parametrize("build", BUILDS, ids=lambda b: b.name)
@settings(max_examples=300, deadline=None)
@given(
    values=registers(),
    word_bits=st.sampled_from(WORD_BITS),
    value_format=st.sampled_from(list(interface.VLNV)),
)
def test_judgement_of_registers_is_the_builds(build, values, word_bits, value_format):
    if value_format == "float32":
        values = {**values, "bits": {4: 32}.get(values["bits"], values["bits"])}
        values["sampling"] = {2: 0}.get(values["sampling"], values["sampling"])
    if value_format == "refetch":
        values = {**values, "loss": {0: 1}.get(values["loss"], values["loss"])}
    values = {name: values[name] for name in interface.INTERFACES[value_format].scalars}
    status = expected_status(values, word_bits, value_format)
    if status == CONFIG.status_ok:
        return  # the build would run; test_run.py trains
    assert judge(build, values, word_bits, value_format)["status"] == status


def test_valid_registers_are_valid():
    assert expected_status(VALID, 64, "bitplanes") == CONFIG.status_ok
    assert expected_status(VALID_LEVELS, 64, "levels") == CONFIG.status_ok


def test_every_status_is_told():
    statuses = {
        name: value for name, value in vars_of(CONFIG).items() if name.startswith("status_")
    }
    assert set(STATUS) == set(statuses.values()) - {CONFIG.status_ok}
    assert {name for name, _ in STATUS.values()} <= set(VALID_LEVELS)


def vars_of(config):
    return {name: getattr(config, name) for name in dir(config)}

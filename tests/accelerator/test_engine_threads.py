"""The engine on threads, with every set of loops and beside a mapped file: the same bits."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.cases import LOOPS, Case, force_loops, random_case, run_build, run_segments
from zipml_pynq.accelerator.builds import load_build
from zipml_pynq.constants import CONFIG
from zipml_pynq.data.pack import pack

ENGINE = load_build("engine")


COUNTERS = ("saturations", "outside", "clipped")


def outcome_of(case: Case, threads: int) -> tuple[bytes, bytes, list[int]]:
    """Model, history and what was counted on so many threads."""
    outcome = run_build(ENGINE, case.packed, case.plan, case.model, threads=threads)
    counts = [outcome.registers[name] for name in COUNTERS]
    return outcome.model.tobytes(), outcome.history.tobytes(), counts


def check_threads(case: Case, counts: tuple[int, ...]) -> None:
    """So many threads give what one does."""
    expected = outcome_of(case, 1)
    for threads in counts:
        assert outcome_of(case, threads) == expected


@pytest.mark.parametrize("value_format", ["bitplanes", "float32", "levels"])
@pytest.mark.parametrize("word_bits", [64, 512])
@pytest.mark.parametrize("features", [65, 500, 1000])
@pytest.mark.parametrize("delay", [0, 2])
def test_threads_do_not_change_a_bit(
    value_format: str, word_bits: int, features: int, delay: int
) -> None:
    # a step at which residuals, coefficients and entries saturate too
    case = random_case(
        features,
        value_format=value_format,
        word_bits=word_bits,
        features=features,
        delay=delay,
        samples=150,
        batch=4,
        step=3.0,
        l2=0.01,
        model_scale=50.0,
        own_tables=False,
    )
    check_threads(case, (0, 2, 3, 7, 64))


@pytest.mark.parametrize("value_format", ["bitplanes", "float32", "levels"])
@pytest.mark.parametrize("delay", [0, 1, 3])
@pytest.mark.parametrize("seed", range(3))
def test_threads_do_not_change_a_bit_of_many_tiles(
    value_format: str, delay: int, seed: int
) -> None:
    # batches of several tiles, the last of which is finished while the next batch is loaded
    case = random_case(
        seed,
        value_format=value_format,
        word_bits=512,
        features=1000,
        delay=delay,
        samples=410,
        batch=60,
        own_tables=False,
    )
    check_threads(case, (2, 3, 16))


@pytest.mark.parametrize("value_format", ["bitplanes", "float32", "levels"])
@pytest.mark.parametrize("features", [130, 330, 700, 1300, 2100])
@pytest.mark.parametrize("delay", [0, 2])
def test_threads_with_unequal_shares_have_the_same_tiles(
    value_format: str, features: int, delay: int
) -> None:
    case = random_case(
        features,
        value_format=value_format,
        bits=3,
        word_bits=512,
        features=features,
        delay=delay,
        samples=130,
        batch=60,
        epochs=1,
        own_tables=False,
    )
    check_threads(case, (2, 3, 5, 7, 11))


@pytest.mark.parametrize("value_format", ["bitplanes", "float32", "levels"])
@pytest.mark.parametrize("delay", [0, 1, 3])
@pytest.mark.parametrize("features", [20, 100, 256])
def test_threads_that_share_samples_do_not_change_a_bit(
    value_format: str, delay: int, features: int
) -> None:
    # a last batch of 6 samples leaves threads without any
    for number, (step, scale) in enumerate(((2.0**-20, 0.01), (2.0**-5, 1.0), (3.0, 50.0))):
        case = random_case(
            number,
            bits=(4, 1, 8)[number],
            value_format=value_format,
            word_bits=64,
            features=features,
            delay=delay,
            samples=3 * 24 + 6,
            batch=24,
            step=step,
            l2=0.01 * number,
            model_scale=scale,
            label_scale=scale,
            weighted=number == 2,
            options={"loss": ("least_squares", "logistic", "squared_hinge")[number]},
            own_tables=False,
        )
        check_threads(case, (2, 3, 6, 9))


def test_threads_that_share_samples_count_what_is_clipped_once() -> None:
    options = {"model_bits": 4, "model_range": 0.5, "gradient_bits": 8, "gradient_range": 1e-3}
    case = random_case(1, features=100, samples=186, batch=60, model_scale=1.0, options=options)
    assert outcome_of(case, 1)[2][2] > 100
    check_threads(case, (2, 5))


@pytest.mark.parametrize("label_bits", range(20, 31, 2))
@pytest.mark.parametrize("large", [slice(0, 8), slice(24, 32), slice(0, 32)])
def test_threads_meet_where_sums_leave_32_bits(label_bits: int, large: slice) -> None:
    """A part of a gradient fits 32 bits and another does not, or all do and their sum does not."""
    case = random_case(label_bits, features=100, samples=96, batch=32, step=0.5)
    labels = case.packed.labels.copy()
    labels.reshape(-1, 32)[:, large] = 2**label_bits
    check_threads(replace(case, packed=replace(case.packed, labels=labels)), (2, 4))


#: Trains on a mapped file with so many bytes of its own memory, and no more, than it has before.
MAPPED = """
import resource, sys
import numpy as np
from zipml_pynq.constants import CONFIG
from zipml_pynq.accelerator.builds import load_build
from zipml_pynq.data.packed import PackedDataset
from zipml_pynq.training.make_plan import make_plan

packed = PackedDataset.load(sys.argv[1], verify=False)
layout, build = packed.layout, load_build("engine")
plan = make_plan(packed, epochs=1, batch=64, step=1e-3)
row = layout.chunks * layout.lanes
arrays = {
    "planes": packed.planes, "labels": packed.labels, "schedule": plan.schedule_table(),
    "model": np.zeros(row, np.int32), "history": np.zeros(row, np.int32),
}
pointers = {name: array.ctypes.data for name, array in arrays.items()}
status = open("/proc/self/status").read()
own = 1024 * int(status.partition("VmData:")[2].split()[0])
limit = own + int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
scalars = plan.registers(layout)
registers = build.run(layout.word_bits, CONFIG.format_bit_planes, pointers, scalars)
assert registers["status"] == CONFIG.status_ok
assert arrays["model"].any()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits of memory are Linux's")
def test_training_needs_little_memory_beside_a_mapped_file(tmp_path: Path) -> None:
    path = tmp_path / "packed.safetensors"
    rng = np.random.default_rng(0)
    X = rng.uniform(-1, 1, (50_000, 500)).astype(np.float32)
    packed = pack(X, X[:, 0], bits=8, word_bits=512, batch=64)
    packed.save(path)
    assert packed.planes.nbytes > 25e6
    # rows and sums of some batches, which do not grow with the samples
    subprocess.run([sys.executable, "-c", MAPPED, str(path), str(4 << 20)], check=True)


def test_segments_on_threads_give_the_bits_of_one_piece() -> None:
    case = random_case(6, delay=3, batch=4, blocks=5, samples=83, features=300)
    whole = run_build(ENGINE, case.packed, case.plan, case.model)
    model, history, _ = run_segments(ENGINE, case.packed, case.plan, case.model, 2, threads=3)
    np.testing.assert_array_equal(history, whole.history)
    np.testing.assert_array_equal(model, whole.model)


@pytest.mark.parametrize("loops", [name for name in LOOPS if name != "portable"])
def test_all_loops_give_the_bits_of_the_portable_ones(
    monkeypatch: pytest.MonkeyPatch, loops: str
) -> None:
    force_loops(monkeypatch, loops)
    for seed in range(48):
        case = random_case(
            seed,
            bits=seed % 8 + 1,
            sampling=("symmetric", "plain", "single", "symmetric")[seed // 8 % 4],
            features=(3, 64, 130, 700)[seed % 4],
            batch=(5, 16, 40, 64, 100)[seed % 5],
            samples=210,
            value_format="levels" if seed % 7 == 0 else "bitplanes",
            own_tables=seed % 2 == 0,
            step=(0.01, 15.0)[seed % 9 == 4],
            model_scale=(0.01, 1.0, 100.0)[seed % 3],
            word_bits=(64, 512)[seed % 2],
            largest_shift=(0, 0, 0, 1, 4, 8, CONFIG.max_feature_shift)[seed % 7],
        )
        monkeypatch.setenv("ZIPML_LOOPS", loops)
        outcomes = [outcome_of(case, threads) for threads in (1, 2)]
        monkeypatch.setenv("ZIPML_LOOPS", "portable")
        expected = outcome_of(case, 1)
        assert outcomes == [expected, expected], seed


@pytest.mark.parametrize("loops", LOOPS)
@pytest.mark.parametrize("bits", [1, 4, 8])
def test_loops_on_planes_at_all_widths_of_sums(
    monkeypatch: pytest.MonkeyPatch, loops: str, bits: int
) -> None:
    """Models and coefficients from a few bits to all 32, in tables of two to five digits."""
    force_loops(monkeypatch, loops)
    for scale in (2.0**-20, 2.0**-14, 2.0**-6, 1.0, 127.0):
        for step in (2.0**-22, 2.0**-8, 2.0**6):  # at most 4 times the batch
            case = random_case(
                7,
                bits=bits,
                features=530,
                samples=70,
                batch=35,
                epochs=1,
                step=step,
                model_scale=scale,
                word_bits=512,
            )
            monkeypatch.setenv("ZIPML_LOOPS", loops)
            found = outcome_of(case, 1)
            monkeypatch.setenv("ZIPML_LOOPS", "portable")
            assert found == outcome_of(case, 1), (scale, step)

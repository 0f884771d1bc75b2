"""The notebooks, run as they stand in a kernel of their own, and what their text claims.

What a notebook says about its pictures is checked on its own variables, in a cell behind the last.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

import nbformat
import pytest
from nbclient import NotebookClient

from tests import ROOT
from zipml_pynq.devices.served.server import BoardServer

FOLDER = ROOT / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"), key=lambda path: int(path.stem.partition("_")[0]))
#: Notebooks that run through PYNQ.remote, too: the driver, two kernels, registers and buffers.
REMOTE = ("1_quick_start", "4_optimal_levels", "9_inside")
#: Longest cell: who reads a notebook does not read programs.
LONGEST = 32

#: Seeds are fixed, so that none of these is a matter of chance on one machine.
CLAIMS = {
    "1_quick_start": """
        assert losses([results[8].model])[0] < 1.01 * finals["float32"]
        assert losses([results[4].model])[0] < 1.03 * finals["float32"]
        drawn_once, drawn_often = finals["2 bits, drawn once"], finals["2 bits, drawn every epoch"]
        assert drawn_once > 1.2 * finals["float32"] and drawn_often < 1.1 * finals["float32"]
        assert 0.88 < explained < 0.93
        """,
    "2_double_sampling": """
        assert (nearest == 0).all() and abs(first.mean() - VALUE) < 0.03
        assert abs((first * second).mean() - VALUE**2) < 0.03 < (first * first).mean() - VALUE**2
        # 4.5 standard errors: 1 in 1000 runs has one of 21 entries farther out
        assert (abs(double) < 4.5 / 2 * double_interval).all()
        assert (abs(single - predicted) < 4.5 / 2 * single_interval).all()
        assert np.sum(abs(single) > 3 * single_interval) >= 14
        assert np.sum(abs(double) > double_interval) <= 4
        assert 0.9 < slopes["double sampling"] < 1.1
        assert slopes["single sampling"] < slopes["rounded to nearest"] < 0.8
        """,
    "3_precision": """
        ends = [curves[bits][-1] for bits in BITS]
        assert ends[0] > ends[1] > ends[2] > float32[-1]
        assert 6 * packed.layout.bytes_per_epoch(2) < values.nbytes
        for goal, sizes in needed.items():
            assert np.isnan(sizes[0]) and sizes[-1] > 2 * np.nanmin(sizes)
        assert all((np.diff(milliseconds) > 0).all() for milliseconds in times.values())
        """,
    "4_optimal_levels": """
        for found in curves.values():
            assert (np.array(found["optimal"]) <= np.array(found["even"]) * (1 + 1e-9)).all()
        assert 3 < worth["Gaussian"] < 3.6 < worth["skewed"]
        final = {key: losses[-1] / float32_losses[-1] for key, losses in histories.items()}
        assert final["optimal", 2] < 1.15 < 1.3 < final["uniform", 2]
        assert final["optimal", 3] < 1.02 < 1.1 < final["uniform", 3]
        assert final["optimal", 4] < 1.005 < 1.01 < final["uniform", 4]
        assert driver.capability.value_format == "levels"
        """,
    "5_mnist": """
        assert data.name == "digits" and len(wrong) >= 10
        assert abs(accuracies["4 bits"] - accuracies["float32"]) < 0.01
        assert min(accuracies.values()) > 0.92
        assert np.corrcoef(models["4 bits"].ravel(), models["float32"].ravel())[0, 1] > 0.98
        """,
    "6_transfer_learning": """
        pixels, chance, photo = (np.array(errors[name][1:]) for name in extractors)
        assert (pixels - photo > 1).all() and (pixels - chance > 1).all()
        assert (abs(photo - chance) < 1.5).all()
        for found in errors.values():
            assert max(abs(error - found[-1]) for error in found[2:]) < 1 < found[0] - found[-1]
        assert features(data.X_test, learned).shape[1] == 288
        """,
    "7_svm_logistic": """
        above = {key: found[0] for key, found in results.items()}
        read = {key: found[1] for key, found in results.items()}
        for loss in ("hinge", "logistic"):
            for name in CONTENDERS:
                if (name, loss, 8) in results:
                    assert read[name, loss, 8] >= read["nearest", loss, 8] == 8
            assert abs(above["nearest", loss, 8]) < 0.002
            for name in ("Chebyshev 3", "Chebyshev 7"):
                assert read[name, loss, 8] > 9 and above[name, loss, 8] > above["nearest", loss, 8]
                assert above[name, loss, 4] > above["nearest", loss, 8] + 0.002
                assert read[name, loss, 4] == {"3": 7, "7": 11}[name[-1]]
        assert read["refetching", "hinge", 4] > 0.9 * 32 and above["refetching", "hinge", 4] < 0.003
        cheap = {name: above[name, "hinge", 4] for name in ("nearest", "single", "double")}
        assert min(cheap, key=cheap.get) == "double" and cheap["nearest"] > 0.005
        """,
    "8_end_to_end": """
        end = dict(zip(curves, above_float32, strict=True))
        assert abs(end["8/8/8"]) < 1 and end["4/8/8"] < 4
        assert end["4/8/8"] < end["4/4/4"] < end["2/4/4"] and end["2/4/4"] > 15
        assert all((above > 1).all() for above in (runs["2 bits"][1], runs["4 bits"][1]))
        fine, mixed = runs["8 bits"], runs["2 bits twice, then 8"]
        assert abs(mixed[1][2:] - fine[1][2:]).max() < 0.3
        assert mixed[0][mixed[1] <= 1][0] < fine[0][fine[1] <= 1][0]
        """,
    "9_inside": """
        assert results["status"] == 1 and results["saturations"] == 0
        assert np.array_equal(model, expected) and model.any()
        assert spans[-1].end == results["modelled_cycles"]
        assert not bits[:, :, layout.features :].any()
        """,
    "10_refinement": """
        assert floors[1][-1] > floors[2][-1] > floors[4][-1] > 1e-3
        for (bits, name), losses in ends.items():
            assert losses[-1] < (1e-5 if name == "raw samples" else 5e-4)
            assert refined[bits, name].refinement.converged
        assert len(ends[2, "raw samples"]) < 12
        """,
    "11_many_machines": """
        assert same and np.array_equal(calm.history_fixed, together.history_fixed)
        assert (losses(together.history)[2:] < losses(alone.history)[2:].min()).all()
        assert abs(ends[8] / ends[32] - 1) < 0.001 and 1.005 < ends[2] / ends[32] < 1.02
        assert 10 * sent[2] < sent[32]
        """,
}


def run(path: Path, before: str = "", after: str = "") -> nbformat.NotebookNode:
    """Execute a notebook and its claims, between cells that are not part of it."""
    notebook = nbformat.read(path, as_version=4)
    cells = [nbformat.v4.new_code_cell(code) for code in (before, dedent(CLAIMS[path.stem]), after)]
    notebook.cells = [cells[0], *notebook.cells, *cells[1:]]
    resources = {"metadata": {"path": str(FOLDER)}}
    NotebookClient(notebook, timeout=120, kernel_name="python3", resources=resources).execute()
    return notebook


def test_all_notebooks_have_claims() -> None:
    assert [path.stem for path in NOTEBOOKS] == list(CLAIMS)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_is_as_it_should_be(path: Path) -> None:
    notebook = nbformat.read(path, as_version=nbformat.NO_CONVERT)
    nbformat.validate(notebook)
    assert (notebook.nbformat, notebook.nbformat_minor) == (4, 5)
    assert notebook.metadata.kernelspec.name == "python3"
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for cell in code:
        assert not cell.outputs, "outputs are kept out of git"
        assert cell.execution_count is None
        assert len(cell.source.splitlines()) <= LONGEST
    # one cell, the same in all, says where to train
    first = nbformat.read(NOTEBOOKS[0], as_version=4)
    assert code[0].source == next(cell for cell in first.cells if cell.cell_type == "code").source
    number = path.stem.partition("_")[0]
    assert notebook.cells[0].source.startswith(f"# {number} · ")
    assert f"(../notebooks/{path.name})" in (ROOT / "docs" / "notebooks.md").read_text()
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            for other in NOTEBOOKS:
                assert cell.source.count(f"{other.stem}.ipynb") == cell.source.count(
                    f"]({other.name})"
                )


@pytest.fixture
def emulated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ZIPML_DEVICE", raising=False)
    # what every computer has, with or without network
    monkeypatch.setenv("ZIPML_MNIST", "digits")


@pytest.mark.usefixtures("emulated")
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs(path: Path) -> None:
    notebook = run(path)
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    assert not [output.text for output in outputs if output.get("name") == "stderr"]
    assert sum("image/png" in output.get("data", ()) for output in outputs) >= 2


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[BoardServer]:
    """An emulated board at an address of our own: pynq's client knows one port only."""
    number = os.getpid()
    address = f"127.{number >> 16 & 0x7F | 1}.{number >> 8 & 0xFF}.{number & 0xFF}"
    monkeypatch.setenv("PYNQ_REMOTE_DEVICES", address)
    monkeypatch.setenv("ZIPML_DEVICE", "served")
    server = BoardServer(address, port=7967).start()
    yield server
    server.stop(grace=0)


@pytest.mark.parametrize("name", REMOTE)
def test_notebook_runs_on_a_remote_board(served: BoardServer, name: str, tmp_path: Path) -> None:
    # pynq keeps what is loaded in its own folder: kernels side by side must not share it
    before = f"""
import warnings
warnings.simplefilter("ignore")
import pynq.pl_server.embedded_device, pynq.pl_server.global_state, pynq.pl_server.remote_device
pynq.pl_server.global_state.STATE_DIR = {str(tmp_path)!r}
pynq.pl_server.remote_device.__file__ = {str(tmp_path / "module.py")!r}
pynq.pl_server.embedded_device.__file__ = {str(tmp_path / "module.py")!r}
"""
    after = """
assert type(driver.device).__name__ == "RemoteDevice"
print(driver.device.ip_addr)
"""
    notebook = run(FOLDER / f"{name}.ipynb", before, after)
    assert notebook.cells[-1].outputs[0].text.strip() == served.host

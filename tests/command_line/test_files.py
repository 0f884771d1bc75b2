"""What the command reads and writes: links, pipes, devices, names of columns, wide samples."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.command_line.test_command_line import command
from zipml_pynq import pack
from zipml_pynq.command_line import main as command_line
from zipml_pynq.data.names import Names
from zipml_pynq.data.packed import PackedDataset
from zipml_pynq.learn.classifier import ZipMLClassifier
from zipml_pynq.learn.models import LinearModel
from zipml_pynq.learn.regressor import ZipMLRegressor

RNG = np.random.default_rng(3)
X = RNG.standard_normal((300, 4)) * [1, 2, 3, 4]
Y = X @ [3.0, -1.0, 2.0, 0.5] + 7
FRAME = pd.DataFrame(X, columns=list("abcd")).assign(y=Y)


@pytest.fixture
def zipml(capsys, tmp_path, monkeypatch):
    """The command in this process and a folder of its own: exit code, output, error."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> tuple[int, str, str]:
        code = command_line.main(list(map(str, arguments)))
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture
def trained(zipml):
    """A table, the data set that is made of it, and a model."""
    FRAME.to_csv("t.csv", index=False)
    assert zipml("prepare", "t.csv", "set", "--bits", 8)[0] == 0
    assert zipml("train", "set", "model", "--epochs", 30)[0] == 0
    return LinearModel.load("model")


def r2(error: str) -> float:
    return float(error.split()[-1])


# ---- Outputs -----------------------------------------------------------------------------------


def test_links_are_followed_and_keep_their_targets_mode(zipml, trained):
    Path("real").write_text("old")
    Path("real").chmod(0o640)
    os.symlink("real", "link")
    os.symlink("later", "dangling")
    for name in ("link", "dangling"):
        assert zipml("predict", "model", "t.csv", "-o", name)[0] == 0
        assert Path(name).is_symlink()
        assert len(Path(name).read_text().splitlines()) == 300
        assert zipml("prepare", "t.csv", name)[0] == 0
        assert zipml("train", name, name, "--epochs", 1)[0] == 0
        assert Path(name).is_symlink()
        assert LinearModel.load(name).feature_names == tuple("abcd")
    assert stat.S_IMODE(Path("real").stat().st_mode) == 0o640
    os.symlink("loop", "loop")
    code, _, error = zipml("predict", "model", "t.csv", "-o", "loop")
    assert code == command_line.USAGE
    assert "path was 'loop', which cannot be written: Too many levels" in error
    assert not list(Path().glob(".*"))


def test_pipes_and_devices_are_written_through(zipml, trained, tmp_path):
    expected = zipml("predict", "model", "t.csv")[1]
    os.mkfifo("pipe")
    for arguments in (
        ("predict", "model", "t.csv", "-o", "pipe"),
        ("prepare", "t.csv", "pipe", "--bits", 8),
        ("train", "set", "pipe", "--epochs", 30),
    ):
        read: list[bytes] = []
        reader = threading.Thread(target=lambda r=read: r.append(Path("pipe").read_bytes()))
        reader.start()
        assert zipml(*arguments)[0] == 0
        reader.join(20)
        assert stat.S_ISFIFO(Path("pipe").stat().st_mode)
        if arguments[0] == "predict":
            assert read[0].decode() == expected
        else:
            same = "set" if arguments[0] == "prepare" else "model"
            Path("copy").write_bytes(read[0])
            load = PackedDataset.load if same == "set" else LinearModel.load
            load("copy")
            assert len(read[0]) == len(Path(same).read_bytes())
    # whoever may replace /dev/null would: it is what it was, and so is a device that is full
    for device in ("/dev/null", "/dev/full"):
        before = os.stat(device)
        code, _, error = zipml("train", "set", device, "--epochs", 1)
        assert code == (0 if device == "/dev/null" else command_line.FAILURE)
        if code:
            assert error.endswith("'/dev/full' cannot be written: No space left on device\n")
        after = os.stat(device)
        assert (before.st_mode, before.st_rdev) == (after.st_mode, after.st_rdev)
    run = command("predict", "model", "t.csv", "-o", "/dev/stdout", cwd=tmp_path)
    assert run.stdout == expected
    with open("log", "w") as log:
        log.write("before\n")
        log.flush()
        script = '"$0" -m zipml_pynq predict model t.csv -o /dev/stdout >> log'
        shell = subprocess.run(["sh", "-c", script, sys.executable], capture_output=True)
    assert shell.returncode == 0
    assert Path("log").read_text() == "before\n" + expected


def test_inputs_may_be_pipes(zipml, trained):
    expected = zipml("predict", "model", "t.csv")[1]
    np.save("t.npy", np.c_[X, Y])

    def piped(source: str, *arguments: object) -> tuple[int, str, str]:
        if not Path("pipe").exists():
            os.mkfifo("pipe")
        content = Path(source).read_bytes()
        writer = threading.Thread(target=lambda: Path("pipe").write_bytes(content), daemon=True)
        writer.start()
        result = zipml(*arguments)
        writer.join(20)
        return result

    assert piped("t.csv", "predict", "model", "pipe")[1] == expected
    found = piped("t.npy", "predict", "model", "pipe", "--label", 5)[1]
    assert np.allclose(*(np.array(text.split(), float) for text in (found, expected)), rtol=1e-9)
    assert piped("model", "predict", "pipe", "t.csv")[1] == expected
    assert piped("t.csv", "prepare", "pipe", "again", "--bits", 8)[0] == 0
    assert Path("again").read_bytes() == Path("set").read_bytes()
    assert piped("set", "train", "pipe", "model", "--epochs", 30)[0] == 0
    assert zipml("predict", "model", "t.csv")[1] == expected
    assert "samples" in piped("set", "inspect", "pipe")[1]


def test_closed_standard_input_and_output(zipml, trained, tmp_path):
    def shell(redirection: str) -> subprocess.CompletedProcess:
        arguments = ["predict", "model", "-"]
        return subprocess.run(
            ["sh", "-c", f'"$0" -m zipml_pynq "$@" {redirection}', sys.executable, *arguments],
            capture_output=True,
            text=True,
        )

    run = shell("<&-")
    assert (run.returncode, run.stderr) == (
        command_line.USAGE,
        "zipml: error: path was standard input: it is closed\n",
    )
    run = shell("< t.csv >&-")
    assert (run.returncode, run.stderr) == (
        command_line.FAILURE,
        "zipml: error: standard output is closed\n",
    )


# ---- Names -------------------------------------------------------------------------------------


def test_predictions_are_made_by_name(zipml, trained):
    assert trained.feature_names == tuple("abcd")
    assert trained.label_name == "y"
    code, expected, error = zipml("predict", "model", "t.csv")
    assert code == 0
    assert r2(error) > 0.99
    for name, frame in {
        "permuted": FRAME[list("ydbca")],
        "more": FRAME.assign(city="Zurich", id=range(300))[["id", *"dcyab", "city"]],
        "bare": FRAME[list("dcba")],
    }.items():
        frame.to_csv(f"{name}.csv", index=False)
        code, found, told = zipml("predict", "model", f"{name}.csv")
        assert (code, found) == (0, expected)
        assert told == ("" if name == "bare" else error)
    FRAME.drop(columns="b").to_csv("short.csv", index=False)
    code, out, error = zipml("predict", "model", "short.csv")
    assert (code, out) == (command_line.USAGE, "")
    assert (
        "it has no column 'b', which the model was trained on; it has 'a', 'c', 'd', 'y'" in error
    )
    # without names, a label that was called by one is asked for
    FRAME[list("yabcd")].to_csv("plain.csv", index=False, header=False)
    assert (
        "so nobody can tell which column is the label 'y'"
        in zipml("predict", "model", "plain.csv")[2]
    )
    assert zipml("predict", "model", "plain.csv", "--label", 1)[1] == expected


def test_the_labels_number_travels_without_names(zipml):
    FRAME[list("yabcd")].to_csv("t.csv", index=False, header=False)
    assert zipml("prepare", "t.csv", "set", "--label", 1, "--bits", 8)[0] == 0
    assert zipml("train", "set", "model", "--epochs", 30)[0] == 0
    assert r2(zipml("predict", "model", "t.csv")[2]) > 0.99


def test_models_take_frames_by_name(tmp_path):
    packed = pack(FRAME[list("abcd")], FRAME["y"], bits=8)
    assert packed.names == Names(tuple("abcd"), "y")
    packed.save(tmp_path / "set")
    assert PackedDataset.load(tmp_path / "set").names == packed.names
    estimator = ZipMLRegressor(bits=8, max_iter=30, random_state=0).fit(packed)
    assert estimator.feature_names_in_.tolist() == list("abcd")
    model = estimator.to_model()
    expected = model.predict(X)
    assert np.allclose(model.predict(FRAME[list("ydbca")]), expected, rtol=1e-12)
    with pytest.raises(ValueError, match="X had no column 'a', 'b'; allowed are frames"):
        model.predict(FRAME[list("cdy")])


def test_names_of_classes(zipml):
    names = np.array(["cat", "dog", "eel"])[np.digitize(Y, [5, 9])]
    FRAME.assign(y=names).to_csv("t.csv", index=False)
    assert zipml("prepare", "t.csv", "set")[0] == 0
    assert PackedDataset.load("set").names == Names(tuple("abcd"), "y", ("cat", "dog", "eel"))
    code, _, error = zipml("train", "set", "model")
    assert code == command_line.USAGE
    assert "the labels were the classes cat, dog, eel, which a regression cannot have" in error
    assert zipml("train", "set", "model", "--loss", "logistic", "--epochs", 20)[0] == 0
    assert LinearModel.load("model").classes.tolist() == ["cat", "dog", "eel"]
    code, out, error = zipml("predict", "model", "t.csv")
    accuracy = np.mean(np.array(out.split()) == names)
    assert (code, error) == (0, f"accuracy {accuracy:.6g}\n")
    assert accuracy > 0.8
    same = ZipMLClassifier("logistic", max_iter=20, random_state=0).fit("set")
    assert same.predict(FRAME[list("abcd")]).tolist() == out.split()


def test_missing_numbers_become_means(zipml):
    frame = FRAME.copy()
    frame.loc[::7, "b"] = np.nan
    frame.to_csv("t.csv", index=False)
    code, _, error = zipml("prepare", "t.csv", "set")
    assert code == command_line.USAGE
    assert "line 2: a number is missing ('') in column 2 ('b'); --missing mean or drop" in error
    assert zipml("prepare", "t.csv", "set", "--missing", "drop")[0] == 0
    assert PackedDataset.load("set").layout.samples == 300 - 43
    assert zipml("prepare", "t.csv", "set", "--missing", "mean", "--bits", 8)[0] == 0
    filled = frame.fillna(frame.mean())
    expected = pack(filled[list("abcd")], filled["y"], bits=8)
    found = PackedDataset.load("set")
    assert np.allclose(found.normalization.mid, expected.normalization.mid, rtol=1e-12)
    assert np.mean(found.planes != expected.planes) < 0.01
    assert zipml("train", "set", "model", "--epochs", 10)[0] == 0
    assert zipml("predict", "model", "t.csv")[0] == command_line.USAGE
    _, out, _ = zipml("predict", "model", "t.csv", "--missing", "mean")
    filled.to_csv("filled.csv", index=False)
    again = zipml("predict", "model", "filled.csv")[1]
    assert np.allclose(*(np.array(text.split(), float) for text in (out, again)), rtol=1e-9)


# ---- Sizes -------------------------------------------------------------------------------------


def test_samples_that_are_too_wide_are_refused_while_reading(zipml):
    Path("t.svm").write_text("1 1:1\n2 100000000:1\n")
    code, _, error = zipml("prepare", "t.svm", "set")
    assert code == command_line.USAGE
    assert "path was 't.svm': line 2: the index of '100000000:1' is out of range" in error
    assert (
        "allowed are 1..32767, as many as the accelerator takes (one more with --no-inter" in error
    )
    # the last one that there is
    Path("t.svm").write_text("1 1:1\n2 32768:1\n")
    assert "the index of '32768:1'" in zipml("prepare", "t.svm", "set")[2]
    assert zipml("prepare", "t.svm", "set", "--no-intercept", "--bits", 1)[0] == 0
    np.savez("t.npz", X=np.zeros((2, 40_000), np.float32), y=[0, 1])
    assert "X has 40000 columns; allowed are at most 32767" in zipml("prepare", "t.npz", "set")[2]


def test_rows_without_entries(zipml):
    Path("t.svm").write_text("1\n2\n3\n")
    assert zipml("prepare", "t.svm", "set")[0] == 0
    assert PackedDataset.load("set").layout.samples == 3


@pytest.mark.parametrize("columns", [2_000, 3_600, 4_095, 8_000, 8_191, 32_767])
def test_width_and_batch_are_chosen_together(columns):
    wide = np.random.default_rng(0).integers(-4, 5, (20, columns)).astype(np.float32)
    y = wide[:, 0]
    packed = pack(wide, y, bits=8, word_bits=None, batch=None)
    assert packed.layout.block_samples >= packed.batch == (4 if columns > 30_000 else 16)
    estimator = ZipMLRegressor(bits=8, max_iter=1, tol=None, random_state=0).fit(wide, y)
    assert np.isfinite(estimator.coef_).all()
    with pytest.raises(ValueError, match="batch_size was 256; with .* batches of at most"):
        ZipMLRegressor(bits=8, batch_size=256).fit(wide, y)


def test_messages_are_in_the_words_of_the_command_line(zipml, trained):
    for arguments, message in (
        (("--epochs", 0), "--epochs was 0"),
        (("--batch", 0), "--batch was 0"),
        (("--l2", -1), "'--l2': it was '-1'; allowed are 'auto', 0 and numbers above it"),
        (("--model-bits", 99), "--model-bits was 99"),
    ):
        code, _, error = zipml("train", "set", "model", *arguments)
        assert (code, message in error) == (command_line.USAGE, True), error

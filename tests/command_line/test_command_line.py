"""The command ``zipml``: in processes of its own, and for speed in this one."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import dump_svmlight_file, load_svmlight_file

from tests import ROOT
from zipml_pynq import pack
from zipml_pynq.command_line import main as command_line
from zipml_pynq.data.names import Names
from zipml_pynq.errors import ZipmlWarning
from zipml_pynq.learn.classifier import ZipMLClassifier
from zipml_pynq.learn.models import LinearModel
from zipml_pynq.learn.regressor import ZipMLRegressor

RNG = np.random.default_rng(0)
X = RNG.standard_normal((500, 7))
Y = X @ RNG.standard_normal(7) * 3 + 10
CLASSES = np.digitize(X @ RNG.standard_normal(7), [-1, 1])


def command(*arguments: object, **options) -> subprocess.CompletedProcess:
    """The command in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "zipml_pynq", *map(str, arguments)],
        capture_output=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), **options.pop("env", {})},
        text=True,
        **options,
    )


@pytest.fixture
def zipml(capsys):
    """The command in this process: exit code, standard output, standard error."""

    def run(*arguments: object) -> tuple[int, str, str]:
        code = command_line.main(list(map(str, arguments)))
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with data, packed sets and models, in which commands run."""
    monkeypatch.chdir(tmp_path)
    dump_svmlight_file(X, Y, "regression.svm", zero_based=False)
    np.savetxt("classes.csv", np.c_[CLASSES, X], delimiter=",", fmt="%.17g")
    return tmp_path


def columns(text: str) -> np.ndarray:
    return np.array([[float(v) for v in line.split(",")] for line in text.splitlines()])


# ---- The way from text to predictions ----------------------------------------------------------


def test_from_libsvm_to_predictions_in_processes(folder):
    run = command("prepare", "regression.svm", "set.packed", "--bits", "1-8", cwd=folder)
    assert (run.returncode, run.stderr) == (0, "")
    assert "samples          500\n" in run.stdout
    samples, labels = load_svmlight_file("regression.svm")
    whole = pack(samples.toarray(), labels, bits=range(1, 9))
    whole.save("whole.packed")
    assert Path("set.packed").read_bytes() == Path("whole.packed").read_bytes()

    run = command(
        "train", "set.packed", "model", "--bits", "2x3,8", "--epochs", 8, "--tol", 0, cwd=folder
    )
    assert (run.returncode, run.stderr) == (0, "")
    expected = ZipMLRegressor(bits=(2, 2, 2, 8), max_iter=8, tol=None, random_state=0).fit(whole)
    assert np.array_equal(LinearModel.load("model").model_fixed, expected.model_)

    run = command("predict", "model", "regression.svm", cwd=folder)
    assert run.returncode == 0
    found = columns(run.stdout)[:, 0]
    assert np.allclose(found, expected.predict(samples.toarray()), rtol=1e-12)
    rmse = np.sqrt(np.mean((found - labels) ** 2))
    assert run.stderr == f"rmse {rmse:.6g}  r2 {expected.score(samples, labels):.6g}\n"
    assert sorted(os.listdir()) == [
        "classes.csv",
        "model",
        "regression.svm",
        "set.packed",
        "whole.packed",
    ]


def test_from_standard_input_to_probabilities_in_processes(folder):
    text = Path("classes.csv").read_text()
    run = command("prepare", "-", "set", "--label", 1, "--json", input=text, cwd=folder)
    assert (run.returncode, run.stderr) == (0, "")
    facts = json.loads(run.stdout)
    assert (facts["samples"], facts["columns"], facts["bits"]) == (500, 7, [4])
    run = command("train", "set", "model", "--loss", "logistic", "--tol", 0, "--json", cwd=folder)
    assert (run.returncode, run.stderr) == (0, "")
    facts = json.loads(run.stdout)
    assert facts["classes"] == [0, 1, 2]
    estimator = ZipMLClassifier("logistic", tol=None, random_state=0)
    estimator.fit(pack(X, CLASSES))
    assert facts["objective"] == estimator.loss_curve_[-1]

    run = command("predict", "model", "-", "--label", 1, "--probabilities", input=text, cwd=folder)
    assert run.returncode == 0
    assert np.allclose(columns(run.stdout), estimator.predict_proba(X), rtol=1e-9)
    assert run.stderr == f"accuracy {estimator.score(X, CLASSES):.6g}\n"
    assert not list(folder.glob("*.tmp"))
    # a model of all classes together tells of itself
    together = ZipMLClassifier("logistic", random_state=0).fit(X, CLASSES)
    assert together.multinomial_
    together.save(folder / "together")
    run = command(
        "predict", "together", "-", "--label", 1, "--probabilities", input=text, cwd=folder
    )
    assert np.allclose(columns(run.stdout), together.predict_proba(X), rtol=1e-9)


def test_every_format_gives_the_same_file(folder, zipml):
    np.savez("a.npz", X=X, y=Y)
    table = np.c_[X, Y]
    np.savetxt("a.csv", table, delimiter=",", fmt="%.17g")
    header = "\t".join("abcdefgh")
    np.savetxt("a.tsv", table, delimiter="\t", fmt="%.17g", header=header, comments="")
    with gzip.open("a.csv.gz", "wt") as file:
        np.savetxt(file, table, delimiter=";", fmt="%.17g")
    np.savez("fortran.npz", X=np.asfortranarray(X), y=Y)
    np.save("a.npy", table)
    np.save("fortran.npy", np.asfortranarray(table))
    Path("quoted.csv").write_text(Path("a.csv").read_text().replace(",", '","'))
    Path("quoted.csv").write_text(
        "".join(f'"{line}"\n' for line in Path("quoted.csv").read_text().splitlines())
    )
    Path("returns.csv").write_bytes(Path("a.csv").read_bytes().replace(b"\n", b"\r"))
    Path("windows").write_bytes(
        b"\xef\xbb\xbf" + Path("a.csv").read_bytes().replace(b"\n", b"\r\n")
    )
    Path("packed").write_bytes(gzip.compress(Path("a.csv").read_bytes()))
    unnamed = {"names": Names(None, "8")}
    for name, known in {
        "a.npz": {},
        "fortran.npz": {},
        "a.csv": unnamed,
        "a.npy": unnamed,
        "fortran.npy": unnamed,
        "a.tsv": {"names": Names(tuple("abcdefg"), "h")},
        "a.csv.gz": unnamed,
        "quoted.csv": unnamed,
        "returns.csv": unnamed,
        "windows": unnamed,
        "packed": unnamed,
    }.items():
        code, _, error = zipml("prepare", name, "found")
        assert (code, error) == (0, ""), name
        pack(X, Y, **known).save("expected")
        assert Path("found").read_bytes() == Path("expected").read_bytes(), name


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--levels", "optimal", "--bits", 3], {"levels": "optimal", "bits": 3}),
        (["--levels", "global", "--bits", 3], {"levels": "global", "bits": 3}),
        (["--value-format", "float32"], {"value_format": "float32"}),
        (["--bits", "2,12"], {"value_format": "wide", "bits": (2, 12)}),
        (["--value-format", "refetch", "--bits", 4], {"value_format": "refetch", "bits": 4}),
        (
            ["--sampling", "independent", "--dithers", 3, "--no-intercept", "--seed", 5],
            {"sampling": "independent", "dithers": 3, "intercept": False, "seed": 5},
        ),
        (["--word-bits", 512, "--batch", 32], {"word_bits": 512, "batch": 32}),
    ],
)
def test_options_of_prepare(folder, zipml, options, expected):
    assert zipml("prepare", "regression.svm", "found", *options)[0] == 0
    samples, labels = load_svmlight_file("regression.svm")
    pack(samples.toarray(), labels, **expected).save("expected")
    assert Path("found").read_bytes() == Path("expected").read_bytes()


@pytest.mark.filterwarnings("ignore:training ended after max_iter")
def test_options_of_train(folder, zipml):
    for packed, options, expected in (
        (pack(X, Y, value_format="float32"), [], {"bits": 32}),
        (
            pack(X, CLASSES > 1, value_format="refetch"),
            ["--loss", "hinge"],
            {"loss": "hinge", "refetch": True},
        ),
        (
            pack(X, CLASSES > 1, intercept=False, batch=8),
            ["--classify", "--step", "0.02", "--schedule", "constant", "--l2", "0.01", "--seed", 3],
            {
                "loss": "least_squares",
                "fit_intercept": False,
                "batch_size": 8,
                "eta0": 0.02,
                "learning_rate": "constant",
                "alpha": 0.01,
                "random_state": 3,
            },
        ),
        (
            pack(X, Y, bits=8, block_samples=64),
            ["--early-stopping", "--tol", "0.5", "--model-bits", 8, "--shuffle-blocks"],
            {
                "bits": 8,
                "early_stopping": True,
                "tol": 0.5,
                "model_bits": 8,
                "shuffle": "epochs",
            },
        ),
    ):
        packed.save("set")
        assert zipml("train", "set", "model", "--epochs", 6, *options)[0] == 0
        kind = ZipMLClassifier if "loss" in expected else ZipMLRegressor
        same = {"max_iter": 6, "random_state": 0}
        estimator = kind(**{**same, **expected}).fit(packed)
        assert np.array_equal(LinearModel.load("model").model_fixed, estimator.model_)


def test_predictions_into_a_file(folder, zipml):
    packed = pack(X, Y)
    ZipMLRegressor(max_iter=3, tol=None).fit(packed).save("model")
    model = LinearModel.load("model")
    code, out, _ = zipml("predict", "model", "regression.svm", "-o", "found", "--json")
    facts = json.loads(out)
    assert code == 0
    assert (facts["rows"], facts["output"]) == (500, "found")
    assert np.allclose(columns(Path("found").read_text())[:, 0], model.predict(X), rtol=1e-12)
    # samples without labels have no scores
    np.savetxt("bare.csv", X, delimiter=",", fmt="%.17g")
    code, out, error = zipml("predict", "model", "bare.csv")
    assert (code, error) == (0, "")
    assert np.allclose(columns(out)[:, 0], model.predict(X), rtol=1e-12)
    # what fails in the middle leaves what was there
    Path("bare.csv").write_text("1,2,3,4,5,6,8\n" * 3 + "1,2,x,4,5,6,7\n")
    before = Path("found").read_bytes()
    assert zipml("predict", "model", "bare.csv", "-o", "found")[0] == command_line.USAGE
    assert Path("found").read_bytes() == before
    assert not list(folder.glob(".*"))


def test_classes_are_called_by_their_names(folder, zipml):
    names = np.array(["low", "middle", "up"])[CLASSES]
    ZipMLClassifier(max_iter=5, tol=None).fit(X, names).save("model")
    code, out, _ = zipml("predict", "model", "classes.csv", "--label", 1)
    assert code == 0
    assert out.split() == LinearModel.load("model").predict(X).tolist()


# ---- The other commands ------------------------------------------------------------------------


def test_inspect(folder, zipml):
    pack(X, Y, bits=(2, 4)).save("set")
    code, out, _ = zipml("inspect", "set", "--json")
    facts = json.loads(out)
    assert code == 0
    assert (facts["kind"], facts["samples"], facts["bits"]) == ("packed data set", 500, [2, 4])
    assert facts["file_bytes"] == os.path.getsize("set")
    ZipMLClassifier("logistic", max_iter=2, tol=None).fit(X, CLASSES).save("model")
    code, out, _ = zipml("inspect", "model", "--json")
    facts = json.loads(out)
    assert (facts["task"], facts["classes"], facts["epochs"]) == ("classification", [0, 1, 2], 2)
    assert "loss            logistic\n" in zipml("inspect", "model")[1]
    with open("model", "r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\x55")
    code, out, error = zipml("inspect", "model")
    assert (code, out) == (command_line.FAILURE, "")
    assert error == "zipml: error: 'model' was altered: its checksum does not match\n"


def test_export(folder, zipml):
    onnx = pytest.importorskip("onnx.reference")
    ZipMLRegressor(max_iter=2, tol=None).fit(X, Y).save("model")
    assert zipml("export", "model", "model.onnx", "--dtype", "float64")[0] == 0
    (found,) = onnx.ReferenceEvaluator("model.onnx").run(None, {"X": X})
    assert np.allclose(found, LinearModel.load("model").predict(X), rtol=1e-9)


def test_bench(zipml):
    code, out, error = zipml(
        "bench", "--samples", 2000, "--features", 20, "--bits", "1,8", "--epochs", 2, "--json"
    )
    facts = json.loads(out)
    assert (code, error) == (0, "")
    assert [row["bits"] for row in facts["rows"]] == [32, 1, 8]
    assert facts["rows"][0]["times_float32"] == 1
    assert facts["machine"]["cores"] >= 1


def test_devices(zipml):
    code, out, _ = zipml("devices", "--json")
    facts = json.loads(out)
    assert code == 0
    assert facts["emulated"]["word_bits"] == [64, 128, 512]
    assert {"pynq-z2", "kv260", "u50", "zcu104"} <= {board["device"] for board in facts["boards"]}
    assert "pynq-z2    PYNQ-Z2, words of 64 bits, 142.857 MHz; bitstreams: " in zipml("devices")[1]


@pytest.mark.parametrize("shell", command_line.SHELLS)
def test_completion(zipml, shell):
    code, out, _ = zipml("completion", shell)
    assert code == 0
    assert "_ZIPML_COMPLETE" in out
    # what the script asks for
    word = "pre" if shell == "fish" else "1"
    words = {"COMP_WORDS": "zipml pre", "COMP_CWORD": word, "_ZIPML_COMPLETE": f"{shell}_complete"}
    assert "prepare" in command(env=words).stdout
    words["COMP_WORDS"] = "zipml inspect "
    words["COMP_CWORD"] = "" if shell == "fish" else "2"
    assert "file" in command(env=words).stdout  # the shell then completes names of files


def test_help_tells_of_every_command(zipml):
    code, out, _ = zipml("--help")
    assert code == 0
    for name, subcommand in command_line.zipml.commands.items():
        assert f"  {name} " in out
        assert subcommand.help
        assert zipml(name, "--help")[0] == 0


# ---- What goes wrong ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["trian"], 2, "No such command 'trian'"),
        (["prepare", "regression.svm"], 2, "prepare: Missing argument 'OUTPUT'"),
        (["prepare", "regression.svm", "x", "--bit"], 2, "prepare: No such option"),
        (["prepare", "none.svm", "x"], 2, "path was 'none.svm', which does not exist"),
        (["prepare", "regression.svm", "no/x"], 2, "path was 'no/x'; the folder 'no' does not"),
        (["prepare", "regression.svm", "x", "--bits", "17"], 2, "it was '17'; allowed are 1..16"),
        (["prepare", "regression.svm", "x", "--bits", "2x3"], 2, "it was '2x3'; allowed are 1..16"),
        (["prepare", "regression.svm", "x", "--bits", "4-2"], 2, "it was '4-2'; allowed are 1..16"),
        (["prepare", "regression.svm", "x", "--batch", "0"], 2, "batch was 0; allowed is 1..256"),
        (["prepare", "regression.svm", "x", "--format", "csv"], 2, "line 1: "),
        (["prepare", "classes.csv", "x", "--label", "q"], 2, "label was 'q'; allowed are 1..8"),
        (["prepare", "bad.svm", "x"], 2, "path was 'bad.svm': line 2: 'two' is no finite number"),
        (["train", "none", "x"], 1, "'none' cannot be read: No such file"),
        (["train", "regression.svm", "x"], 1, "'regression.svm' is no packed data set"),
        (["train", "set", "x", "--bits", "8"], 2, "bits was 8; the data set stores"),
        (["train", "set", "x", "--bits", "2x0"], 2, "it was '2x0'; allowed are 1..16, 32"),
        (["train", "set", "x", "--step", "-1"], 2, "it was '-1'; allowed are 'auto' and numbers"),
        (["train", "set", "x", "--loss", "huber"], 2, "'huber' is not one of"),
        (["train", "set", "x", "--loss", "hinge"], 2, "y was None with a packed data set whose"),
        (["train", "set", "x", "--epochs", "0"], 2, "--epochs was 0; allowed is 1.."),
        (["train", "set", "x", "--device", "pynq-z2"], 1, "nobody has built zipml_sgd"),
        (["predict", "set", "regression.svm"], 1, "'set' is no model: it is a 'zipml-pynq packed"),
        (
            ["predict", "model", "wide.svm"],
            2,
            "line 1: the index of '9:1' is out of range: allowed are 1..7",
        ),
        (["predict", "model", "regression.svm", "--probabilities"], 2, "allowed is 'logistic'"),
        (["inspect", "regression.svm"], 1, "is neither a packed data set nor a model"),
        (["inspect", "none"], 2, "PATH was 'none', which cannot be read"),
        (["board", "--host", "0.0.0.0", "--port", "0"], 2, "a token that clients have to show"),
        (["completion", "tcsh"], 2, "'tcsh' is not one of"),
    ],
)
def test_errors_are_one_line(folder, zipml, arguments, code, message):
    if {"pynq-z2", "board"} & set(arguments):
        pytest.importorskip("pynq")
    pack(X, Y).save("set")
    ZipMLRegressor(max_iter=1, tol=None).fit(X, Y).save("model")
    Path("bad.svm").write_text("1 1:1\ntwo 1:1\n")
    Path("wide.svm").write_text("1 9:1\n")
    before = sorted(os.listdir())
    found, out, error = zipml(*arguments)
    assert (found, out) == (code, "")
    assert error.startswith("zipml: error: ")
    assert error.count("\n") == 1
    assert message in error
    assert sorted(os.listdir()) == before


def test_warnings_are_one_line(folder, zipml):
    pack(X, Y).save("set")
    code, _, error = zipml("train", "set", "model", "--epochs", 1, "--step", 30)
    assert code == 1  # it diverges
    assert error.startswith("zipml: error: ")
    code, _, error = zipml("train", "set", "model", "--epochs", 2, "--tol", 1e-9)
    assert code == 0
    assert error.startswith("zipml: warning: training ended after max_iter=2 epochs")
    assert error.count("\n") == 1
    command_line._show_warning(ZipmlWarning("a\nb"), ZipmlWarning)


def test_no_arguments_show_the_help(zipml):
    code, out, error = zipml()
    assert (code, out) == (2, "")
    assert "prepare" in error


def test_a_reader_that_goes_away(folder):
    ZipMLRegressor(max_iter=1, tol=None).fit(X, Y).save("model")
    Path("long.csv").write_text("1,2,3,4,5,6,8\n" * 900_000)
    with subprocess.Popen(
        [sys.executable, "-m", "zipml_pynq", "predict", "model", "long.csv"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert float(process.stdout.readline())
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == command_line.FAILURE


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_what_was_begun_is_removed(folder, tmp_path_factory, number):
    spool = tmp_path_factory.mktemp("spool")
    with subprocess.Popen(
        [sys.executable, "-m", "zipml_pynq", "prepare", "-", "set"],
        env={**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(spool)},
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # who starts tests in the background has them ignore SIGINT, which a child would inherit
        preexec_fn=lambda: signal.signal(number, signal.SIG_DFL),
    ) as process:
        # not any file: tempfile tries its folder with one that lasts a moment
        end = time.monotonic() + 30
        while not list(spool.glob("zipml-*")) and time.monotonic() < end:
            time.sleep(0.01)
        assert len(list(spool.glob("zipml-*"))) == 1
        process.send_signal(number)
        assert process.wait(30) == command_line.FAILURE
        assert process.stderr.read().split("\n")[-2:] == ["zipml: error: interrupted", ""]
    assert list(spool.iterdir()) == []
    assert sorted(os.listdir()) == ["classes.csv", "regression.svm"]


def test_progress_goes_to_standard_error_if_asked(folder, zipml):
    code, out, error = zipml("prepare", "regression.svm", "set", "--progress", "--json")
    assert code == 0
    json.loads(out)
    assert "prepare" in error
    # none where standard error is no terminal
    assert zipml("prepare", "regression.svm", "set", "--json")[2] == ""


def test_what_is_not_installed_is_named():
    code = (
        "import sys; sys.modules['click'] = None; from zipml_pynq.__main__ import main; "
        "sys.exit(main())"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (run.returncode, run.stdout) == (1, "")
    assert run.stderr == (
        "zipml: error: the command line needs click: pip install 'zipml_pynq[cli]'\n"
    )


# ---- Memory ------------------------------------------------------------------------------------

#: Runs a command and tells the peak of its memory. (What ``getrusage`` tells begins with what the
#: parent had.)
PEAK = """
import sys
from zipml_pynq.command_line.main import main
code = main(sys.argv[1:])
lines = open("/proc/self/status").read().splitlines()
print(next(line.split()[1] for line in lines if line.startswith("VmHWM")), file=sys.stderr)
sys.exit(code)
"""
WIDTH, FEW, MANY = 100, 25_000, 100_000


def peak(folder: Path, *arguments: object) -> int:
    """Most bytes that a command had in memory, maps of files included."""
    run = subprocess.run(
        [sys.executable, "-c", PEAK, *map(str, arguments)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    return 1024 * int(run.stderr.splitlines()[-1])


def test_memory_does_not_grow_with_the_rows(tmp_path):
    """Less than a third of what the further rows take as an array of float64.

    Reading all of them, as fitted levels need it, takes more: so the limit is one that fails. Even
    the few rows are more than what any command looks at together.
    """
    rng = np.random.default_rng(0)
    values = rng.integers(-999, 1000, (1000, WIDTH)) / 1000
    lines = "".join(
        f"{row @ np.arange(WIDTH):.4f} "
        + " ".join(f"{i}:{v}" for i, v in enumerate(row.tolist(), 1))
        + "\n"
        for row in values
    )
    for name, rows in (("few", FEW), ("many", MANY)):
        with open(tmp_path / f"{name}.svm", "w") as file:
            file.writelines(lines for _ in range(rows // 1000))
    limit = (MANY - FEW) * WIDTH * 8 // 3

    def growth(*arguments: str) -> int:
        few, many = (
            peak(tmp_path, *(word.format(name) for word in arguments)) for name in ("few", "many")
        )
        return many - few

    assert growth("prepare", "{}.svm", "{}.whole", "--levels", "global") > limit
    assert growth("prepare", "{}.svm", "{}.packed") < limit
    options = ("--epochs", "3", "--step", "0.01")
    assert growth("train", "{}.packed", "{}.model", *options) < limit
    assert growth("predict", "{}.model", "{}.svm", "-o", "{}.txt") < limit
    assert len((tmp_path / "many.txt").read_text().splitlines()) == MANY

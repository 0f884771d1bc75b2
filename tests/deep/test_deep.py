"""Weights on few levels: levels, gradient, the parametrization, and nets that are trained."""

# ruff: noqa: E402 (what follows the check for torch needs it)

from __future__ import annotations

import io
import json
import subprocess
import sys
import tarfile
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="zipml_pynq.deep needs PyTorch, which boards lack")

from torch import nn
from torch.nn.utils import parametrize

from zipml_pynq import deep, optimal_levels, rounding_variance
from zipml_pynq.deep.__main__ import main
from zipml_pynq.deep.data import Pictures, load_pictures
from zipml_pynq.deep.quantizer import SHARES
from zipml_pynq.deep.train import Settings, caffe_quick, train
from zipml_pynq.errors import ArgumentError, DivergenceError


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(7)
    yield
    torch.set_num_threads(threads)


def small_net() -> nn.Sequential:
    """Four layers of which the inner two are quantized by default."""
    return nn.Sequential(
        nn.Conv2d(1, 4, 3),
        nn.ReLU(),
        nn.Conv2d(4, 6, 3),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(6 * 16, 12),
        nn.ReLU(),
        nn.Linear(12, 3),
    )


def master(layer: nn.Module) -> torch.Tensor:
    return layer.parametrizations.weight.original


def test_levels_are_optimal_for_each_layer() -> None:
    """No other choice of inner levels among the weights has a smaller variance: by brute force."""
    net = nn.Sequential(nn.Linear(6, 4), nn.Linear(4, 5), nn.Linear(5, 3))
    deep.quantize_weights(net, count=4, first=True, last=True)
    for _, layer, quantizer in deep.quantized_layers(net):
        weights = np.sort(master(layer).detach().numpy().ravel().astype(np.float64))
        least = min(
            rounding_variance(weights, [weights[0], a, b, weights[-1]])
            for a, b in combinations(weights, 2)
        )
        levels = quantizer.levels.numpy().astype(np.float64)
        assert quantizer.levels.shape == (1, 4)
        # the levels are float32, as the weights
        assert rounding_variance(weights, levels[0]) == pytest.approx(least, rel=1e-6)


@pytest.mark.parametrize("rule", ["xnor", "uniform", "optimal", "clipped"])
@pytest.mark.parametrize("per", ["layer", "map"])
def test_levels_by_name(rule: str, per: str) -> None:
    net = deep.quantize_weights(small_net(), rule, 5, per=per)
    assert [name for name, _, _ in deep.quantized_layers(net)] == ["2", "5"]
    for _, layer, quantizer in deep.quantized_layers(net):
        weights = master(layer).detach().numpy()
        rows = weights.reshape(1 if per == "layer" else len(weights), -1)
        for row, levels in zip(rows, quantizer.levels.numpy(), strict=True):
            expected = {
                "xnor": np.abs(row).mean() * np.array([-1, -0.5, 0, 0.5, 1]),
                "uniform": row.min() + np.arange(5) / 4 * (row.max() - row.min()),
                "optimal": optimal_levels(row, 5),
                "clipped": deep.clipped_levels(row, 5),
            }[rule]
            np.testing.assert_allclose(levels, expected, rtol=1e-5, atol=1e-7)


def test_two_xnor_levels_are_xnor_nets() -> None:
    """Its binary weight: the sign, times the mean of the absolute values of each output map."""
    layer = deep.quantize_weights(nn.Conv2d(3, 5, 3), "xnor", 2, per="map", layers=[""])
    w = master(layer)
    scale = w.abs().mean(dim=(1, 2, 3), keepdim=True)
    torch.testing.assert_close(layer.weight, w.sign() * scale)


@pytest.mark.parametrize("k", [3, 5, 9])
def test_clipped_levels_have_less_error_than_any_other_end(k: int) -> None:
    """Of stochastic rounding, the ends included; all values' own ends are one of the choices."""
    w = np.random.default_rng(5).standard_normal(3000)

    def error(levels: np.ndarray) -> float:
        inside = np.clip(w, levels[0], levels[-1])
        return rounding_variance(inside, levels) + float(np.square(w - inside).mean())

    levels = deep.clipped_levels(w, k)
    assert levels[0] == -levels[-1]
    # the search for the ends is on a histogram
    for end in np.quantile(np.abs(w), SHARES):
        assert error(levels) <= 1.001 * error(optimal_levels(np.clip(w, -end, end), k))
    # two of k optimal levels lie on single weights far out
    assert error(levels) < 0.8 * error(optimal_levels(w, k))


def test_own_rule() -> None:
    def powers_of_two(values, k):
        return np.abs(values).max() * np.array([-1, -0.5, 0, 0.5, 1])

    net = deep.quantize_weights(small_net(), powers_of_two, 5)
    assert len(net[2].weight.unique()) <= 5
    with pytest.raises(ArgumentError, match="levels gave"):
        deep.quantize_weights(small_net(), lambda values, k: np.arange(k)[::-1], 5)


def test_nearest_rounds_to_the_nearest_level() -> None:
    layer = deep.quantize_weights(nn.Linear(40, 30), "xnor", 5, layers=[""])
    levels = layer.parametrizations.weight[0].levels[0]
    w, rounded = master(layer).detach(), layer.weight.detach()
    distance = (w[..., None] - levels).abs().min(-1).values
    assert torch.isin(rounded, levels).all()
    torch.testing.assert_close((w - rounded).abs(), distance, rtol=0, atol=1e-7)


def test_stochastic_rounding_is_unbiased_and_has_the_variance_that_is_minimized() -> None:
    """4,000 draws of 200 weights: six standard deviations for each mean (2e-9 a weight, two-sided,
    4e-7 in all), and 5 % for the mean variance, whose own deviation is below 0.3 %."""
    layer = deep.quantize_weights(
        nn.Linear(20, 10), "optimal", 5, rounding="stochastic", refresh=1 << 31, layers=[""]
    )
    w = master(layer).detach()
    levels = layer.parametrizations.weight[0].levels[0]
    draws = torch.stack([layer.weight.detach() for _ in range(4000)])
    variance = draws.double().var(0)
    error = (draws.double().mean(0) - w).abs()
    assert (error <= 6 * (variance / len(draws)).sqrt() + 1e-6).all()
    expected = rounding_variance(w.numpy().ravel(), levels.numpy())
    assert float(variance.mean()) == pytest.approx(expected, rel=0.05)
    # in evaluation mode it is one and the same weight
    layer.eval()
    assert torch.equal(layer.weight, layer.weight)


@pytest.mark.parametrize("rounding", ["nearest", "stochastic"])
def test_gradient_reaches_the_master_weights(rounding: str) -> None:
    """It is the gradient by the rounded weight, and a step changes the master weight alone."""
    net = deep.quantize_weights(small_net(), "xnor", 5, rounding)
    x = torch.randn(8, 1, 8, 8)
    with parametrize.cached():
        rounded = [layer.weight for _, layer, _ in deep.quantized_layers(net)]
        for weight in rounded:
            weight.retain_grad()
        net(x).square().sum().backward()
        for weight, (_, layer, _) in zip(rounded, deep.quantized_layers(net), strict=True):
            assert torch.equal(master(layer).grad, weight.grad)
            assert weight.grad.abs().sum() > 0
    before = [master(layer).clone() for _, layer, _ in deep.quantized_layers(net)]
    torch.optim.SGD(net.parameters(), lr=0.01).step()
    for old, (_, layer, quantizer) in zip(before, deep.quantized_layers(net), strict=True):
        assert not torch.equal(old, master(layer))
        assert torch.isin(layer.weight, quantizer.levels).all()


def test_parameters_stay_the_same_objects() -> None:
    """So that an optimizer may be made before the net is quantized."""
    net = small_net()
    before = {id(p) for p in net.parameters()}
    deep.quantize_weights(net)
    assert {id(p) for p in net.parameters()} == before


def test_levels_are_refreshed_at_the_stated_interval() -> None:
    layer = deep.quantize_weights(nn.Linear(8, 8), refresh=3, layers=[""]).requires_grad_(False)
    quantizer = layer.parametrizations.weight[0]
    x, seen = torch.zeros(1, 8), []
    for step in range(7):
        with torch.no_grad():
            master(layer).mul_(2)
        layer(x)
        seen.append(float(quantizer.levels.max() / master(layer).max()))
        assert int(quantizer.reads) == step + 1
    np.testing.assert_allclose(seen, [1, 1 / 2, 1 / 4, 1, 1 / 2, 1 / 4, 1])
    layer.eval()
    with torch.no_grad():
        master(layer).mul_(2)
    layer(x)
    assert int(quantizer.reads) == 7
    assert float(quantizer.levels.max() / master(layer).max()) == 0.5
    deep.refresh_levels(layer)
    assert float(quantizer.levels.max() / master(layer).max()) == 1


@pytest.mark.parametrize("keep", ["levels", "master"])
def test_it_is_removable(keep: str) -> None:
    net = small_net()
    plain = {name: p.detach().clone() for name, p in net.named_parameters()}
    deep.quantize_weights(net, rounding="stochastic").eval()
    x = torch.randn(4, 1, 8, 8)
    expected = net(x)
    net.train()
    deep.remove_quantization(net, keep)
    left = dict(net.named_parameters())
    assert left.keys() == plain.keys()
    assert not any(parametrize.is_parametrized(layer) for layer in net.modules())
    assert all(p.requires_grad for p in net.parameters())
    if keep == "levels":
        torch.testing.assert_close(net(x), expected, rtol=0, atol=0)
    else:
        assert all(torch.equal(left[name], plain[name]) for name in plain)


def test_state_dict_round_trip() -> None:
    """Master weights, levels and the count of reads; another net with other weights takes them."""
    net = deep.quantize_weights(small_net(), count=9, per="map")
    for _ in range(3):
        net(torch.randn(2, 1, 8, 8))
    file = io.BytesIO()
    torch.save(net.state_dict(), file)
    file.seek(0)
    other = deep.quantize_weights(small_net(), count=9, per="map")
    other.load_state_dict(torch.load(file, weights_only=True))
    x = torch.randn(4, 1, 8, 8)
    assert torch.equal(net.eval()(x), other.eval()(x))
    for (_, _, a), (_, _, b) in zip(
        deep.quantized_layers(net), deep.quantized_layers(other), strict=True
    ):
        assert torch.equal(a.levels, b.levels)
        assert int(a.reads) == int(b.reads) == 3


@pytest.mark.parametrize("per", ["layer", "map"])
def test_exported_with_its_levels(per: str) -> None:
    """torch.export's program holds codes and levels instead of weights, and computes the same."""
    net = deep.quantize_weights(small_net(), count=5, per=per).eval()
    x = torch.randn(4, 1, 8, 8)
    expected = net(x)
    levels = [quantizer.levels.clone() for _, _, quantizer in deep.quantized_layers(net)]
    deep.freeze_weights(net)
    torch.testing.assert_close(net(x), expected, rtol=0, atol=0)
    program = torch.export.export(net, (x,))
    torch.testing.assert_close(program.module()(x), expected)
    state = program.state_dict
    for name, table in zip(("2", "5"), levels, strict=True):
        codes = state[f"{name}.parametrizations.weight.original0"]
        assert codes.dtype == torch.uint8
        assert int(codes.max()) < 5
        assert torch.equal(state[f"{name}.parametrizations.weight.original1"], table)
        assert f"{name}.weight" not in state


def test_bad_arguments_leave_the_net_alone() -> None:
    net = small_net()
    for options, message in (
        ({"levels": "lloyd"}, "levels was 'lloyd'"),
        ({"count": 1}, "count was 1"),
        ({"rounding": "up"}, "rounding was 'up'"),
        ({"per": "row"}, "per was 'row'"),
        ({"refresh": 0}, "refresh was 0"),
        ({"layers": ["9"]}, r"layers had \['9'\]"),
    ):
        with pytest.raises(ArgumentError, match=message):
            deep.quantize_weights(net, **options)
        assert not any(parametrize.is_parametrized(layer) for layer in net.modules())
    with pytest.raises(ArgumentError, match="net had 2 dense or convolutional"):
        deep.quantize_weights(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)))
    deep.quantize_weights(net)
    with pytest.raises(ArgumentError, match="already"):
        deep.quantize_weights(net)
    with torch.no_grad():
        master(net[2])[0] = torch.nan
    with pytest.raises(ArgumentError, match="weight was not finite"):
        deep.refresh_levels(net)


# ---- training ----------------------------------------------------------------------------------


def tiny_net(channels: int, size: int, classes: int) -> nn.Module:
    side = (size - 4) // 2
    return nn.Sequential(
        nn.Conv2d(channels, 4, 5),
        nn.MaxPool2d(2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(4 * side * side, 32),
        nn.ReLU(),
        nn.Linear(32, classes),
    )


def bars(n: int = 600, size: int = 12) -> Pictures:
    """Ten classes: a bright bar in one of ten columns, under noise."""
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 10, n)
    x = rng.integers(0, 120, (n, 1, size, size))
    x[np.arange(n), 0, :, labels + 1] += 100
    pixels, classes = torch.from_numpy(x.astype(np.uint8)), torch.from_numpy(labels)
    half = n // 2
    return Pictures("bars", pixels[:half], classes[:half], pixels[half:], classes[half:])


BARS = Settings(epochs=3, batch=10, rate=0.03, mirror=False, refresh=7)


@pytest.mark.parametrize("levels", ["full", "xnor", "optimal"])
def test_a_tiny_net_learns(levels: str) -> None:
    trained = train(bars(), Settings(**{**vars(BARS), "levels": levels}), make_net=tiny_net)
    first, *_, last = trained.history
    assert last["loss"] < first["loss"]
    # one in ten by chance
    assert last["accuracy"] > 0.6
    assert len(list(deep.quantized_layers(trained.net))) == (0 if levels == "full" else 1)


def test_a_run_goes_on_with_the_same_bits(tmp_path: Path) -> None:
    """Stopped within the second epoch and started again, it ends where it would have."""
    settings = Settings(**{**vars(BARS), "rounding": "stochastic", "mirror": True, "epochs": 2})
    whole = train(bars(), settings, make_net=tiny_net)

    class Stop(Exception):
        pass

    steps = 0

    def stop(n: int) -> None:
        nonlocal steps
        steps += n
        if steps == 40:
            raise Stop

    file = tmp_path / "runs" / "bars.checkpoint"
    with pytest.raises(Stop):
        train(bars(), settings, file, stop, make_net=tiny_net)
    torch.manual_seed(99)
    resumed = train(bars(), settings, file, make_net=tiny_net)
    assert resumed.history == whole.history
    expected, got = whole.net.state_dict(), resumed.net.state_dict()
    assert expected.keys() == got.keys()
    assert all(torch.equal(expected[name], got[name]) for name in got)
    with pytest.raises(ArgumentError, match="of another run"):
        train(bars(), BARS, file, make_net=tiny_net)


def test_divergence_is_an_error() -> None:
    with pytest.raises((DivergenceError, ArgumentError), match="not finite|loss was"):
        train(bars(), Settings(**{**vars(BARS), "rate": 1000.0}), make_net=tiny_net)


def test_settings_are_checked() -> None:
    with pytest.raises(ArgumentError, match="levels was 'best'"):
        Settings(levels="best")
    with pytest.raises(ArgumentError, match="rate was -1"):
        Settings(rate=-1.0)
    with pytest.raises(ArgumentError, match="batch was 1000"):
        train(bars(), Settings(batch=1000))


def test_caffes_network() -> None:
    """The shapes and the 145,578 parameters of Caffe's cifar10_quick."""
    net = caffe_quick()
    assert net(torch.zeros(2, 3, 32, 32)).shape == (2, 10)
    assert sum(p.numel() for p in net.parameters()) == 145_578
    assert caffe_quick(1, 28)(torch.zeros(2, 1, 28, 28)).shape == (2, 10)


def archive(folder: Path, size: int = 32, pictures: int = 4) -> None:
    """A small archive of the layout that is read: brightness is 25 times the class."""
    image = pytest.importorskip("PIL.Image")
    with tarfile.open(folder / "cifar10-jpeg.tar.gz", "w:gz") as tar:
        for part in ("train", "test"):
            for label in range(10):
                for i in range(pictures):
                    file = io.BytesIO()
                    pixels = np.full((size, size, 3), 25 * label, dtype=np.uint8)
                    image.fromarray(pixels).save(file, "JPEG")
                    entry = tarfile.TarInfo(f"{part}/class{label}/{i:04}.jpg")
                    entry.size = file.tell()
                    file.seek(0)
                    tar.addfile(entry, file)


def test_pictures_come_from_an_archive(tmp_path: Path) -> None:
    archive(tmp_path)
    pictures = load_pictures("cifar10", tmp_path)
    assert pictures.train.shape == (40, 3, 32, 32)
    assert pictures.source == "jpeg"
    bright = pictures.train.float().mean((1, 2, 3))
    assert (bright - 25 * pictures.train_labels).abs().max() < 2
    assert pictures.subset(10, 5).test.shape[0] == 5
    with pytest.raises(ArgumentError, match="train was 41"):
        pictures.subset(41, 5)
    with pytest.raises(ArgumentError, match="name was 'svhn'"):
        load_pictures("svhn", tmp_path)


def test_what_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchvision", None)
    monkeypatch.setitem(sys.modules, "torchvision.datasets", None)
    with pytest.raises(ImportError, match=r"mnist\.npz does not exist.*pip install torchvision"):
        load_pictures("mnist", tmp_path)


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One epoch on MNIST's format; it leaves curves and frozen weights."""
    rng = np.random.default_rng(0)
    parts = {}
    for part, n in (("train", 60), ("test", 20)):
        parts[f"X_{part}"] = rng.integers(0, 256, (n, 784), dtype=np.uint8)
        parts[f"y_{part}"] = rng.integers(0, 10, n)
    np.savez(tmp_path / "mnist.npz", **parts)
    out = tmp_path / "out"
    common = ["--data", "mnist", "--folder", str(tmp_path), "--output", str(out)]
    main([*common, "--epochs", "1", "--batch", "20", "--no-mirror"])
    name = "mnist-optimal5-nearest-layer-seed0"
    assert "epoch 1: loss" in capsys.readouterr().out
    assert (out / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    assert len(json.loads((out / f"{name}.json").read_text())) == 1
    weights = torch.load(out / f"{name}.pt", weights_only=True)
    assert weights["net.6.parametrizations.weight.original0"].dtype == torch.uint8
    with pytest.raises(SystemExit):
        main([*common, "--batch", "0"])
    assert "batch was 0" in capsys.readouterr().err


def test_nothing_else_imports_torch() -> None:
    pytest.importorskip("pynq")  # the demo, for one, is about a device
    code = (
        "import sys, pkgutil, importlib, zipml_pynq\n"
        "for m in pkgutil.iter_modules(zipml_pynq.__path__):\n"
        "    if m.name not in ('deep', '_kernel'):\n"
        "        importlib.import_module('zipml_pynq.' + m.name)\n"
        "print('torch' in sys.modules)"
    )
    out = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True
    )
    assert out.stdout.strip() == "False", out.stderr


def test_without_torch_it_says_what_to_install() -> None:
    code = "import sys; sys.modules['torch'] = None; import zipml_pynq.deep"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "pip install 'zipml_pynq[deep]'" in out.stderr

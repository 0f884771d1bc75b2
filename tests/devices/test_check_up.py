"""The check-up of a board, on the emulated one: whole, and with what may be wrong on hardware."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from zipml_pynq.accelerator.interface import VLNV
from zipml_pynq.accelerator.power import PowerMeter
from zipml_pynq.data.layout import most_bits
from zipml_pynq.devices import check_up, clocks
from zipml_pynq.devices.emulated import EmulatedDevice
from zipml_pynq.devices.overlay import load_overlay


def findings(**options):
    return {f.name: f for f in check_up.check_up("emulated", **options)}


@pytest.mark.parametrize("value_format", VLNV)
def test_the_emulated_board_is_right(value_format):
    found = findings(value_format=value_format)
    judged = {name for name, finding in found.items() if finding.right is not None}
    all_bits = [32] if value_format == "float32" else range(1, most_bits(value_format) + 1)
    precisions = {f"{bits} bits" for bits in all_bits}
    timed = set() if value_format == "refetch" else {"cycles"}
    assert judged == {"kernel", "memory", *precisions, *timed}
    assert all(found[name].right for name in judged)
    assert "not measured" in found["bandwidth"].text
    assert "energy" not in found


def other_kernel(monkeypatch, change):
    """Boards whose kernel's results are changed on their way."""

    def load(source, **options):
        loaded = load_overlay(source, **options)
        device = loaded.driver.device
        run = device._build.run

        def changed(word_bits, value_format, hosts, scalars, *more, **named):
            results = run(word_bits, value_format, hosts, scalars, *more, **named)
            return change(device, hosts, scalars, results)

        device._build = SimpleNamespace(name="other", run=changed)
        return loaded

    monkeypatch.setattr(check_up, "load_overlay", load)


def test_a_wrong_bit_shows(monkeypatch):
    def change(device, hosts, scalars, results):
        if scalars["bits"] == 3:
            device.memory[hosts["history"] - device.memory.ctypes.data] ^= 1
        return results

    other_kernel(monkeypatch, change)
    found = findings()
    assert [name for name, finding in found.items() if finding.right is False] == ["3 bits"]
    assert found["3 bits"].text.startswith("362 of 363 entries are equal")


def test_other_words_or_cycles_show(monkeypatch):
    def change(device, hosts, scalars, results):
        return results | {
            "words": results["words"] + 1,
            "modelled_cycles": results["modelled_cycles"] + 1,
        }

    other_kernel(monkeypatch, change)
    found = findings()
    assert found["8 bits"].right is found["cycles"].right is False
    assert ", not " in found["8 bits"].text


def test_clock_bandwidth_and_energy_of_a_board(monkeypatch):
    """Where there is a clock to read, the time of a run is told beside the modelled one."""
    pytest.importorskip("pandas")
    monkeypatch.setattr(clocks, "running", lambda device: 99.0)
    monkeypatch.setattr(clocks, "built_for", lambda path: 125.0)

    class Sensor:
        name, parents = "12V_power", ()

        def get_value(self, parents=None):
            return 5.0

    def load(source):
        loaded = load_overlay(source, device=EmulatedDevice(clock_mhz=99.0))
        loaded.driver.clock_mhz, loaded.driver.power = 99.0, PowerMeter(Sensor())
        return loaded

    monkeypatch.setattr(check_up, "load_overlay", load)
    found = findings()
    assert found["clock"].right is False
    assert "runs at 99 MHz; built for 125 MHz" in found["clock"].text
    assert "modelled" in found["bandwidth"].text
    assert "at 99 MHz" in found["bandwidth"].text
    assert found["energy"].text.endswith("J an epoch, whole board")


def test_every_kernel_of_an_overlay_is_looked_at(monkeypatch):
    """Also one whose port to memory is wrong where the others' are right."""
    devices = []

    def load(source):
        devices.append(EmulatedDevice(kernels=3))
        loaded = load_overlay(source, device=devices[-1])
        finish = devices[-1].register_files[2].finish

        def one_word_less(outputs):
            finish({**outputs, "words": max(0, outputs["words"] - 1)})

        devices[-1].register_files[2].finish = one_word_less
        return loaded

    monkeypatch.setattr(check_up, "load_overlay", load)
    found = findings()
    assert found["kernel 1, 8 bits"].right is True
    wrong = [name for name, finding in found.items() if finding.right is False]
    assert wrong == ["kernel 2, 8 bits"]


def test_a_board_that_cannot_be_loaded_is_a_finding(tmp_path):
    *_, last = check_up.check_up(str(tmp_path))
    assert (last.name, last.right) == ("overlay", False)
    assert "holds neither zipml_sgd.bit" in last.text


def test_the_command(capsys):
    pytest.importorskip("click")
    from zipml_pynq.command_line.main import main

    assert main(["board-check", "emulated"]) == 0
    page = capsys.readouterr().out
    assert "right 8 bits " in page
    assert page.endswith("Everything that was judged is right.\n")
    assert main(["board-check", "pynq-z2", "--json"]) == 1
    told = capsys.readouterr()
    assert json.loads(told.out)["wrong"] == ["overlay"]
    assert "zipml: error: not as it should be: overlay" in told.err

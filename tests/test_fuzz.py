"""A little of ``make fuzz``."""

from __future__ import annotations

import pytest

from tests.fuzz import files, guided, texts

# pynq's own, on pydantic 2
pytestmark = pytest.mark.filterwarnings("ignore:The `:DeprecationWarning:pynq")


@pytest.mark.parametrize("kind", [texts.tables, texts.libsvm])
def test_text(kind, tmp_path):
    assert min(list(kind(2.0, 11, tmp_path).values())[:2]) > 20


def test_text_under_sanitizers(tmp_path):
    assert guided.replayed(300, 11, tmp_path) == {"inputs": 300}


def test_text_guided_by_coverage(tmp_path):
    if not guided.has_libfuzzer(tmp_path):
        pytest.skip("clang++ with libFuzzer is not installed")
    figures = guided.guided(2, 11, tmp_path)
    assert figures["inputs"] > 1000
    assert figures["of these read"] > 10


def test_files(tmp_path):
    assert files.bytes_and_lengths(41, 11, tmp_path)["bytes changed"] > 50
    assert files.headers(1.0, 11, tmp_path)["headers made up"] > 20


def test_wire(tmp_path):
    pytest.importorskip("pynq.remote.gpio_pb2", reason="pynq 3.1 has a part of PYNQ.remote only")
    from tests.fuzz import wire

    figures = wire.wire(300, 60, 11, tmp_path)
    assert figures["messages"] == 300
    assert figures["trainings beside them"] > 0

"""How epochs are cut into rounds, and what the coordinator tells of workers."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from zipml_pynq.distributed.averaging import change_of
from zipml_pynq.distributed.coordinate import SLOW_ROUNDS, _Pace
from zipml_pynq.distributed.rounds import COUNTERS, Answer, Rounds, check_length, choose_length
from zipml_pynq.errors import ArgumentError, ZipmlWarning


def test_pieces_of_an_epoch_are_all_of_its_samples_once():
    rounds = Rounds(3, 0.25)
    spans = [rounds.at(number) for number in range(len(rounds))]
    assert len(spans) == 12
    assert [span.number for span in spans] == list(range(12))
    for samples in (1000, 1003, 64):
        for epoch in range(3):
            own = [span for span in spans if span.first == epoch]
            assert [span.stop for span in own] == [epoch + 1] * 4
            assert sum(span.samples(samples, 16) for span in own) == samples
    # what is trained later has numbers of its own
    assert Rounds(1, 0.25, first_epoch=3).at(0).number == 12


def test_rounds_of_several_epochs_end_with_the_last():
    rounds = Rounds(10, 4)
    spans = [rounds.at(number) for number in range(len(rounds))]
    assert [(span.first, span.stop) for span in spans] == [(0, 4), (4, 8), (8, 10)]
    assert [span.number for span in spans] == [0, 1, 2]
    assert Rounds(4, 4, first_epoch=10).at(0).number == 3


def test_a_round_ends_where_precision_changes():
    rounds = Rounds(9, 2, changes=(1, 4))
    spans = [rounds.at(number) for number in range(len(rounds))]
    assert [(s.first, s.stop) for s in spans] == [(0, 1), (1, 3), (3, 4), (4, 6), (6, 8), (8, 9)]
    assert [span.number for span in spans] == list(range(6))
    assert rounds.turns == [1, 3]
    assert Rounds(3, 0.25, changes=(1,)).turns == [4]


@pytest.mark.parametrize("length", [0, -1, 0.3, 1.5, "1", True, np.inf])
def test_other_lengths_are_refused(length):
    with pytest.raises(ArgumentError, match="round_epochs was"):
        check_length(length)


@pytest.mark.parametrize(
    ("trip", "epoch", "length"),
    [(0.001, 1.0, 0.25), (0.001, 0.06, 1.0), (0.02, 0.06, 2.0), (0.5, 0.01, 4.0)],
)
def test_messages_are_a_small_part_of_a_round(trip, epoch, length):
    assert choose_length(trip, epoch, 100, 8) == length
    assert choose_length(trip, epoch, 1, 8) == min(1.0, length)
    # of every shard there is a block in every round
    assert choose_length(trip, epoch, 100, 1) == max(1.0, length)


def test_slow_workers_are_told_once():
    model = np.zeros((1, 4), np.int32)
    change = change_of(model, model, 8, 0, 0, 0)
    pace = _Pace()

    def rounds(number, seconds):
        for _ in range(number):
            for worker, took in seconds.items():
                pace.take(Answer(0, change, dict.fromkeys(COUNTERS, 0), took, worker), 100)
            pace.tell()

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rounds(SLOW_ROUNDS, {"a": 0.1, "b": 0.15, "c": 0.12})
        rounds(SLOW_ROUNDS - 1, {"a": 0.1, "b": 0.15, "c": 0.3})
    with pytest.warns(ZipmlWarning, match="worker c takes 2.1 times") as told:
        rounds(5, {"a": 0.1, "b": 0.15, "c": 0.31})
    assert len(told) == 1
    assert pace.slow == ["c"]

"""Metrics against hand-made figures, and the samples they are made of."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from mclrec_fast import Popularity, SASRec
from mclrec_fast.config import TrainConfig
from mclrec_fast.counted import best_by_score
from mclrec_fast.data import InteractionLog, Samples, split
from mclrec_fast.data.samples import training_counts
from mclrec_fast.errors import RunError
from mclrec_fast.evaluation import (
    UNREACHABLE,
    Ranks,
    measure_samples,
    popularity_ranks,
    rank_and_list,
    rank_samples,
    summary,
)
from mclrec_fast.metrics import RANKED, list_metrics, metrics
from mclrec_fast.models.base import Model, Pass
from mclrec_fast.sampling import SampleTable

CPU = torch.device("cpu")


def make_log(*sequences: list[int], items: int) -> InteractionLog:
    return InteractionLog(
        items=np.array([i for sequence in sequences for i in sequence], np.int32),
        offsets=np.cumsum([0, *map(len, sequences)]).astype(np.int64),
        times=None,
        user_ids=np.arange(len(sequences)),
        item_ids=np.arange(items + 1),
    )


def targets(log: InteractionLog, max_length: int = 50) -> SampleTable:
    """The last item of every user, to be ranked."""
    users = np.arange(log.n_users, dtype=np.int32)
    return SampleTable(log, Samples(users, (log.lengths - 1).astype(np.int32)), max_length, CPU)


def scorer(scores: np.ndarray) -> Popularity:
    """A model that gives every item a score of its own, the same for everybody."""
    model = Popularity()
    model.start(np.arange(len(scores)), 0)
    model.popularity.copy_(torch.from_numpy(scores))
    return model


def rank_by_scores(scores: np.ndarray, table: SampleTable, *, batch_size: int) -> Ranks:
    return rank_samples(scorer(scores), table, batch_size=batch_size)


CUTOFFS = TrainConfig.cutoffs


def test_metrics_by_hand() -> None:
    found = metrics(np.array([0, 4, 5, 60]), CUTOFFS)
    assert found["hr@5"] == 2 / 4
    assert found["hr@10"] == 3 / 4
    assert found["hr@50"] == 3 / 4
    assert found["ndcg@5"] == pytest.approx((1 + 1 / math.log2(6)) / 4, abs=1e-15)
    assert found["ndcg@10"] == pytest.approx((1 + 1 / math.log2(6) + 1 / math.log2(7)) / 4)
    assert found["mrr@10"] == pytest.approx((1 + 1 / 5 + 1 / 6) / 4, abs=1e-15)
    assert all(found[f"recall@{k}"] == found[f"hr@{k}"] for k in CUTOFFS)
    assert all(found[f"precision@{k}"] == pytest.approx(found[f"hr@{k}"] / k) for k in CUTOFFS)
    assert set(found) == {f"{m}@{k}" for m in RANKED for k in CUTOFFS}


def test_list_metrics_by_hand() -> None:
    lists = np.array([[1, 2, 3], [1, 4, 0]])  # the second has no third
    counts = np.array([0, 8, 4, 3, 1, 0], np.float32)
    found = list_metrics(lists, counts, (1, 3))
    assert found["coverage@1"] == 1 / 5 and found["coverage@3"] == 4 / 5
    assert found["novelty@1"] == pytest.approx(1.0)
    bits = [1.0, 2.0, -math.log2(3 / 16), 1.0, 4.0]
    assert found["novelty@3"] == pytest.approx(sum(bits) / 5)


def test_best_items_leave_out_what_was_seen() -> None:
    log = make_log([1, 2, 3], [4, 1], items=4)
    scores = np.array([9, 4, 3, 2, 1], np.float32)
    _, found = rank_and_list(scorer(scores), targets(log), 3, batch_size=1)
    assert found.tolist() == [[3, 4, 0], [1, 2, 3]]


def test_ranks_by_hand_with_ties_and_masks() -> None:
    # scores of the items 1..6; item 0 is padding and must not count, though it scores highest
    scores = np.array([9, 5, 4, 4, 4, 3, 1], np.float32)
    log = make_log(
        [1, 2, 3],  # target 3: above it 1; ties 2, 4 -> 1 + 2 // 2; masked: 1, 2 gone -> 0 + 1 // 2
        [6, 1],  # target 1: the best
        [2, 2, 5],  # target 5: 1, 2, 3, 4 above; masked without 2 (twice in the history)
        [6, 1, 6],  # target 6, seen before: 5 above; masked it cannot be reached
        items=6,
    )
    found = rank_by_scores(scores, targets(log), batch_size=3)
    assert found.unmasked.tolist() == [2, 0, 4, 5]
    assert found.unmasked_ties.tolist() == [2, 0, 0, 0]
    assert found.masked.tolist() == [0, 0, 3, UNREACHABLE]
    assert found.masked_ties.tolist() == [1, 0, 0, 0]
    assert found.repeated.tolist() == [False, False, False, True]
    report = summary(found, CUTOFFS)
    assert report["repeated"] == 1
    assert (report["unmasked"]["tied"], report["masked"]["tied"], report["samples"]) == (1, 1, 4)
    assert report["masked"]["hr@5"] == 0.75


def test_a_constant_scorer_gets_no_credit() -> None:
    log = make_log(*([[1, i + 1] for i in range(100)]), items=100)
    found = rank_by_scores(np.zeros(101, np.float32), targets(log), batch_size=7)
    assert (found.unmasked == 49).all()
    assert metrics(found.unmasked, CUTOFFS)["hr@20"] == 0


def test_every_history_is_encoded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """For ranks, both protocols and lists together; the figures are those of separate passes."""
    rng = np.random.default_rng(5)
    log = make_log(*(rng.integers(1, 31, n).tolist() for n in rng.integers(3, 9, 40)), items=30)
    model = SASRec(hidden_size=8, heads=1, layers=1, inner_size=8, max_length=6)
    model.start(np.arange(31), 3)
    users = np.arange(40, dtype=np.int32)
    parts = {"test": Samples(users, (log.lengths - 1).astype(np.int32))}
    train, counts = TrainConfig(eval_batch_size=7, cutoffs=(1, 5)), np.ones(31, np.float32)
    table = SampleTable(log, parts["test"], 6, CPU)
    ranks, lists = (rank_and_list(model, table, k, batch_size=64)[k > 0] for k in (0, 5))
    encoded = []
    encode = SASRec.represent_slices

    def counting(self: SASRec, items: Tensor, starts: Tensor, lengths: Tensor, at: Pass) -> Tensor:
        encoded.append(len(starts))
        return encode(self, items, starts, lengths, at)

    monkeypatch.setattr(SASRec, "represent_slices", counting)
    told: list[int] = []
    found = measure_samples(model, log, parts, counts, train, after_batch=told.append)
    assert sum(encoded) == sum(told) == 40
    expected = summary(ranks, (1, 5)) | {"lists": list_metrics(lists, counts, (1, 5))}
    assert found["test"] == expected


@pytest.mark.parametrize("levels", [1, 4, 1000])
def test_the_floor_from_counts_is_the_ranking_of_a_model(levels: int) -> None:
    rng = np.random.default_rng(levels)
    log = make_log(*(rng.integers(1, 31, n).tolist() for n in rng.integers(2, 45, 300)), items=30)
    scores, table = rng.integers(0, levels, 31).astype(np.float32), targets(log)
    for ours, theirs in zip(
        popularity_ranks(scores, table), rank_by_scores(scores, table, batch_size=64), strict=True
    ):
        assert ours.dtype == theirs.dtype and np.array_equal(ours, theirs)
    for k in (1, 10, 30):
        _, lists = rank_and_list(scorer(scores), table, k, batch_size=64)
        assert np.array_equal(best_by_score(scores, table, k), lists)


def test_some_samples_are_a_fixed_choice_by_the_seed() -> None:
    log = make_log(*([[1, 2 + i % 3] for i in range(40)]), items=5)
    table = targets(log)
    chosen = table.some(10, seed=3)
    assert len(chosen) == 10 and len(table) == 40
    assert chosen.users.tolist() == sorted(set(chosen.users.tolist()))
    assert chosen.users.tolist() == table.some(10, seed=3).users.tolist()
    assert chosen.users.tolist() != table.some(10, seed=4).users.tolist()
    assert set(chosen.users.tolist()) < set(table.some(20, seed=3).users.tolist())
    assert table.some(0, seed=3) is table and table.some(40, seed=3) is table


def test_masking_reaches_beyond_the_last_l_items() -> None:
    scores = np.array([0, 6, 5, 4, 3, 2, 1], np.float32)
    log = make_log([1, 2, 3, 4, 6], items=6)
    found = rank_by_scores(scores, targets(log, max_length=2), batch_size=1)
    assert (found.unmasked.tolist(), found.masked.tolist()) == ([5], [1])


def test_ranks_do_not_depend_on_the_batch_size() -> None:
    rng = np.random.default_rng(0)
    log = make_log(*(rng.integers(1, 31, n).tolist() for n in rng.integers(2, 9, 40)), items=30)
    h, items = torch.randn(40, 8), torch.randn(31, 8)

    def ranks(batch_size: int) -> list[np.ndarray]:
        taken = 0

        class Given(Model):
            Options = Popularity.Options

            def build(self, n_classes: int) -> None:
                self.table = items

            def items(self) -> torch.Tensor:
                return self.table

            def represent_slices(
                self, _items: torch.Tensor, starts: torch.Tensor, lengths: torch.Tensor, at: Pass
            ) -> torch.Tensor:
                nonlocal taken
                taken += len(starts)
                return h[taken - len(starts) : taken]

        model = Given()
        model.start(np.arange(31), 0)
        return list(rank_samples(model, targets(log), batch_size=batch_size))

    for ours, theirs in zip(ranks(1), ranks(64), strict=True):
        assert np.array_equal(ours, theirs)


def test_scores_that_are_not_finite_are_an_error() -> None:
    log = make_log([1, 2], items=3)
    with pytest.raises(RunError, match="not finite"):
        rank_by_scores(np.array([0, 1, np.nan, 2], np.float32), targets(log), batch_size=1)


def test_popularity_counts_what_training_sees() -> None:
    log = make_log([1, 2, 3, 4, 5], [2, 2, 1, 4], [3, 3, 3], [5, 5], items=5)
    parts = split(log)
    # user 0 trains on items 1, 2, 3; user 1 on 2, 2; users 2 and 3 have no training sample
    assert training_counts(log, parts.train).tolist() == [0, 1, 3, 1, 0, 0]


def test_slices_of_the_log() -> None:
    log = make_log([1, 2, 3, 4, 5], [6, 7, 8], items=8)
    samples = Samples(np.array([0, 1, 0], np.int32), np.array([4, 1, 2], np.int32))
    table = SampleTable(log, samples, 3, CPU)
    starts, lengths, wanted = table.batch(torch.tensor([0, 1, 2]))
    assert starts.tolist() == [1, 5, 0]
    assert lengths.tolist() == [3, 1, 2]
    assert wanted.tolist() == [5, 7, 3]
    items, offsets = table.seen(torch.tensor([2, 0]))
    assert items.tolist() == [1, 2, 1, 2, 3, 4]
    assert offsets.tolist() == [0, 2, 6]
    assert [t.dtype for t in (starts, lengths, wanted, items, offsets)] == [
        torch.int64, torch.int32, torch.int64, torch.int32, torch.int64,
    ]  # fmt: skip

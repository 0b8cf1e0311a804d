"""Inputs and a brute-force oracle for the ranking tests. Not a test file."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from mclrec_fast import _native

VARIANTS = ["torch", *(f"native-{isa}" for isa in _native.compiled_isa() or ["none"])]
FUSED = [name for name in VARIANTS if name not in ("torch", "native-portable")]
"""Kernels that round once for a multiplication and an addition, as the reference does."""


@contextmanager
def backend_of(variant: str, op: str) -> Iterator[str]:
    """The backend word of a variant, with its instruction set selected; skips what is not here."""
    backend, _, isa = variant.partition("-")
    if backend == "torch":
        yield backend
        return
    if not _native.has_kernel(op):
        pytest.skip(f"no kernel of {op}: {_native.why_not()}")
    if isa not in _native.usable_isa():
        pytest.skip(f"{isa} cannot run here")
    with _native.use_isa(isa):
        yield backend


class RankingCase(NamedTuple):
    """Arguments of `target_rank`; `top_k` takes the history as its exclusions."""

    h: Tensor
    item_embedding: Tensor
    targets: Tensor
    history: Tensor
    history_offsets: Tensor


def lists_per_row(rows: list[list[int]]) -> tuple[Tensor, Tensor]:
    """Store one list of items per row as items int32 [K] and offsets int64 [B + 1]."""
    items = torch.tensor([item for row in rows for item in row], dtype=torch.int32)
    lengths = torch.tensor([0] + [len(row) for row in rows], dtype=torch.int64)
    return items, lengths.cumsum(0)


def dyadic_case(B: int, V: int, D: int, seed: int = 0, longest: int = 9) -> RankingCase:
    """Random case whose scores are exact in float32, so that float64 is an exact oracle.

    Coordinates are few multiples of 1/4: ties are frequent. Histories hold repeats, the padding
    item and sometimes the target.
    """
    generator = torch.Generator().manual_seed(seed)
    h = torch.randint(-4, 5, (B, D), generator=generator) / 4
    item_embedding = torch.randint(-4, 5, (V, D), generator=generator) / 4
    targets = torch.randint(1, V, (B,), generator=generator)
    rows = []
    for row in range(B):
        length = int(torch.randint(0, longest + 1, (1,), generator=generator))
        items = torch.randint(0, V, (length,), generator=generator).tolist()
        if length and row % 3 == 0:
            items[0] = int(targets[row])
        if length and row % 2 == 0:
            items.append(items[-1])
        rows.append(items)
    return RankingCase(h, item_embedding, targets, *lists_per_row(rows))


def random_case(B: int, V: int, D: int, seed: int = 0) -> RankingCase:
    """Normally distributed case; its float32 scores are rounded."""
    generator = torch.Generator().manual_seed(seed)
    case = dyadic_case(B, V, D, seed)
    return case._replace(
        h=torch.randn(B, D, generator=generator),
        item_embedding=torch.randn(V, D, generator=generator),
    )


def slice_rows(case: RankingCase, start: int, stop: int) -> RankingCase:
    """The same case for rows start .. stop - 1 only; the history is not cut, only its offsets."""
    return RankingCase(
        case.h[start:stop],
        case.item_embedding,
        case.targets[start:stop],
        case.history,
        case.history_offsets[start : stop + 1],
    )


def brute_force_rank(case: RankingCase) -> list[list[int]]:
    """[rank, ties, masked rank, masked ties] of each row, by counting float64 scores."""
    result = []
    scores = case.h.double() @ case.item_embedding.double().t()
    for row, target in enumerate(case.targets.tolist()):
        first, last = case.history_offsets[row : row + 2].tolist()
        seen = set(case.history[first:last].tolist())
        line = []
        for removed in (set(), seen):
            others = [
                float(scores[row, item])
                for item in range(1, scores.shape[1])
                if item != target and item not in removed
            ]
            mine = float(scores[row, target])
            ties = sum(score == mine for score in others)
            line += [sum(score > mine for score in others) + ties // 2, ties]
        result.append(line)
    return result


def brute_force_top_k(case: RankingCase, k: int) -> tuple[list[list[float]], list[list[int]]]:
    """Scores and items of the k best of each row, from float64 scores, by sorting."""
    all_scores, all_items = [], []
    scores = case.h.double() @ case.item_embedding.double().t()
    for row in range(len(case.h)):
        first, last = case.history_offsets[row : row + 2].tolist()
        removed = set(case.history[first:last].tolist()) | {0}
        ranked = sorted(
            (-float(scores[row, item]), item)
            for item in range(scores.shape[1])
            if item not in removed
        )[:k]
        missing = k - len(ranked)
        all_scores.append([-score for score, _ in ranked] + [-float("inf")] * missing)
        all_items.append([item for _, item in ranked] + [0] * missing)
    return all_scores, all_items

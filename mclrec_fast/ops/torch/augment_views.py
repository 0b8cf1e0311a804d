"""Stochastic augmentation in plain torch: crop, mask and reorder (Qin et al. 2023, section 4.1).

Works on a padded [S, L] picture of the histories and packs the result; the kernels write packed
tokens directly and draw the same bits.
"""

import torch
from torch import Tensor

from ..packed import PackedSequences
from ..philox import STREAM_AUGMENTATION, philox, uniform_below

_CROP, _MASK, _REORDER = range(3)
_LAST = torch.iinfo(torch.int64).max


def gather_sequences(
    items: Tensor, starts: Tensor, lengths: Tensor, *, max_length: int
) -> PackedSequences:
    """The histories ``items[start : start + length]`` as a packed batch of S rows."""
    history = _padded(items, starts, lengths, max_length)  # [S, L]
    column = torch.arange(history.shape[1], device=items.device).expand_as(history)
    return _pack(history, column, column < lengths[:, None])


def augment_views(
    items: Tensor,
    starts: Tensor,
    lengths: Tensor,
    *,
    max_length: int,
    crop_ratio: float,
    mask_ratio: float,
    reorder_ratio: float,
    seed: int,
    batch: int,
) -> PackedSequences:
    """The histories and two views of each, as a packed batch of 3S rows (see the public op)."""
    device = items.device
    history = _padded(items, starts, lengths, max_length)  # [S, L]
    width = history.shape[1]
    n = lengths.to(torch.int64)[:, None]  # [S, 1]
    row = torch.arange(len(starts), device=device)
    column = torch.arange(width, device=device).expand_as(history)

    pair, *view_starts = philox(seed, torch.zeros_like(row), row, STREAM_AUGMENTATION, batch)[:3]
    pair = uniform_below(pair, 6)
    first, second = pair // 2, pair % 2
    second = second + (second >= first).to(torch.int64)

    parts = [(history, column, column < n)]
    for view, operator in enumerate((first, second)):
        words = philox(
            seed,
            torch.arange((width + 3) // 4, device=device),
            row[:, None],
            STREAM_AUGMENTATION | (view + 1),
            batch,
        )
        keys = torch.stack(words, -1).flatten(1)[:, :width]  # [S, L]
        start_word = view_starts[view][:, None]
        operator = operator[:, None]
        cropped, kept = _crop(history, n, start_word, 1.0 - crop_ratio)
        masked = _mask(history, n, keys, mask_ratio)
        reordered = _reorder(history, n, keys, start_word, reorder_ratio)
        view_items = torch.where(
            operator == _CROP,
            cropped,
            torch.where(operator == _MASK, masked, reordered),
        )
        view_items = torch.where(n == 1, history, view_items)
        length = torch.where((operator == _CROP) & (n > 1), kept, n)
        # A masked token is never a key, so only a masked last token, which is the query, stays.
        present = (column < length) & ((view_items != 0) | (column == length - 1))
        parts.append((view_items, column, present))
    return _pack(*(torch.cat(part) for part in zip(*parts, strict=True)))


def _portion(n: Tensor, ratio: float) -> Tensor:
    """floor(n * ratio) with the product rounded to float32, as the authors' tensors do."""
    return (n.to(torch.float32) * torch.tensor(ratio, dtype=torch.float32)).to(torch.int64)


def _crop(history: Tensor, n: Tensor, word: Tensor, kept_ratio: float) -> tuple[Tensor, Tensor]:
    kept = _portion(n, kept_ratio).clamp_min(1)
    column = torch.arange(history.shape[1], device=history.device)
    source = column + uniform_below(word, n - kept + 1)
    return history.gather(1, source.clamp_max(history.shape[1] - 1)), kept


def _mask(history: Tensor, n: Tensor, keys: Tensor, ratio: float) -> Tensor:
    column = torch.arange(history.shape[1], device=history.device)
    order = torch.where(column < n, keys, _LAST).argsort(dim=1, stable=True)
    rank = order.argsort(dim=1)
    return torch.where(rank < _portion(n, ratio), 0, history)


def _reorder(history: Tensor, n: Tensor, keys: Tensor, word: Tensor, ratio: float) -> Tensor:
    last = history.shape[1] - 1
    column = torch.arange(last + 1, device=history.device)
    size = _portion(n, ratio)
    start = uniform_below(word, n - size + 1)
    order = torch.where(column < size, keys, _LAST).argsort(dim=1, stable=True)
    inside = (column >= start) & (column < start + size)
    shuffled = start + order.gather(1, (column - start).clamp(0, last))
    return history.gather(1, torch.where(inside, shuffled, column).clamp_max(last))


def _padded(items: Tensor, starts: Tensor, lengths: Tensor, width: int) -> Tensor:
    """Histories as int64 [S, width], 0 behind the last item."""
    column = torch.arange(width, device=items.device)
    present = column < lengths[:, None]
    index = torch.where(present, starts[:, None] + column, 0)
    return torch.where(present, items[index].to(torch.int64), 0)


def _pack(items: Tensor, positions: Tensor, present: Tensor) -> PackedSequences:
    offsets = torch.zeros(len(items) + 1, dtype=torch.int32, device=items.device)
    offsets[1:] = present.sum(1).cumsum(0)
    return PackedSequences(
        items[present].to(torch.int32), positions[present].to(torch.int32), offsets
    )

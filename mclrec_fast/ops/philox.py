"""Counter-based random numbers in plain torch: Philox-4x32-10 and the layout of its counter.

The same bits as csrc/shared/philox.h, which the kernels use. The key is a 64-bit seed; the counter
is {draw, row, stream, update}, so every number has an address and nothing has a state. Source:
Salmon et al., *Parallel random numbers: as easy as 1, 2, 3*, SC 2011.
"""

import functools

import torch
from torch import Tensor

_MASK = 0xFFFFFFFF
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)

STREAM_SHUFFLE = 1 << 16
STREAM_AUGMENTATION = 2 << 16
_STREAM_DROPOUT = 3 << 16
STREAM_VALIDATION = 4 << 16
STREAM_NEGATIVES = 5 << 16
_STREAM_ROWS = 15 << 16  # drawn in Python alone

SITE_EMBEDDING, SITE_ATTENTION, SITE_ATTENTION_OUTPUT, SITE_FEED_FORWARD = range(4)


def dropout_stream(layer: int, site: int) -> int:
    """The stream of one dropout site of one encoder layer (the embedding's layer is 0)."""
    return _STREAM_DROPOUT | (layer << 8) | site


def philox(seed: int, draw: Tensor, row: Tensor, stream: int, update: int) -> list[Tensor]:
    """Philox-4x32-10 blocks for every (draw, row) pair.

    Args:
        seed: the key, any 64-bit integer (its two's complement bits count).
        draw: int64 [...], the index of the block of four words.
        row: int64, broadcastable with ``draw``.
        stream: what the numbers are for, below 2**32.
        update: when they are drawn, below 2**32.

    Returns:
        Four int64 tensors of the broadcast shape, each word in [0, 2**32).
    """
    c0, c1 = draw + torch.zeros_like(row), row + torch.zeros_like(draw)
    k0, k1 = seed & _MASK, (seed >> 32) & _MASK
    # int64 products wrap modulo 2**64, so their halves are those of the unsigned product. Only what
    # is multiplied next must be free of their upper bits. In the first round half of the counter is
    # the same for all.
    of_all = stream * _MULTIPLIERS[1]
    product0 = c0 * _MULTIPLIERS[0]
    c0 = c1 ^ (of_all >> 32 ^ k0)
    c2 = (product0 >> 32).bitwise_xor_(update ^ k1).bitwise_and_(_MASK)
    c1, c3 = torch.full_like(c0, of_all & _MASK), product0
    for number in range(1, 10):
        keys = [(key + number * step) & _MASK for key, step in zip((k0, k1), _WEYL, strict=True)]
        product0, product1 = c0 * _MULTIPLIERS[0], c2 * _MULTIPLIERS[1]
        c0 = (product1 >> 32).bitwise_xor_(c1).bitwise_xor_(keys[0]).bitwise_and_(_MASK)
        c2 = (product0 >> 32).bitwise_xor_(c3).bitwise_xor_(keys[1]).bitwise_and_(_MASK)
        c1, c3 = product1, product0
    return [c0, c1.bitwise_and_(_MASK), c2, c3.bitwise_and_(_MASK)]


def uniform_below(word: Tensor, bound: Tensor | int) -> Tensor:
    """Uniform integers in [0, bound) from 32-bit words, int64, bias below bound / 2**32."""
    return (word * bound) >> 32


def shuffle_order(samples: int, *, seed: int, epoch: int, stream: int = STREAM_SHUFFLE) -> Tensor:
    """The order of an epoch: a permutation of ``range(samples)``, int64 [samples].

    Every sample draws a 64-bit key; ascending keys are the order, ties by index. Of many samples
    `shuffling.Shuffled` gives it bit by bit.
    """
    keys = shuffle_keys(torch.arange(samples), seed=seed, epoch=epoch, stream=stream)
    return torch.sort(keys, stable=True).indices


def shuffle_keys(rows: Tensor, *, seed: int, epoch: int, stream: int) -> Tensor:
    """The keys by which some samples are ordered, int64, for their numbers, int64 [n]."""
    high, low, _, _ = philox(seed, torch.zeros_like(rows), rows, stream, epoch)
    # Flipping the top bit makes the signed order of the 64-bit keys their unsigned order.
    return ((high ^ 0x80000000) << 32) | low


def dropout_mask(
    p: float,
    first: Tensor,
    count: int,
    row: Tensor,
    *,
    alignment: int,
    seed: int,
    stream: int,
    update: int,
) -> Tensor:
    """Which elements a dropout site keeps, for runs of consecutive elements of a sequence.

    At p = 1/2 one bit decides an element (kept iff set), otherwise 16 bits do (kept iff below
    round((1 - p) * 65536)).

    Args:
        p: the probability of dropping, 0 < p < 1.
        first: int64 [...], index within its sequence of each run's first element.
        count: elements in a run, E.
        row: int64, broadcastable with ``first``: the sequence's index in the packed batch.
        alignment: a number that divides every entry of ``first``.
        seed: the 64-bit key.
        stream: see :func:`dropout_stream`.
        update: number of the update.

    Returns:
        bool [..., E].
    """
    per_word = 32 if p == 0.5 else 2
    per_block = 4 * per_word
    aligned = alignment % per_block == 0
    blocks = -(-count // per_block) if aligned else (count + per_block - 2) // per_block + 1
    draw = (first // per_block)[..., None] + torch.arange(blocks, device=first.device)
    words = torch.stack(philox(seed, draw, row[..., None], stream, update), -1).flatten(-2)
    if not aligned:
        lanes = torch.arange(-(-count // per_word) + 1, device=first.device)
        skipped = (first % per_block // per_word)[..., None] + lanes
        words = words.gather(-1, skipped.clamp_max(words.shape[-1] - 1))
    words = words.to(torch.int32)  # keeps the low 32 bits
    if p == 0.5:
        kept = _bits(first.device)[words.view(torch.uint8).to(torch.int32)].flatten(-2)
    else:
        # Unsigned halves, compared as signed ones after flipping the top bit; the threshold may be
        # 65536, which is no 16-bit number.
        threshold = int((1.0 - p) * 65536.0 + 0.5)
        halves = words.view(torch.int16) ^ -0x8000
        kept = halves <= threshold - 1 - 0x8000 if threshold else torch.zeros_like(halves).bool()
    if alignment % per_word == 0:
        return kept[..., :count]
    shift = (first % per_word)[..., None] + torch.arange(count, device=first.device)
    return kept.gather(-1, shift)


def normal_rows(first: int, count: int, width: int, *, seed: int) -> Tensor:
    """Standard normal numbers for rows of a table, addressed by (seed, row, column).

    A row's numbers do not depend on how many rows are drawn with it.

    Args:
        first: number of the first row.
        count: rows (R).
        width: columns (D).
        seed: the 64-bit key.

    Returns:
        float64 [R, D], by inversion, within 6.3 of 0.
    """
    row = torch.arange(first, first + count)[:, None]
    draw = torch.arange(-(-width // 4))
    words = torch.stack(philox(seed, draw, row, _STREAM_ROWS, 0), -1).flatten(1)[:, :width]
    rows: Tensor = torch.special.ndtri((words.double() + 0.5) / 2**32)
    return rows


@functools.cache
def _bits(device: torch.device) -> Tensor:
    """The eight bits of every byte, least significant first: bool [256, 8]."""
    byte = torch.arange(256, device=device)[:, None]
    return ((byte >> torch.arange(8, device=device)) & 1).bool()

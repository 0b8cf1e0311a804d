"""The random streams: known answers, addresses, fairness."""

import pytest
import torch

from mclrec_fast.ops.philox import (
    SITE_ATTENTION,
    SITE_FEED_FORWARD,
    dropout_mask,
    dropout_stream,
    philox,
    shuffle_order,
    uniform_below,
)


def block(seed: int, draw: int, row: int, stream: int, update: int) -> list[int]:
    words = philox(seed, torch.tensor(draw), torch.tensor(row), stream, update)
    return [int(word) for word in words]


def test_known_answers() -> None:
    """The three vectors of the Random123 distribution (kat_vectors, philox4x32 10)."""
    assert block(0, 0, 0, 0, 0) == [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]
    ones = 0xFFFFFFFF
    assert block(-1, ones, ones, ones, ones) == [
        0x408F276D,
        0x41C83B0E,
        0xA20BC7C6,
        0x6D5451FD,
    ]
    assert block(0x299F31D0_A4093822, 0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344) == [
        0xD16CFE09,
        0x94FDCCEB,
        0x5001E420,
        0x24126EA1,
    ]


def plainly_kept(p: float, element: int, row: int, seed: int, stream: int, update: int) -> bool:
    """The rule of csrc/shared/philox.h, one element at a time."""
    if p == 0.5:
        word = block(seed, element // 128, row, stream, update)[element % 128 // 32]
        return bool(word >> (element % 32) & 1)
    word = block(seed, element // 8, row, stream, update)[element % 8 // 2]
    return (word >> 16 * (element % 2) & 0xFFFF) < int((1 - p) * 65536 + 0.5)


@pytest.mark.parametrize("count", (1, 7, 8, 24, 32, 64, 96, 200))
@pytest.mark.parametrize("stride", (1, 7, 8, 24, 32, 64, 128))
@pytest.mark.parametrize("p", (0.5, 0.2))
def test_dropout_mask_follows_the_rule(p: float, stride: int, count: int) -> None:
    first, row = torch.tensor([0, 1, 2, 3, 9]) * stride, torch.tensor([0, 3, 3, 9, 1])
    address = {"seed": 77, "stream": dropout_stream(1, SITE_FEED_FORWARD), "update": 5}
    mask = dropout_mask(p, first, count, row, alignment=stride, **address)
    plain = [
        [plainly_kept(p, start + i, sequence, **address) for i in range(count)]
        for start, sequence in zip(first.tolist(), row.tolist(), strict=True)
    ]
    assert mask.tolist() == plain


@pytest.mark.parametrize("p", (0.5, 0.1, 0.9))
def test_dropout_keeps_the_right_share(p: float) -> None:
    row = torch.arange(400)
    mask = dropout_mask(
        p,
        torch.zeros_like(row),
        1024,
        row,
        alignment=1024,
        seed=3,
        stream=dropout_stream(0, SITE_ATTENTION),
        update=0,
    )
    deviation = (p * (1 - p) / mask.numel()) ** 0.5
    assert abs(float(mask.double().mean()) - (1 - p)) < 5 * deviation


def test_every_part_of_the_address_matters() -> None:
    base = (5, 1, 2, 3, 4)
    blocks = {tuple(block(*base))}
    for i in range(5):
        changed = list(base)
        changed[i] += 1
        blocks.add(tuple(block(*changed)))
    blocks.add(tuple(block(5 + (1 << 32), *base[1:])))
    assert len(blocks) == 7


def test_uniform_below_covers_its_range() -> None:
    word = torch.tensor([0, (1 << 32) - 1, 1 << 31])
    assert uniform_below(word, 6).tolist() == [0, 5, 3]


def test_shuffle_is_a_new_permutation_every_epoch() -> None:
    first, second = (shuffle_order(1000, seed=1, epoch=epoch) for epoch in (0, 1))
    assert first.sort().values.tolist() == list(range(1000))
    assert not first.equal(second)
    assert first.equal(shuffle_order(1000, seed=1, epoch=0))
    assert not first.equal(shuffle_order(1000, seed=2, epoch=0))
    assert abs(float((first[:500] < 500).double().mean()) - 0.5) < 0.1

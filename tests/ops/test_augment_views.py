"""augment_views and gather_sequences: the kernel against the reference, to the bit.

Every comparison runs with each instruction set and with several numbers of threads; the properties
of the views are checked on every backend there is.
"""

import itertools
from collections.abc import Iterator

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mclrec_fast import _native
from mclrec_fast.ops import PackedSequences, augment_views, gather_sequences

needs_kernel = pytest.mark.skipif(
    not _native.has_kernel("augment_views"), reason=f"no kernel: {_native.why_not()}"
)
BACKENDS = ["torch", pytest.param("native", marks=needs_kernel)]
RATIOS = {"crop_ratio": 0.5, "mask_ratio": 0.5, "reorder_ratio": 0.8}
Slices = tuple[Tensor, Tensor, Tensor]


def slices(lengths: list[int], *, log: int = 2000, seed: int = 0) -> Slices:
    """A log of random items and slices of these lengths: items [I], starts [S], lengths [S]."""
    generator = torch.Generator().manual_seed(seed)
    items = torch.randint(1, 500, (log,), generator=generator, dtype=torch.int32)
    starts = [int(torch.randint(0, log - n + 1, (1,), generator=generator)) for n in lengths]
    return items, torch.tensor(starts, dtype=torch.int64), torch.tensor(lengths, dtype=torch.int32)


def random_lengths(count: int, longest: int, seed: int = 1) -> list[int]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(1, longest + 1, (count,), generator=generator).tolist()


SHAPES = {
    "one row of one item": [1],
    "one row": [9],
    "only rows of one item": [1] * 5,
    "two items": [2] * 40,
    "all lengths equal": [7] * 130,
    "mixed": random_lengths(257, 50),
    "one long row among short ones": [3] * 70 + [900] + [2] * 70,
    "long rows": random_lengths(12, 1000),
    "block of rows exactly full": random_lengths(128, 20),
    "no rows": [],
}


@pytest.fixture(params=[1, 2, 3, 8], ids=lambda n: f"{n} threads")
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def assert_same(left: PackedSequences, right: PackedSequences) -> None:
    for name, a, b in zip(PackedSequences._fields, left, right, strict=True):
        assert a.dtype == b.dtype == torch.int32, name
        assert torch.equal(a, b), name


@needs_kernel
@pytest.mark.parametrize("shape", SHAPES)
def test_kernel_equals_reference(shape: str, threads: int, isa: str) -> None:
    arguments = slices(SHAPES[shape])
    longest = max(SHAPES[shape], default=1)
    for batch in (0, 3):
        options = {"max_length": longest, "seed": 11, "batch": batch, **RATIOS}
        expected = augment_views(*arguments, **options, backend="torch")
        assert_same(augment_views(*arguments, **options, backend="native"), expected)
    expected = gather_sequences(*arguments, max_length=longest, backend="torch")
    native = gather_sequences(*arguments, max_length=longest, backend="native")
    assert_same(native, expected)


@needs_kernel
@pytest.mark.parametrize("crop", [0.0, 0.3, 0.999])
@pytest.mark.parametrize("mask", [0.0, 0.7, 0.999])
@pytest.mark.parametrize("reorder", [0.0, 0.2, 1.0])
def test_every_ratio(crop: float, mask: float, reorder: float) -> None:
    arguments = slices(random_lengths(200, 30))
    ratios = {"crop_ratio": crop, "mask_ratio": mask, "reorder_ratio": reorder}
    options = {"max_length": 30, "seed": 5, "batch": 9, **ratios}
    expected = augment_views(*arguments, **options, backend="torch")
    assert_same(augment_views(*arguments, **options, backend="native"), expected)


@needs_kernel
@pytest.mark.parametrize("seed", [0, -1, 2**63 - 1, 2**63, 2**64 - 1, -(2**63)])
@pytest.mark.parametrize("batch", [0, 2**31, 2**32 - 1])
def test_every_seed_and_batch(seed: int, batch: int) -> None:
    arguments = slices(random_lengths(50, 20))
    options = {"max_length": 20, "seed": seed, "batch": batch, **RATIOS}
    expected = augment_views(*arguments, **options, backend="torch")
    assert_same(augment_views(*arguments, **options, backend="native"), expected)


@needs_kernel
def test_item_values_are_only_copied() -> None:
    items, starts, lengths = slices(random_lengths(100, 12))
    values = torch.tensor([0, -1, -(2**31), 2**31 - 1, 7], dtype=torch.int32)
    items = values[items % 5]  # ids 0 in the log count as masked items
    options = {"max_length": 12, "seed": 1, "batch": 1, **RATIOS}
    expected = augment_views(items, starts, lengths, **options, backend="torch")
    native = augment_views(items, starts, lengths, **options, backend="native")
    assert_same(native, expected)


@needs_kernel
def test_inputs_need_not_be_contiguous() -> None:
    items, starts, lengths = slices(random_lengths(60, 12))
    options = {"max_length": 12, "seed": 1, "batch": 1, **RATIOS}
    expected = augment_views(items, starts, lengths, **options, backend="native")
    spread = [torch.stack([t, t], 1)[:, 1] for t in (items, starts, lengths)]
    assert not any(t.is_contiguous() for t in spread)
    assert_same(augment_views(*spread, **options, backend="native"), expected)


@needs_kernel
def test_capacity_behind_the_last_token_is_zero() -> None:
    arguments = slices(random_lengths(200, 40))
    items, positions, offsets = torch.ops.mclrec_fast.augment_views(
        *arguments, 40, 0.5, 0.5, 0.8, 3, 4
    )
    assert len(items) == len(positions) == 3 * 200 * 40
    used = int(offsets[-1])
    assert used < len(items)
    assert not items[used:].any() and not positions[used:].any()


@needs_kernel
@pytest.mark.parametrize("op", ["augment_views", "gather_sequences"])
def test_opcheck(op: str) -> None:
    arguments = (*slices(random_lengths(20, 12)), 12)
    if op == "augment_views":
        arguments = (*arguments, 0.5, 0.5, 0.8, 3, 4)
    torch.library.opcheck(getattr(torch.ops.mclrec_fast, op).default, arguments)


def split(packed: PackedSequences) -> list[tuple[list[int], list[int]]]:
    """(items, positions) of every sequence."""
    bounds = packed.offsets.tolist()
    return [
        (packed.items[a:b].tolist(), packed.positions[a:b].tolist())
        for a, b in itertools.pairwise(bounds)
    ]


def classify(history: list[int], items: list[int], positions: list[int]) -> str:
    """Which operator made this view out of a history of different items."""
    n = len(history)
    if positions == list(range(len(items))) and len(items) == max(1, n // 2):
        begin = history.index(items[0]) if items[0] else 0
        if items == history[begin : begin + len(items)]:
            return "crop"
    if len(items) == n and sorted(items) == sorted(history):
        return "reorder"
    assert len(items) in (n - n // 2, n - n // 2 + 1)  # one more when the last item is masked
    for item, position in zip(items, positions, strict=True):
        assert item == history[position] or (item == 0 and position == n - 1)
    assert positions[-1] == n - 1
    assert positions == sorted(set(positions))
    return "mask"


@pytest.mark.parametrize("backend", BACKENDS)
@settings(max_examples=20, deadline=None)
@given(n=st.integers(8, 40), seed=st.integers(0, 2**64 - 1), batch=st.integers(0, 2**32 - 1))
def test_views_are_what_the_paper_says(backend: str, n: int, seed: int, batch: int) -> None:
    items = torch.arange(1, 1001, dtype=torch.int32)
    starts, lengths = torch.arange(24) * 7, torch.full((24,), n, dtype=torch.int32)
    packed = augment_views(
        items, starts, lengths, max_length=n, seed=seed, batch=batch, **RATIOS, backend=backend
    )
    rows = split(packed)
    for s in range(24):
        history, positions = rows[s]
        assert history == list(range(7 * s + 1, 7 * s + 1 + n))
        assert positions == list(range(n))
        operators = {classify(history, *rows[24 + s]), classify(history, *rows[48 + s])}
        # A window may come out in order, but two views by one operator never happen otherwise.
        assert len(operators) == 2


@pytest.mark.parametrize("backend", BACKENDS)
def test_all_six_pairs_are_drawn_evenly(backend: str) -> None:
    items = torch.arange(1, 101, dtype=torch.int32)
    starts, lengths = torch.zeros(3000, dtype=torch.int64), torch.full((3000,), 20).int()
    rows = split(
        augment_views(
            items, starts, lengths, max_length=20, seed=8, batch=0, **RATIOS, backend=backend
        )
    )
    history = rows[0][0]
    pairs: dict[tuple[str, str], int] = {}
    for first, second in zip(rows[3000:6000], rows[6000:], strict=True):
        pair = classify(history, *first), classify(history, *second)
        pairs[pair] = pairs.get(pair, 0) + 1
    assert len(pairs) == 6
    # Six standard deviations of a count with mean 500.
    assert all(abs(count - 500) < 6 * (3000 * 5 / 36) ** 0.5 for count in pairs.values())


BAD = [
    ({"lengths": [3, 0]}, ValueError, r"lengths\[1\] must be in 1..5, got 0"),
    ({"lengths": [6, 3]}, ValueError, r"lengths\[0\] must be in 1..5, got 6"),
    (
        {"starts": [0, -1]},
        ValueError,
        r"sequence 1 \(start -1, length 2\) lies outside the 9 items",
    ),
    ({"starts": [8, 0]}, ValueError, r"sequence 0 \(start 8, length 3\) lies outside the 9 items"),
    ({"starts": [2**62, 0]}, ValueError, "lies outside the 9 items"),
    ({"starts": [0, 1, 2]}, ValueError, "one size, got 3 and 2"),
    ({"max_length": 0}, ValueError, "max_length must be at least 1, got 0"),
    ({"crop_ratio": 1.0}, ValueError, r"crop_ratio must be in \[0, 1\), got 1.0"),
    ({"mask_ratio": -0.1}, ValueError, r"mask_ratio must be in \[0, 1\), got -0.1"),
    ({"reorder_ratio": 1.1}, ValueError, r"reorder_ratio must be in \[0, 1\], got 1.1"),
    ({"reorder_ratio": float("nan")}, ValueError, "reorder_ratio must be"),
    ({"seed": 2**64}, ValueError, "seed must be a 64-bit integer"),
    ({"batch": -1}, ValueError, "batch must be in 0..2"),
    ({"items": torch.zeros(9)}, TypeError, "items must be torch.int32, got torch.float32"),
    ({"items": torch.zeros(3, 3, dtype=torch.int32)}, ValueError, r"items must have 1 dim"),
    ({"lengths": torch.tensor([3, 2])}, TypeError, "lengths must be torch.int32"),
    ({"starts": [[0], [1]]}, ValueError, r"starts must have 1 dim"),
]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("change", "error", "message"), BAD, ids=[str(case[0]) for case in BAD])
def test_bad_input(
    backend: str, change: dict[str, object], error: type[Exception], message: str
) -> None:
    values: dict[str, object] = {"items": torch.arange(9, dtype=torch.int32)}
    values |= {"starts": [0, 4], "lengths": [3, 2], "max_length": 5, "seed": 0, "batch": 0}
    values |= {**RATIOS, **change}
    for name, dtype in (("starts", torch.int64), ("lengths", torch.int32)):
        if not isinstance(values[name], Tensor):
            values[name] = torch.tensor(values[name], dtype=dtype)
    with pytest.raises(error, match=message):
        augment_views(**values, backend=backend)
    shared = {"items", "starts", "lengths", "max_length"}
    if shared & change.keys():
        with pytest.raises(error, match=message):
            gather_sequences(**{name: values[name] for name in shared}, backend=backend)

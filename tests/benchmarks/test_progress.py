"""The table of exact savings: every row's encoder is the same function; the work is as counted."""

import json

import pytest
import torch

from benchmarks import encoders, inputs, progress, work
from benchmarks.sweep import Case
from mclrec_fast.ops import encode

CASE = Case("x", "reference", "both", batch=12, classes=40, length=6, width=8)


@pytest.mark.parametrize("name", ["padded", "packed", "last"])
def test_every_row_is_the_same_function(name: str) -> None:
    """With the same dropout; padding moves the draws of the attention, so there without those."""
    packed = inputs.packed(CASE)
    longest = int(packed.lengths.max())
    weights, config = inputs.encoder_weights(CASE, longest)
    weights = [w.detach().double().mul(10).requires_grad_() for w in weights]
    options = {
        "heads": config.heads, "hidden_dropout": 0.5, "eps": config.layer_norm_eps, "seed": 3,
        "update": 2, "attention_dropout": 0.0 if name == "padded" else 0.5,
    }  # fmt: skip
    extra = {"padded": {"padded_to": longest + 2}, "packed": {}, "last": {"last_token_only": True}}
    expected = encode(packed, weights, **options, backend="torch")
    found = encoders.encode(packed, weights, **options, **extra[name])
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


def test_work_of_the_rows() -> None:
    """By hand: one sequence of 2 tokens, D = 4, inner 16, two layers, two heads."""
    n = torch.tensor([2])
    tokens, feed_forward, pairs = 2, 4 * 4 * 16, 3
    layer = tokens * (8 * 16 + feed_forward) + 4 * 4 * pairs
    assert progress.encoder_gflop("packed", n, 4, 50) == pytest.approx(2e-9 * layer)
    padded = 50 * (8 * 16 + feed_forward) + 4 * 4 * 50 * 51 / 2
    assert progress.encoder_gflop("padded", n, 4, 50) == pytest.approx(2e-9 * padded)
    last = tokens * 4 * 16 + 4 * 16 + feed_forward + 4 * 4 * tokens
    assert progress.encoder_gflop("last", n, 4, 50) == pytest.approx(1e-9 * (layer + last))
    absorbed = work.encode(n, 4, 16, 2, 2, backward=False)
    assert progress.encoder_gflop("absorbed", n, 4, 50) == pytest.approx(absorbed)
    whole = work.official_batch(torch.tensor([2, 1, 2]), 9, 4)
    assert progress.batch_gflop("fused", torch.tensor([2, 1, 2]), 9, 4, 50) == pytest.approx(whole)


def test_table(capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["--batch", "4", "--batches", "1", "--warm-up", "0", "--threads", "1"]
    before = torch.get_num_threads()
    try:
        assert progress.main([*argv, "--rows", "padded", "absorbed", "--json"]) == 0
    finally:
        torch.set_num_threads(before)
    rows = json.loads(capsys.readouterr().out)
    assert [row["quoted"] for row in rows] == [True, False, False]
    assert rows[1]["gflop"] > rows[2]["gflop"] > 0
    lines = progress.show(rows).splitlines()
    assert len(lines) == 5
    assert lines[2].endswith("| 75.60 | 3030 | 24.95 | 12.60 | 600 |")

"""The whole evaluation of a test set of Beauty's shape: encode all users, rank all items."""

from collections.abc import Callable

import torch

from benchmarks import shapes, work
from benchmarks.conftest import Measure
from benchmarks.sweep import Case, sweep
from mclrec_fast import SASRec
from mclrec_fast.config import TrainConfig
from mclrec_fast.data import split
from mclrec_fast.evaluation import rank_samples
from mclrec_fast.sampling import SampleTable


@sweep(backends=("reference", "native"), directions=("run",), batch=shapes.BEAUTY_USERS)
def bench_full_ranking(measure: Measure, case: Case) -> None:
    """Unmasked and masked ranks of the last item of every user."""
    log = shapes.beauty_log()
    samples = split(log).test
    assert samples is not None
    if measure.tiny:
        samples = type(samples)(*(column[:20] for column in samples))
    model = SASRec(hidden_size=case.width, inner_size=4 * case.width)
    options = model.options
    table = SampleTable(log, samples, options.max_length, torch.device(case.device))
    lengths = table.ends.cpu().clamp(max=options.max_length)

    def prepare() -> Callable[[], object]:
        model.start(log.item_ids, 1)
        model.to(case.device)
        size = TrainConfig.eval_batch_size
        return lambda: rank_samples(model, table, batch_size=size, backend=case.option)

    D = case.width
    gflop = work.encode(lengths, D, 4 * D, options.layers, options.heads, backward=False)
    gflop += work.ranking(len(table), log.n_classes, D)
    kernels = ("gather_sequences", "encode", "target_rank")
    measure(case, prepare, gflop=gflop, gb=0.5, kernels=kernels, users=len(table))

"""Published figures, to stand beside measured ones: facts with their source, nothing computed.

Source: Qin et al., *Meta-optimized Contrastive Learning for Sequential Recommendation*, SIGIR 2023
(arXiv 2304.07763), its tables of results and of ablations. History not masked. The baselines there
are the paper's own runs; SASRec with the full cross-entropy is far better than the row printed.
"""

from ..data.card import DataCard
from ..data.named import DATASETS

SOURCE = "Qin et al. 2023"
Figures = dict[str, float]


def _six(text: str) -> Figures:
    names = ("hr@5", "hr@10", "hr@20", "ndcg@5", "ndcg@10", "ndcg@20")
    return dict(zip(names, map(float, text.split()), strict=True))


def _two(text: str) -> Figures:
    return dict(zip(("hr@20", "ndcg@20"), map(float, text.split()), strict=True))


_ROWS: dict[str, dict[str, dict[str, Figures]]] = {
    "main": {
        "beauty": {
            "SASRec": _six(".0377 .0624 .0894 .0241 .0342 .0386"),
            "CL4SRec": _six(".0401 .0642 .0974 .0268 .0345 .0428"),
            "DuoRec": _six(".0559 .0825 .1193 .0340 .0425 .0518"),
            "MCLRec": _six(".0581 .0871 .1243 .0352 .0446 .0539"),
        },
        "sports": {
            "SASRec": _six(".0214 .0333 .0500 .0144 .0177 .0224"),
            "CL4SRec": _six(".0231 .0369 .0557 .0146 .0191 .0238"),
            "DuoRec": _six(".0312 .0466 .0696 .0192 .0244 .0302"),
            "MCLRec": _six(".0328 .0501 .0734 .0204 .0260 .0319"),
        },
        "yelp": {
            "SASRec": _six(".0160 .0260 .0443 .0101 .0133 .0179"),
            "CL4SRec": _six(".0227 .0384 .0623 .0143 .0194 .0254"),
            "DuoRec": _six(".0429 .0614 .0868 .0324 .0383 .0447"),
            "MCLRec": _six(".0454 .0647 .0941 .0332 .0394 .0467"),
        },
    },
    "ablation": {
        "beauty": {
            "MCLRec": _two(".1243 .0539"),
            "without L_cl1": _two(".1243 .0539"),
            "without L_cl2": _two(".1056 .0394"),
            "without R": _two(".1236 .0529"),
            "one shared augmenter": _two(".1231 .0532"),
        },
        "sports": {
            "MCLRec": _two(".0734 .0319"),
            "without L_cl1": _two(".0705 .0299"),
            "without L_cl2": _two(".0557 .0238"),
            "without R": _two(".0691 .0291"),
            "one shared augmenter": _two(".0707 .0299"),
        },
    },
}


def figures(table: str, card: DataCard) -> dict[str, Figures]:
    """The published figures of a table's rows; none where the data are not those of the paper.

    A file counts as a named data set if it has its checksum, and is neither filtered nor split in
    another way.
    """
    if card.filters or card.holdout != "leave-one-out":
        return {}
    names = [
        name for name, entry in DATASETS.items() if entry.sha256 and entry.sha256 == card.sha256
    ]
    return _ROWS.get(table, {}).get(names[0], {}) if names else {}

"""The tables: rows of (name, model, settings), how their runs are looked at, how they are drawn.

To add one, add an entry to `TABLES`. Settings are configuration keys; what a row does not set is
what the data set and the command line say. Two rows of one configuration share a run.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from ..config_keys import did_you_mean
from ..errors import InputError


class Row(NamedTuple):
    """One line of a table.

    Attributes:
        name: what it is called there.
        model: a model's name.
        settings: configuration keys that make it what it is.
        x: its place along the axis of a table that has one.
        seeded: whether another seed is another run.
    """

    name: str
    model: str
    settings: Mapping[str, Any] = {}
    x: str = ""
    seeded: bool = True


class Table(NamedTuple):
    """One table.

    Attributes:
        title: what it asks.
        rows: what is run.
        look: how each run is looked at, see looks.py: "whole", "by_length", "under_noise" or
            "validation".
        axis: what x means; none for a table without.
        against: the row that all others are tested against; none where nothing is tested.
        picture: how it is drawn, see plots.py: "dots" or "lines".
        note: what a reader must know.
    """

    title: str
    rows: tuple[Row, ...]
    look: str = "whole"
    axis: str = ""
    against: str = ""
    picture: str = "lines"
    note: str = ""

    @property
    def split(self) -> str:
        """Which held-out targets its figures are about, as a run's files call them."""
        return "valid" if self.look == "validation" else "test"


_SASREC, _CL4SREC = Row("SASRec", "sasrec"), Row("CL4SRec", "cl4srec")
_MCLREC = Row("MCLRec", "mclrec")
_POPULARITY = Row("popularity", "popularity", seeded=False)
_SIZES = (64, 128, 256, 512)
_WEIGHTS = (0.0, 0.01, 0.05, 0.1, 0.2, 0.4)
_CANDIDATES: dict[str, dict[str, Any]] = {
    "as published": {},
    "averaged weights": {"ema_decay": 0.999},
    "half the step size": {"learning_rate": 5e-4},
    "one head": {"heads": 1},
    "twice the width": {"hidden_size": 128, "inner_size": 512},
    "cosine schedule": {"learning_rate_schedule": "cosine", "warmup_steps": 1000},
}

TABLES: dict[str, Table] = {
    "main": Table(
        "What the contrast and the learned views add",
        (_POPULARITY, _SASREC, _CL4SREC, _MCLREC),
        against="SASRec",
        picture="dots",
        note="SASRec here is trained with the full cross-entropy, by the same code and for the "
        "same budget as the others.",
    ),
    "ablation": Table(
        "What each part of MCLRec adds",
        (
            _MCLREC,
            Row("without L_cl1", "mclrec", {"lambda": 0.0}),
            Row("without L_cl2", "mclrec", {"beta": 0.0}),
            Row("without R", "mclrec", {"gamma": 0.0}),
            Row("one shared augmenter", "mclrec", {"shared_augmenter": True}),
            Row("joint (one update)", "mclrec", {"schedule": "joint"}),
            Row("paper (two updates)", "mclrec", {"schedule": "paper"}),
        ),
        against="MCLRec",
        picture="dots",
        note="MCLRec is trained by the official schedule of three updates a batch, if nothing else "
        "is said. Without L_cl2, R is gone too: beta weighs both. A row whose settings are those "
        "of MCLRec on this data set is the same run, and is not tested.",
    ),
    "batch-size": Table(
        "What the size of a batch does, and to whom",
        tuple(
            row._replace(settings={"batch_size": size}, x=str(size))
            for row in (_SASREC, _MCLREC)
            for size in _SIZES
        ),
        axis="batch size",
    ),
    "noise": Table(
        "How much random items in the histories hurt",
        (_SASREC, _CL4SREC, _MCLREC),
        look="under_noise",
        axis="noise",
        note="Only the test histories are changed: behind each of their items, with the "
        "probability called noise, stands a random item that the user never had. Every model sees "
        "the same noise.",
    ),
    "sparsity": Table(
        "Who is served: users by the length of their history",
        (_SASREC, _CL4SREC, _MCLREC),
        look="by_length",
        axis="items of history (users)",
    ),
    "weights": Table(
        "How the weights of the contrasts matter",
        (
            _MCLREC,
            *(Row("lambda", "mclrec", {"lambda": value}, x=f"{value:g}") for value in _WEIGHTS),
            *(Row("beta", "mclrec", {"beta": value}, x=f"{value:g}") for value in _WEIGHTS),
        ),
        axis="weight",
        note="MCLRec alone is the data set's own setting; each line changes one weight of it.",
    ),
    "candidates": Table(
        "What a recipe could be made of",
        tuple(
            row._replace(name=f"{row.name}, {name}", settings=settings)
            for row in (_SASREC, _MCLREC)
            for name, settings in _CANDIDATES.items()
        ),
        look="validation",
        picture="dots",
        note="These are validation targets, to choose settings by. What is chosen is a file of "
        "settings (--config) for all models alike, and is tested once.",
    ),
}


def find_table(name: str) -> Table:
    """The table of that name.

    Raises:
        InputError: there is none, with the nearest there is.
    """
    if name not in TABLES:
        raise InputError(
            f"TABLE {name!r}: expected one of {', '.join(TABLES)}{did_you_mean(name, TABLES)}"
        )
    return TABLES[name]

"""Fast, exact training of contrastive sequential recommenders (MCLRec and relatives).

    from mclrec_fast import Dataset, MCLRec
    model = MCLRec().fit(Dataset.from_frame(frame, user_col="user", item_col="item"))
    model.recommend([["lamp", "desk"]], k=10).to_frame()

Names are imported when they are first used, so that `import mclrec_fast` costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .answers import Recommendations
    from .api import evaluate, load
    from .comparison import compare
    from .data import Dataset
    from .models.base import Model
    from .models.cl4srec import CL4SRec
    from .models.gru4rec import GRU4Rec
    from .models.mclrec import MCLRec
    from .models.popularity import Popularity
    from .models.sasrec import SASRec
    from .recommender import Recommender
    from .training.observers import Callback

__version__ = "0.1.0"

_HOMES = {
    "CL4SRec": "models.cl4srec",
    "Callback": "training.observers",
    "Dataset": "data",
    "GRU4Rec": "models.gru4rec",
    "MCLRec": "models.mclrec",
    "Model": "models.base",
    "Popularity": "models.popularity",
    "Recommendations": "answers",
    "Recommender": "recommender",
    "SASRec": "models.sasrec",
    "compare": "comparison",
    "evaluate": "api",
    "load": "api",
}

__all__ = [
    "CL4SRec",
    "Callback",
    "Dataset",
    "GRU4Rec",
    "MCLRec",
    "Model",
    "Popularity",
    "Recommendations",
    "Recommender",
    "SASRec",
    "compare",
    "evaluate",
    "load",
]


def __getattr__(name: str) -> Any:
    """Imports a name of `__all__` from where it lives."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_HOMES[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """All names, imported yet or not."""
    return sorted([*globals(), *__all__])

"""Interaction logs: files, frames and named data sets in; CSR logs and samples out."""

from .card import DataCard
from .dataset import Dataset, LogWarning, load_dataset, load_other
from .ids import IdIndex, RunIds, load_ids, save_ids
from .log import InteractionLog, match_items, pick_users
from .named import DATASETS, recommended_settings
from .reader import ReaderFallbackWarning
from .samples import HOLDOUTS, Samples, Split, split
from .synthetic import SyntheticConfig, generate

__all__ = [
    "DATASETS",
    "HOLDOUTS",
    "DataCard",
    "Dataset",
    "IdIndex",
    "InteractionLog",
    "LogWarning",
    "ReaderFallbackWarning",
    "RunIds",
    "Samples",
    "Split",
    "SyntheticConfig",
    "generate",
    "load_dataset",
    "load_ids",
    "load_other",
    "match_items",
    "pick_users",
    "recommended_settings",
    "save_ids",
    "split",
]

"""The configuration: frozen dataclasses, the only place where a default lives.

Every key is unique, so that `key=value` needs no section; a TOML file may group keys under the
section names or leave them flat. Values arrive as text (command line) or typed (TOML, JSON), and
are checked for type and range (config_keys.py); here they are put together. Knows nothing of
argparse and of torch.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from .config_keys import Given, Key, check, collect_keys, did_you_mean, option, show
from .errors import InputError

MODELS = ("mclrec", "sasrec", "cl4srec", "popularity")
DEFAULT_DATASET = "ml-100k"
DEFAULT_K = 10  # items that are recommended to a user


@dataclass(frozen=True)
class DataConfig:
    """Where the interactions come from and how they are filtered and split."""

    data: str | None = option(
        None,
        "interaction log to read: a file, a folder of parts, - for standard input",
        flag=True,
        metavar="FILE",
    )
    dataset: str | None = option(
        None,
        f"named data set instead of a file ({DEFAULT_DATASET} when neither is given)",
        flag=True,
        metavar="NAME",
    )
    format: str = option(
        "auto",
        "how to read the file",
        flag=True,
        choices=("auto", "text", "inter", "csv", "tsv", "movielens", "parquet"),
    )
    user_col: str | None = option(None, "column of the user ids", flag=True, metavar="NAME")
    item_col: str | None = option(None, "column of the item ids", flag=True, metavar="NAME")
    time_col: str | None = option(None, "column of the times", flag=True, metavar="NAME")
    rating_col: str | None = option(None, "column of the ratings", flag=True, metavar="NAME")
    then_by: str | None = option(
        None, "column that orders rows of one time", flag=True, metavar="NAME"
    )
    columns: str | None = option(
        None, "names of the columns of a file without a header", flag=True, metavar="NAME,NAME,..."
    )
    header: str = option(
        "auto", "whether the first row names the columns", flag=True, choices=("auto", "yes", "no")
    )
    min_user: int = option(0, "drop users with fewer interactions, repeatedly", flag=True, low=0)
    min_item: int = option(0, "drop items with fewer interactions, repeatedly", flag=True, low=0)
    min_rating: float | None = option(None, "keep rows rated at least this", flag=True)
    dedupe: str = option(
        "none",
        "drop rows that repeat: an item of a user after the first, or only exactly equal rows",
        flag=True,
        choices=("none", "first", "exact"),
    )
    holdout: str = option(
        "leave-one-out",
        "what validation and test are",
        flag=True,
        choices=("leave-one-out", "temporal", "none"),
    )
    valid_fraction: float = option(0.1, "temporal: share that validates", above=0, below=1)
    test_fraction: float = option(0.1, "temporal: share that tests", above=0, below=1)
    ignore_times: bool = option(False, "keep the order of the file", flag=True)
    reader: str = option("auto", "who reads the file", choices=("auto", "native", "numpy"))
    synthetic_users: int = option(22_000, "users of the synthetic data set", low=1)
    synthetic_items: int = option(12_000, "items of the synthetic data set", low=8)
    synthetic_seed: int = option(0, "seed of the synthetic data set", low=0)
    user_ids: bool = option(True, "write user ids into the run directory", flag=True)


@dataclass(frozen=True)
class ModelConfig:
    """What is trained: the encoder and, for mclrec, its two augmenters."""

    model: str = option("mclrec", "what to train", flag=True, choices=MODELS)
    hidden_size: int = option(64, "width of the encoder (D)", low=1)
    layers: int = option(2, "transformer layers", low=1, high=255)
    heads: int = option(2, "attention heads, a divisor of hidden_size", low=1)
    inner_size: int = option(256, "width of the feed-forward layers", low=1)
    max_length: int = option(50, "items of history the encoder sees (L)", low=1)
    hidden_dropout: float = option(0.5, "dropout of hidden states", low=0, below=1)
    attention_dropout: float = option(0.5, "dropout of attention weights", low=0, below=1)
    layer_norm_eps: float = option(1e-12, "epsilon of every LayerNorm", low=0)
    init_std: float = option(0.02, "deviation of the encoder's initial weights", above=0)
    shared_augmenter: bool = option(False, "one augmenter for both views")


@dataclass(frozen=True)
class AugmentConfig:
    """The stochastic augmentation that makes the two views."""

    crop_ratio: float = option(0.5, "part of a history that a crop removes", low=0, below=1)
    mask_ratio: float = option(0.5, "part of a history that a mask hides", low=0, below=1)
    reorder_ratio: float = option(0.8, "part of a history that a reorder permutes", low=0, high=1)


@dataclass(frozen=True)
class ContrastConfig:
    """Weights and shape of the contrastive losses."""

    lambda_: float = option(0.0, "weight of the encoder views' contrast", key="lambda", low=0)
    beta: float = option(0.05, "weight of the augmented views' contrast", low=0)
    gamma: float = option(0.1, "weight of the regulariser beside that contrast", low=0)
    temperature: float = option(1.0, "temperature of the encoder views' contrast", above=0)
    similarity: str = option(
        "dot", "similarity of the encoder views' contrast", choices=("dot", "cos")
    )


@dataclass(frozen=True)
class TrainConfig:
    """How it is trained, on what, and for how long."""

    schedule: str = option(
        "official",
        "updates of a batch",
        flag=True,
        choices=("paper", "official", "joint"),
    )
    backend: str = option(
        "auto", "who computes the ops", flag=True, choices=("auto", "torch", "native")
    )
    epochs: int = option(100, "epochs at most", flag=True, low=1)
    max_steps: int | None = option(None, "batches at most", flag=True, low=1)
    seed: int = option(1, "the one seed of everything random", flag=True, low=0, high=2**63 - 1)
    threads: int | None = option(None, "CPU threads (default: all cores)", flag=True, low=1)
    device: str = option("cpu", "where to train", flag=True, choices=("cpu", "cuda"))
    tf32: bool = option(False, "on a GPU: round the factors of float32 products to TF32", flag=True)
    bf16: bool = option(False, "on a GPU: round them to bf16, the coarser of the two", flag=True)
    cuda_graphs: bool = option(
        True, "on a GPU with its kernels: replay the updates of a batch as one graph", flag=True
    )
    batch_size: int = option(256, "samples of a batch (B)", low=1)
    learning_rate: float = option(1e-3, "step size of both Adam optimizers", above=0)
    patience: int = option(10, "epochs without a better validation MRR@10 to stop after", low=1)
    eval_batch_size: int = option(512, "histories ranked at a time", low=1)
    checkpoint_steps: int | None = option(
        None,
        "also save the state every so many batches (always at the end of an epoch)",
        low=1,
    )

    @property
    def precision(self) -> str:
        """What the factors of float32 products on a GPU are rounded to, see `_native`."""
        return "bf16" if self.bf16 else "tf32" if self.tf32 else "float32"


@dataclass(frozen=True)
class Config:
    """The whole configuration of a run."""

    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    contrast: ContrastConfig = field(default_factory=ContrastConfig)
    train: TrainConfig = field(default_factory=TrainConfig)


SECTIONS: dict[str, type[Any]] = {
    "data": DataConfig,
    "model": ModelConfig,
    "augment": AugmentConfig,
    "contrast": ContrastConfig,
    "train": TrainConfig,
}


class Resolved(NamedTuple):
    """A checked configuration and who decided what differs from the defaults."""

    config: Config
    origins: dict[str, str]
    notes: tuple[str, ...]


KEYS = collect_keys(SECTIONS)


def find_key(name: str, origin: str) -> Key:
    """The key of that name; unknown names are an `InputError` with a suggestion."""
    key = KEYS.get(name) or KEYS.get(name.replace("-", "_"))
    if key is None:
        raise InputError(f"{origin}: unknown key {name!r}{did_you_mean(name, KEYS)}")
    return key


def parse_assignment(text: str, origin: str = "--set") -> tuple[str, Given]:
    """`"key=value"` as a key's name and its checked value."""
    name, equals, value = text.partition("=")
    if not equals or not name.strip():
        raise InputError(f"{origin} {text!r}: expected key=value")
    origin = f"{origin} {name.strip()}"
    key = find_key(name.strip(), origin)
    return key.name, Given(check(key, Given(value.strip(), origin), text=True), origin)


def _flatten(tree: Mapping[str, Any], origin: str) -> dict[str, Given]:
    """Sections and flat keys as one checked mapping."""
    flat: dict[str, Given] = {}

    def add(name: str, value: Any, section: str | None) -> None:
        key = find_key(name, origin)
        if section is not None and key.section != section:
            raise InputError(
                f"{origin}: key {name!r} belongs under [{key.section}], found under [{section}]"
            )
        if key.name in flat:
            raise InputError(f"{origin}: key {key.name!r} is given twice")
        flat[key.name] = Given(check(key, Given(value, origin)), origin)

    for name, value in tree.items():
        if not isinstance(value, Mapping):
            add(name, value, None)
        elif name in SECTIONS:
            for inner, inner_value in value.items():
                add(inner, inner_value, name)
        else:
            raise InputError(
                f"{origin}: unknown section [{name}]{did_you_mean(name, SECTIONS)}"
                f" (sections: {', '.join(SECTIONS)})"
            )
    return flat


def read_toml(path: Path) -> dict[str, Given]:
    """A configuration file, checked.

    Raises:
        InputError: the file is missing, is not TOML, or holds an unknown key or a bad value.
    """
    try:
        with open(path, "rb") as file:
            tree = tomllib.load(file)
    except OSError as error:
        raise InputError(f"--config {path}: {error.strerror or error}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"--config {path}: not valid TOML: {error}") from None
    return _flatten(tree, str(path))


def to_dict(config: Config) -> dict[str, dict[str, Any]]:
    """The configuration as sections of plain values, by key names (`lambda`, not `lambda_`)."""
    tree: dict[str, dict[str, Any]] = {section: {} for section in SECTIONS}
    for key in KEYS.values():
        tree[key.section][key.name] = getattr(getattr(config, key.section), key.attribute)
    return tree


def from_dict(tree: Mapping[str, Any], origin: str) -> Config:
    """The inverse of :func:`to_dict`, checked; keys that are absent take their defaults."""
    return build({name: given.value for name, given in _flatten(tree, origin).items()})


def build(values: Mapping[str, Any]) -> Config:
    """A configuration from checked values by key name; what is absent takes its default.

    Raises:
        InputError: values that do not fit each other.
    """
    parts: dict[str, dict[str, Any]] = {section: {} for section in SECTIONS}
    for name, value in values.items():
        key = KEYS[name]
        parts[key.section][key.attribute] = value
    config = Config(**{section: cls(**parts[section]) for section, cls in SECTIONS.items()})
    _check_together(config)
    return config


def _check_together(config: Config) -> None:
    model, data = config.model, config.data
    if model.hidden_size % model.heads:
        raise InputError(
            f"hidden_size {model.hidden_size} is not a multiple of heads {model.heads}"
        )
    if model.model == "mclrec" and model.hidden_size < 4:
        raise InputError("hidden_size must be at least 4: the augmenters narrow it to a quarter")
    for name in ("tf32", "bf16"):
        if getattr(config.train, name) and config.train.device != "cuda":
            raise InputError(
                f"{name} is a mode of GPUs, but the device is {config.train.device}: leave it out "
                f"(--no-{name}), or give --device cuda"
            )
    if config.train.tf32 and config.train.bf16:
        raise InputError("tf32 and bf16 are two ways to round the same products: give one of them")
    if data.data is not None and data.dataset is not None:
        raise InputError("give --data FILE or --dataset NAME, not both")


def differences(resolved: Resolved) -> list[str]:
    """One line per key that is not at its default: `key = value  (default ..., from ...)`."""
    values = {name: v for part in to_dict(resolved.config).values() for name, v in part.items()}
    return [
        f"{name} = {show(values[name])}  (default {show(key.default)}, "
        f"from {resolved.origins.get(name, 'this machine')})"
        for name, key in KEYS.items()
        if values[name] != key.default
    ]


_LOSSES_OF_MODEL: dict[str, dict[str, float]] = {
    "mclrec": {},
    "cl4srec": {"lambda": 0.1, "beta": 0.0},
    "sasrec": {"lambda": 0.0, "beta": 0.0},
    "popularity": {"lambda": 0.0, "beta": 0.0},
}


def resolve(
    given: Mapping[str, Given],
    recommended: Mapping[str, Any] | None = None,
    recommended_by: str = "",
) -> Resolved:
    """The configuration of a run from what the user gave.

    Later words win: the defaults, the named data set's recommended row, the model's own losses,
    what the user gave (the command line before a file; that is the caller's merge).

    Args:
        given: checked values by key name.
        recommended: the data set's row, by key name.
        recommended_by: its name, for messages.

    Raises:
        InputError: contradictions, such as sasrec with a contrastive loss.
    """
    values: dict[str, Given] = {}
    for name, value in (recommended or {}).items():
        origin = f"data set {recommended_by}"
        values[name] = Given(check(find_key(name, origin), Given(value, origin)), origin)
    model = given["model"].value if "model" in given else ModelConfig.model
    for name, value in _LOSSES_OF_MODEL[model].items():
        values[name] = Given(value, f"model {model}")
    values.update(given)
    notes = _model_rules(model, given, values)
    if "data" not in given and "dataset" not in given:
        values["dataset"] = Given(DEFAULT_DATASET, "no data given")
    config = build({name: value.value for name, value in values.items()})
    return Resolved(config, {name: value.origin for name, value in values.items()}, notes)


def _model_rules(
    model: str, given: Mapping[str, Given], values: dict[str, Given]
) -> tuple[str, ...]:
    """Refuses losses that contradict the model; a model without augmenters has one update."""
    if model == "mclrec":
        return ()
    for name in ("beta", "lambda"):
        wanted = given.get(name)
        if wanted is None or (model, name) == ("cl4srec", "lambda") or wanted.value == 0:
            continue
        raise InputError(
            f"{wanted.origin}: {model} means {name} = 0, but it is {wanted.value:g}; "
            f"leave {name} out, or choose another --model"
        )
    if model == "cl4srec" and values["lambda"].value == 0:
        raise InputError(
            f"{values['lambda'].origin}: cl4srec with lambda = 0 is sasrec; "
            "give lambda > 0, or --model sasrec"
        )
    chosen = values.get("schedule")
    values["schedule"] = Given("joint", f"model {model}: no augmenters to alternate with")
    if chosen is not None and chosen.value != "joint" and "schedule" in given:
        return (
            f"{model} has no augmenters, so {chosen.origin} {chosen.value} changes nothing: "
            "there is one update a batch (schedule joint)",
        )
    return ()

"""The configuration: frozen dataclasses, the only place where a default lives.

Every key is unique, so that `key=value` needs no section; a TOML file may group keys under the
section names or leave them flat. Values arrive as text (command line) or typed (TOML, JSON), and
are checked for type and range here; nothing is ever evaluated. Knows nothing of argparse and of
torch.
"""

import dataclasses
import difflib
import math
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, NamedTuple, get_args, get_origin

from .errors import InputError

MODELS = ("mclrec", "sasrec", "cl4srec", "popularity")
DEFAULT_DATASET = "ml-100k"


def _option(
    default: Any,
    help: str,
    *,
    key: str = "",
    flag: bool = False,
    choices: Iterable[str] = (),
    low: float | None = None,
    above: float | None = None,
    high: float | None = None,
    below: float | None = None,
    metavar: str = "",
) -> Any:
    """A dataclass field that knows its help text and its range; `flag` makes it an option."""
    return field(
        default=default,
        metadata={
            "help": help,
            "key": key,
            "flag": flag,
            "choices": tuple(choices),
            "low": low,
            "above": above,
            "high": high,
            "below": below,
            "metavar": metavar,
        },
    )


@dataclass(frozen=True)
class DataConfig:
    """Where the interactions come from and how they are filtered and split."""

    data: str | None = _option(None, "interaction log to read", flag=True, metavar="FILE")
    dataset: str | None = _option(
        None,
        f"named data set instead of a file ({DEFAULT_DATASET} when neither is given)",
        flag=True,
        metavar="NAME",
    )
    format: str = _option(
        "auto",
        "how to read the file",
        flag=True,
        choices=("auto", "text", "inter", "csv", "tsv", "movielens", "parquet"),
    )
    user_col: str | None = _option(None, "column of the user ids", flag=True, metavar="NAME")
    item_col: str | None = _option(None, "column of the item ids", flag=True, metavar="NAME")
    time_col: str | None = _option(None, "column of the times", flag=True, metavar="NAME")
    rating_col: str | None = _option(None, "column of the ratings", flag=True, metavar="NAME")
    min_user: int = _option(0, "drop users with fewer interactions, repeatedly", flag=True, low=0)
    min_item: int = _option(0, "drop items with fewer interactions, repeatedly", flag=True, low=0)
    min_rating: float | None = _option(None, "keep rows rated at least this", flag=True)
    dedupe: bool = _option(False, "keep an item once per user, the earliest", flag=True)
    holdout: str = _option(
        "leave-one-out",
        "what validation and test are",
        flag=True,
        choices=("leave-one-out", "temporal", "none"),
    )
    valid_fraction: float = _option(0.1, "temporal: share that validates", above=0, below=1)
    test_fraction: float = _option(0.1, "temporal: share that tests", above=0, below=1)
    ignore_times: bool = _option(False, "keep the order of the file", flag=True)
    reader: str = _option("auto", "who reads the file", choices=("auto", "native", "numpy"))
    synthetic_users: int = _option(22_000, "users of the synthetic data set", low=1)
    synthetic_items: int = _option(12_000, "items of the synthetic data set", low=8)
    synthetic_seed: int = _option(0, "seed of the synthetic data set", low=0)
    user_ids: bool = _option(True, "write user ids into the run directory", flag=True)


@dataclass(frozen=True)
class ModelConfig:
    """What is trained: the encoder and, for mclrec, its two augmenters."""

    model: str = _option("mclrec", "what to train", flag=True, choices=MODELS)
    hidden_size: int = _option(64, "width of the encoder (D)", low=1)
    layers: int = _option(2, "transformer layers", low=1, high=255)
    heads: int = _option(2, "attention heads, a divisor of hidden_size", low=1)
    inner_size: int = _option(256, "width of the feed-forward layers", low=1)
    max_length: int = _option(50, "items of history the encoder sees (L)", low=1)
    hidden_dropout: float = _option(0.5, "dropout of hidden states", low=0, below=1)
    attention_dropout: float = _option(0.5, "dropout of attention weights", low=0, below=1)
    layer_norm_eps: float = _option(1e-12, "epsilon of every LayerNorm", low=0)
    init_std: float = _option(0.02, "deviation of the encoder's initial weights", above=0)
    shared_augmenter: bool = _option(False, "one augmenter for both views")


@dataclass(frozen=True)
class AugmentConfig:
    """The stochastic augmentation that makes the two views."""

    crop_ratio: float = _option(0.5, "part of a history that a crop removes", low=0, below=1)
    mask_ratio: float = _option(0.5, "part of a history that a mask hides", low=0, below=1)
    reorder_ratio: float = _option(0.8, "part of a history that a reorder permutes", low=0, high=1)


@dataclass(frozen=True)
class ContrastConfig:
    """Weights and shape of the contrastive losses."""

    lambda_: float = _option(0.0, "weight of the encoder views' contrast", key="lambda", low=0)
    beta: float = _option(0.05, "weight of the augmented views' contrast", low=0)
    gamma: float = _option(0.1, "weight of the regulariser beside that contrast", low=0)
    temperature: float = _option(1.0, "temperature of the encoder views' contrast", above=0)
    similarity: str = _option(
        "dot", "similarity of the encoder views' contrast", choices=("dot", "cos")
    )


@dataclass(frozen=True)
class TrainConfig:
    """How it is trained, on what, and for how long."""

    schedule: str = _option(
        "official",
        "updates of a batch",
        flag=True,
        choices=("paper", "official", "joint"),
    )
    backend: str = _option(
        "auto", "who computes the ops", flag=True, choices=("auto", "torch", "native")
    )
    epochs: int = _option(100, "epochs at most", flag=True, low=1)
    max_steps: int | None = _option(None, "batches at most", flag=True, low=1)
    seed: int = _option(1, "the one seed of everything random", flag=True, low=0, high=2**63 - 1)
    threads: int | None = _option(None, "CPU threads (default: all cores)", flag=True, low=1)
    device: str = _option("cpu", "where to train", flag=True, choices=("cpu", "cuda"))
    batch_size: int = _option(256, "samples of a batch (B)", low=1)
    learning_rate: float = _option(1e-3, "step size of both Adam optimizers", above=0)
    patience: int = _option(10, "epochs without a better validation MRR@10 to stop after", low=1)
    eval_batch_size: int = _option(512, "histories ranked at a time", low=1)
    checkpoint_steps: int | None = _option(
        None,
        "also save the state every so many batches (always at the end of an epoch)",
        low=1,
    )


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


class Key(NamedTuple):
    """One configuration key: its place, its type and its range."""

    name: str
    section: str
    attribute: str
    kind: type[Any]
    optional: bool
    default: Any
    help: str
    flag: bool
    choices: tuple[str, ...]
    low: float | None
    above: float | None
    high: float | None
    below: float | None
    metavar: str

    @property
    def option(self) -> str:
        """The command-line spelling, for keys that have an option of their own."""
        return "--" + self.name.replace("_", "-")


class Given(NamedTuple):
    """A value somebody chose, and where: `origin` is part of error messages and of the diff."""

    value: Any
    origin: str


class Resolved(NamedTuple):
    """A checked configuration and who decided what differs from the defaults."""

    config: Config
    origins: dict[str, str]
    notes: tuple[str, ...]


def _collect_keys() -> dict[str, Key]:
    keys: dict[str, Key] = {}
    for section, cls in SECTIONS.items():
        for entry in dataclasses.fields(cls):
            annotation: Any = entry.type
            optional = get_origin(annotation) is UnionType
            if optional:
                (annotation,) = (a for a in get_args(annotation) if a is not NoneType)
            meta = dict(entry.metadata)
            name = meta.pop("key") or entry.name
            if name in keys:
                raise TypeError(f"configuration key {name!r} is defined twice")
            keys[name] = Key(
                name=name,
                section=section,
                attribute=entry.name,
                kind=annotation,
                optional=optional,
                default=entry.default,
                **meta,
            )
    return keys


KEYS = _collect_keys()


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`"; did you mean 'x'?"`, or nothing when no known word is close."""
    options = {k.lower(): k for k in known}
    match = difflib.get_close_matches(word.lower(), list(options), n=1, cutoff=0.6)
    return f"; did you mean {options[match[0]]!r}?" if match else ""


def find_key(name: str, origin: str) -> Key:
    """The key of that name; unknown names are an `InputError` with a suggestion."""
    key = KEYS.get(name) or KEYS.get(name.replace("-", "_"))
    if key is None:
        raise InputError(f"{origin}: unknown key {name!r}{did_you_mean(name, KEYS)}")
    return key


def _range_text(key: Key) -> str:
    parts = []
    if key.low is not None:
        parts.append(f"at least {key.low:g}")
    if key.above is not None:
        parts.append(f"above {key.above:g}")
    if key.high is not None:
        parts.append(f"at most {key.high:g}" if key.high < 2**53 else f"at most {int(key.high)}")
    if key.below is not None:
        parts.append(f"below {key.below:g}")
    return " and ".join(parts)


def _in_range(key: Key, value: float) -> bool:
    return (
        (key.low is None or value >= key.low)
        and (key.above is None or value > key.above)
        and (key.high is None or value <= key.high)
        and (key.below is None or value < key.below)
    )


def _kind_text(key: Key) -> str:
    name = {
        int: "a whole number",
        float: "a number",
        bool: "true or false",
        str: "text",
    }[key.kind]
    return name + (" or none" if key.optional and key.kind is not str else "")


def _from_text(key: Key, text: str) -> Any:
    """Text from a command line as the key's type; raises ValueError when it is not one."""
    if key.optional and key.kind is not str and text.lower() == "none":
        return None
    if key.kind is bool:
        return {
            "true": True,
            "yes": True,
            "1": True,
            "false": False,
            "no": False,
            "0": False,
        }[text.lower()]
    return key.kind(text)


def _from_typed(key: Key, value: Any) -> Any:
    """A TOML or JSON value as the key's type; raises ValueError when it is another one."""
    if value is None and key.optional:
        return None
    if key.kind is float and type(value) is int:
        return float(value)
    if type(value) is not key.kind:
        raise ValueError
    return value


def check(key: Key, given: Given, *, text: bool = False) -> Any:
    """The value as the key's type and within its range.

    Args:
        key: the key.
        given: the value and where it was found.
        text: the value is command-line text, to be converted.

    Raises:
        InputError: wrong type, not among the choices, or out of range.
    """
    try:
        value = _from_text(key, given.value) if text else _from_typed(key, given.value)
    except (ValueError, KeyError):
        raise InputError(
            f"{given.origin}: {key.name} must be {_kind_text(key)}, not {given.value!r}"
        ) from None
    if value is None:
        return None
    if key.choices and value not in key.choices:
        raise InputError(
            f"{given.origin}: {key.name} must be one of {', '.join(key.choices)}, "
            f"not {value!r}{did_you_mean(value, key.choices)}"
        )
    if key.kind in (int, float) and not (math.isfinite(value) and _in_range(key, value)):
        raise InputError(
            f"{given.origin}: {key.name} must be {_range_text(key) or 'finite'}, not {value!r}"
        )
    if key.kind is str and not value:
        raise InputError(f"{given.origin}: {key.name} must not be empty")
    return value


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


def show(value: Any) -> str:
    """A value as a reader would write it in a configuration file."""
    if value is None:
        return "unset"
    return str(value).lower() if isinstance(value, bool) else str(value)


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

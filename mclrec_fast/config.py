"""The configuration: frozen dataclasses, the only place where a default lives.

What the data are and how a model is trained stands here, what a model is in models/options.py. A
key's name means one thing, so that `key=value` needs no section; a TOML file may group keys under
the section names or leave them flat. Values arrive as text (command line) or typed (TOML, JSON,
Python), and are checked for type and range (config_keys.py); here they are put together. Knows
nothing of argparse and of torch.
"""

import functools
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from . import config_former
from .config_keys import Given, Key, check, collect_keys, did_you_mean, option, show
from .errors import InputError
from .models.options import OPTIONS, ModelOptions

DEFAULT_DATASET = "ml-100k"
DEFAULT_K = 10  # items that are recommended to a user
MAX_THREADS = 1024
_MAX_FILE = 1 << 16  # bytes of a configuration file, and
_MAX_DOTS = 1000  # parts of a key in it: the parser takes time with their square


@dataclass(frozen=True)
class DataConfig:
    """Where the interactions come from and how they are filtered and split."""

    data: str | None = option(
        None,
        "interaction log to read: a file, a folder of parts, - for standard input",
        flag=True,
        metavar="FILE",
    )
    more: tuple[str, ...] = option(
        (), "logs whose rows go behind those of the log", flag=True, metavar="FILE,..."
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
        bare="first",
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
class TrainConfig:
    """How it is trained, on what, and for how long."""

    backend: str = option(
        "auto", "who computes the ops", flag=True, choices=("auto", "torch", "native")
    )
    epochs: int = option(100, "epochs at most", flag=True, low=1)
    max_steps: int | None = option(None, "batches at most", flag=True, low=1)
    seed: int = option(1, "the one seed of everything random", flag=True, low=0, high=2**63 - 1)
    threads: int | None = option(
        None, "CPU threads (default: all cores)", flag=True, low=1, high=MAX_THREADS
    )
    device: str = option("cpu", "where to train", flag=True, choices=("cpu", "cuda"))
    precision: str = option(
        "float32",
        "what the factors of large products are rounded to; bf16x3 needs a CPU with AMX, bf16 one "
        "with AMX or AVX512-BF16, or a GPU, tf32 a GPU",
        flag=True,
        choices=("float32", "bf16x3", "tf32", "bf16"),
    )
    cuda_graphs: bool = option(
        True, "on a GPU with its kernels: replay the updates of a batch as one graph", flag=True
    )
    freeze: str = option(
        "none",
        "weights that stay as they are: the item table, or all others",
        flag=True,
        choices=("none", "items", "others"),
    )
    item_embeddings: str | None = option(
        None, "vectors to begin with, by item id", flag=True, metavar="FILE"
    )
    item_ids: str | None = option(
        None, "the items of the rows of an .npy of vectors", flag=True, metavar="FILE"
    )
    batch_size: int = option(256, "samples of a batch (B)", low=1)
    batch_parts: int = option(
        1,
        "parts of a batch whose gradients are added in one order, at least one for each process",
        low=1,
    )
    negatives: str = option(
        "global",
        "what a contrast is over: the whole batch, or each of its parts",
        choices=("global", "local"),
    )
    process_timeout: float = option(
        300.0, "seconds after which a process that does not answer is given up", above=0
    )
    learning_rate: float = option(1e-3, "step size of every Adam optimizer", above=0)
    learning_rate_schedule: str = option(
        "constant", "how the step size goes on", choices=("constant", "cosine")
    )
    warmup_steps: int = option(0, "batches over which the step size rises from 0", low=0)
    ema_decay: float = option(
        0.0, "average the weights over the batches by this decay (0: do not)", low=0, below=1
    )
    monitor: str = option(
        "mrr@10", "validation metric that the best epoch has most of, as masked.ndcg@10"
    )
    min_delta: float = option(0.0, "by how much it must grow to count as better", low=0)
    patience: int = option(10, "epochs in a row without that to stop after", low=1)
    valid_users: int = option(
        0, "validate after an epoch on so many users, a fixed share by the seed (0: all)", low=0
    )
    cutoffs: tuple[int, ...] = option((5, 10, 20, 50), "lengths of the lists that are judged (k)")
    diagnose_every: int = option(
        0, "look at the geometry of representations every so many epochs (0: never)", low=0
    )
    tracker: str = option(
        "none", "where else the figures go", choices=("none", "tensorboard", "wandb", "mlflow")
    )
    eval_batch_size: int = option(512, "histories ranked at a time", low=1)
    checkpoint_steps: int | None = option(
        None,
        "also save the state every so many batches (always at the end of an epoch)",
        low=1,
    )

    def check(self) -> None:
        """Refuse settings that do not fit each other.

        Raises:
            InputError: naming them.
        """
        if self.item_ids is not None and self.item_embeddings is None:
            raise InputError("item_ids names the rows of item_embeddings: give both or neither")
        if self.batch_parts > self.batch_size:
            raise InputError(
                f"batch_parts {self.batch_parts} is more than the samples of a batch (batch_size "
                f"{self.batch_size}): some would never have any"
            )
        from .metrics import Monitor

        Monitor.parse(self.monitor, self.cutoffs)


@dataclass(frozen=True)
class _Which:
    """Which model's options are meant."""

    model: str = option(next(iter(OPTIONS)), "what to train", flag=True, choices=OPTIONS)


@dataclass(frozen=True)
class Config:
    """The whole configuration of a run."""

    data: DataConfig = field(default_factory=DataConfig)
    model: ModelOptions = field(default_factory=OPTIONS[_Which.model])
    train: TrainConfig = field(default_factory=TrainConfig)


SECTIONS = ("data", "model", "train")
LOG_KEYS = (
    "data", "format", "user_col", "item_col", "time_col", "rating_col", "then_by", "columns",
    "header", "ignore_times",
)  # fmt: skip
"""What may be said of another log than the one a run was made with."""


@functools.cache
def keys_of(model: str) -> dict[str, Key]:
    """Every key of a configuration of this model, by name."""
    return {
        **collect_keys("data", DataConfig),
        **collect_keys("model", _Which),
        **collect_keys("model", OPTIONS[model]),
        **collect_keys("train", TrainConfig),
    }


KEYS: dict[str, Key] = {}
"""Every key of any model; where models differ, as the first that has it knows it."""
for _model in reversed(OPTIONS):
    KEYS = {**keys_of(_model), **{n: k for n, k in KEYS.items() if n not in keys_of(_model)}}


class Resolved(NamedTuple):
    """A checked configuration and who decided what differs from the defaults."""

    config: Config
    origins: dict[str, str]


def find_key(name: str, origin: str, model: str = _Which.model) -> Key:
    """The key of that name; unknown names are an `InputError` with a suggestion."""
    keys = keys_of(model)
    key = keys.get(name) or keys.get(name.replace("-", "_"))
    if key is not None:
        return key
    if name in KEYS or name.replace("-", "_") in KEYS:
        owners = [m for m in OPTIONS if name.replace("-", "_") in keys_of(m)]
        raise InputError(
            f"{origin}: model {model} has no {name}, it is an option of {', '.join(owners)}; "
            f"leave it out, or choose another --model"
        )
    said = config_former.advice(name)
    if said is not None:
        raise InputError(f"{origin}: {said}")
    raise InputError(f"{origin}: unknown key {name!r}{did_you_mean(name, KEYS)}")


def parse_assignment(text: str, origin: str = "--set") -> tuple[str, Given]:
    """`"key=value"` as a key's name and its value, which `checked` looks at."""
    name, equals, value = text.partition("=")
    name = name.strip()
    if not equals or not name:
        raise InputError(f"{origin} {text!r}: expected key=value")
    return name, Given(value.strip(), f"{origin} {name}", text=True)


def checked(given: Mapping[str, Given]) -> dict[str, Given]:
    """Values by key name, of the types and within the ranges that the chosen model allows.

    Raises:
        InputError: an unknown key, one that the model does not have, a bad value, a key twice.
    """
    which = KEYS["model"]
    model = check(which, given["model"]) if "model" in given else which.default
    found: dict[str, Given] = {}
    for name, value in given.items():
        key = find_key(name, value.origin, model)
        if key.name in found:
            raise InputError(f"{value.origin}: key {key.name!r} is given twice")
        found[key.name] = Given(check(key, value), value.origin)
    return found


def _flatten(tree: Mapping[str, Any], origin: str) -> dict[str, Given]:
    """Sections and flat keys, of any version, as one mapping by key name; not yet checked."""
    flat: dict[str, Any] = {}

    def add(name: str, value: Any, section: str | None) -> None:
        known = KEYS.get(config_former.section_key(name))
        if section is not None and known is not None and known.section != section:
            raise InputError(
                f"{origin}: key {name!r} belongs under [{known.section}], found under [{section}]"
            )
        if name in flat:
            raise InputError(f"{origin}: key {name!r} is given twice")
        flat[name] = value

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
    return {name: Given(value, origin) for name, value in config_former.today(flat, origin).items()}


def read_toml(path: Path) -> dict[str, Given]:
    """What a configuration file gives, for `checked`.

    Raises:
        InputError: the file is missing, is not TOML, is far too long, or holds an unknown section.
    """
    try:
        with open(path, "rb") as file:
            content = file.read(_MAX_FILE + 1)
        if len(content) > _MAX_FILE:
            raise InputError(
                f"--config {path}: more than {_MAX_FILE >> 10} KiB, expected the few lines of a "
                "configuration; is it another file?"
            )
        for number, line in enumerate(content.splitlines(), 1):
            if line.count(b".") > _MAX_DOTS:
                raise InputError(f"--config {path}:{number}: a key of more than {_MAX_DOTS} parts")
        tree = tomllib.loads(content.decode())
    except OSError as error:
        raise InputError(f"--config {path}: {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"--config {path}: not valid TOML: {error}") from None
    return _flatten(tree, str(path))


def to_dict(config: Config) -> dict[str, dict[str, Any]]:
    """The configuration as sections of plain values, by key names (`lambda`, not `lambda_`)."""
    tree: dict[str, dict[str, Any]] = {section: {} for section in SECTIONS}
    for key in keys_of(config.model.name).values():
        part = getattr(config, key.section)
        value = part.name if key.name == "model" else getattr(part, key.attribute)
        tree[key.section][key.name] = value
    return tree


def from_dict(tree: Mapping[str, Any], origin: str) -> Config:
    """The inverse of :func:`to_dict`, checked; keys that are absent take their defaults.

    Raises:
        InputError: `tree` is not a mapping, or holds something that no configuration holds.
    """
    if not isinstance(tree, Mapping):
        raise InputError(f"{origin}: not a configuration, but {type(tree).__name__}")
    return build({name: given.value for name, given in checked(_flatten(tree, origin)).items()})


def build(values: Mapping[str, Any]) -> Config:
    """A configuration from checked values by key name; what is absent takes its default.

    Raises:
        InputError: values that do not fit each other.
    """
    model = values.get("model", _Which.model)
    keys, parts = keys_of(model), {section: dict[str, Any]() for section in SECTIONS}
    for name, value in values.items():
        if name != "model":
            parts[keys[name].section][keys[name].attribute] = value
    config = Config(
        DataConfig(**parts["data"]), OPTIONS[model](**parts["model"]), TrainConfig(**parts["train"])
    )
    config.model.check()
    config.train.check()
    if config.data.data is not None and config.data.dataset is not None:
        raise InputError("give --data FILE or --dataset NAME, not both")
    return config


def differences(resolved: Resolved) -> list[str]:
    """One line per key that is not at its default: `key = value  (default ..., from ...)`."""
    values = {name: v for part in to_dict(resolved.config).values() for name, v in part.items()}
    return [
        f"{name} = {show(values[name])}  (default {show(key.default)}, "
        f"from {resolved.origins.get(name, 'this machine')})"
        for name, key in keys_of(resolved.config.model.name).items()
        if values[name] != key.default
    ]


def resolve(
    given: Mapping[str, Given],
    recommended: Mapping[str, Any] | None = None,
    recommended_by: str = "",
) -> Resolved:
    """The configuration of a run from what the user gave.

    Later words win: the defaults, the named data set's recommended row, what the user gave (the
    command line before a file; that is the caller's merge).

    Args:
        given: checked values by key name.
        recommended: the data set's row for MCLRec, by key name. Other models take its dropout, not
            its weights of losses.
        recommended_by: its name, for messages.

    Raises:
        InputError: contradictions, or further logs without the one that they go behind.
    """
    model = given["model"].value if "model" in given else _Which.model
    of_all = keys_of("sasrec").keys() if model != "mclrec" else keys_of(model).keys()
    values: dict[str, Given] = {}
    for name, value in (recommended or {}).items():
        if name in keys_of(model) and name in of_all:
            origin = f"data set {recommended_by}"
            values[name] = Given(check(find_key(name, origin, model), Given(value, origin)), origin)
    values.update(given)
    if "data" not in given and "dataset" not in given:
        if given.get("more", Given((), "")).value:
            raise InputError(
                f"{given['more'].origin}: behind which log? --data FILE or --dataset NAME names "
                "it, --from RUN trains on behind that run's"
            )
        values["dataset"] = Given(DEFAULT_DATASET, "no data given")
    config = build({name: value.value for name, value in values.items()})
    return Resolved(config, {name: value.origin for name, value in values.items()})


def require_an_end(data: DataConfig, given: Iterable[str]) -> None:
    """Refuse to train without validation for as long as the default says.

    Raises:
        InputError: nothing is held out, and neither epochs nor max_steps is given.
    """
    if data.holdout == "none" and not {"epochs", "max_steps"} & set(given):
        raise InputError(
            "--holdout none leaves nothing to stop early by: say how long with --epochs N"
        )


def options_from(cls: type[Any], given: Mapping[str, Any], of: str) -> Any:
    """An options dataclass from keyword arguments, checked like a configuration file's values.

    Args:
        cls: the dataclass: a model's options, or `TrainConfig`.
        given: by attribute or key name (`lambda_` or `lambda`).
        of: who takes them, for messages.

    Raises:
        TypeError: a name that the dataclass does not have, with the nearest one it has.
        InputError: a value of a wrong type or out of range, or values that do not fit each other.
    """
    keys = {key.attribute: key for key in collect_keys("", cls).values()}
    names = {key.name: key.attribute for key in keys.values()} | {name: name for name in keys}
    values: dict[str, Any] = {}
    for name, value in given.items():
        if name not in names:
            said = config_former.advice(name)
            hint = f"; {said}" if said else did_you_mean(name, names)
            raise TypeError(f"{of} has no {name!r}{hint} (it has {', '.join(keys)})")
        values[names[name]] = check(keys[names[name]], Given(value, of))
    options = cls(**values)
    options.check()
    return options

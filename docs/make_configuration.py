"""Writes docs/configuration.md from the dataclasses that hold every key: config.py, options.py.

    python docs/make_configuration.py

A test fails when the page is older than the dataclasses.
"""

from pathlib import Path

from mclrec_fast.config import KEYS, OPTIONS, DataConfig, TrainConfig, keys_of
from mclrec_fast.config_keys import Key, collect_keys, range_text, show

PAGE = Path(__file__).with_name("configuration.md")

_TOP = """\
# Configuration: every key

Made by `python docs/make_configuration.py` from the dataclasses; change those, not this page.

A key means the same wherever it stands:

| where | how |
|---|---|
| command line | `--set key=value`; many keys have an option too: `--epochs 20`, `--no-user-ids` |
| file | `--config settings.toml`, flat or under `[data]`, `[model]` and `[train]` |
| Python, `[data]` | `Dataset.from_file(path, min_user=5)`, `from_frame`, `named` |
| Python, `[model]` | `MCLRec(hidden_size=32)` |
| Python, `[train]` | `model.fit(dataset, epochs=20)` |

The command line goes before the file, the file before a named data set's own row (the end of this
page), that before the default. Unknown and misspelt keys are errors with the nearest key that
exists; a value of a wrong type or out of range is one, too. A run prints what differs from the
defaults and keeps all of it in config.json.

```sh
mclrec-fast train --data purchases.csv --config settings.toml --set batch_size=128 --out runs/set
```

```toml
[model]
hidden_size = 32
inner_size = 64

[train]
epochs = 3
monitor = "masked.ndcg@10"
```
"""

_KIND = {int: "whole number", float: "number", bool: "true or false", str: "text"}


def _values(key: Key) -> str:
    """What a key may be, in words."""
    if key.choices:
        return ", ".join(f"`{choice}`" for choice in key.choices)
    if key.kind is tuple:
        return "whole numbers, ascending"
    if key.kind is list:
        return "texts"
    limits = range_text(key)
    return _KIND[key.kind] + (f", {limits}" if limits else "")


def _table(keys: dict[str, Key]) -> str:
    """One row a key."""
    lines = ["| key | default | values | what it is |", "|---|---|---|---|"]
    for name, key in keys.items():
        spelt = f"`{name}`" + (f", `{key.option}`" if key.flag else "")
        alone = f"; `{key.option}` alone: `{key.bare}`" if key.bare else ""
        lines.append(f"| {spelt} | {show(key.default)} | {_values(key)}{alone} | {key.help} |")
    return "\n".join(lines)


def _models() -> str:
    """One row for each option of a model, with its default in each model that has it."""
    columns = {name: keys_of(name) for name in OPTIONS}
    names = list(dict.fromkeys(n for name in OPTIONS for n in collect_keys("", OPTIONS[name])))
    lines = [
        "| key | " + " | ".join(columns) + " | values | what it is |",
        "|---|" + "---|" * (len(columns) + 2),
    ]
    for name in names:
        of = {model: keys[name] for model, keys in columns.items() if name in keys}
        first = next(iter(of.values()))
        ranges = dict.fromkeys(_values(key) for key in of.values())
        helps = dict.fromkeys(key.help for key in of.values())
        defaults = [show(of[model].default) if model in of else "" for model in columns]
        spelt = f"`{name}`" + (f", `{first.option}`" if first.flag else "")
        lines.append(
            f"| {spelt} | {' | '.join(defaults)} | {'; '.join(ranges)} | {'; '.join(helps)} |"
        )
    return "\n".join(lines)


def _rows_of_data_sets() -> str:
    """What a named data set sets unasked."""
    from mclrec_fast.data.named import DATASETS

    lines = ["| data set | settings |", "|---|---|"]
    for name, entry in DATASETS.items():
        settings = ", ".join(f"`{key}` {show(value)}" for key, value in entry.recommended.items())
        lines.append(f"| `{name}` | {settings or 'the defaults'} |")
    return "\n".join(lines)


def page() -> str:
    """The whole page."""
    which = KEYS["model"]
    return "\n".join(
        [
            _TOP,
            "## [data]: what is read and how it is split\n",
            _table(collect_keys("data", DataConfig)),
            "\n## [model]: what the model is\n",
            f"`model`, `--model`: {_values(which)} (default {show(which.default)}). An empty cell:",
            "the model has no such option, and giving it is an error.\n",
            _models(),
            "\nIn Python `lambda` is a reserved word: `MCLRec(lambda_=0.1)`.",
            "\n## [train]: how it is trained\n",
            _table(collect_keys("train", TrainConfig)),
            "\n## What a named data set sets\n",
            "On the command line (`--dataset NAME`), for MCLRec; other models take the dropout,",
            "layers and epochs, where they have them, and not the weights of losses. In Python",
            "these are `Dataset.named(NAME).recommended`, and nothing is set unasked.\n",
            _rows_of_data_sets(),
            "",
        ]
    )


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")

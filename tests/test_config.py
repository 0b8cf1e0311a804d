"""The configuration: every key checked, every contradiction refused, nothing evaluated."""

from dataclasses import replace
from pathlib import Path

import pytest

from mclrec_fast import config as c
from mclrec_fast.config_keys import Given, check
from mclrec_fast.errors import InputError
from mclrec_fast.models.options import OPTIONS


def given(*assignments: str) -> dict[str, Given]:
    return c.checked(dict(c.parse_assignment(text) for text in assignments))


def resolve(*assignments: str, **kwargs: object) -> c.Config:
    return c.resolve(given(*assignments), **kwargs).config  # type: ignore[arg-type]


def test_losses_are_chosen_by_name() -> None:
    with pytest.raises(InputError, match=r"softmax"):
        resolve("loss=sofmax")
    for model in ("mclrec", "cl4srec", "sasrec", "gru4rec"):
        assert resolve(f"model={model}", "loss=softmax").model.loss == "softmax"


def test_defaults_are_the_beauty_row_and_the_official_schedule() -> None:
    config = c.Config()
    assert (config.model.lambda_, config.model.beta) == (0.0, 0.05)
    assert (config.model.hidden_dropout, config.model.attention_dropout) == (0.5, 0.5)
    assert config.model.schedule == "official"
    assert resolve().data.dataset == "ml-100k"
    assert resolve("data=x.txt").data.dataset is None


def test_defaults_pass_their_own_checks() -> None:
    for model, options in OPTIONS.items():
        for key in c.keys_of(model).values():
            assert check(key, Given(key.default, "default")) == key.default
        options().check()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("betta=1", ["betta", "did you mean 'beta'"]),
        ("beta", ["expected key=value"]),
        ("=1", ["expected key=value"]),
        ("beta=abc", ["beta must be a number", "'abc'"]),
        ("beta=nan", ["beta", "nan"]),
        ("beta=inf", ["beta", "inf"]),
        ("beta=-1", ["beta must be at least 0", "-1"]),
        ("epochs=1.5", ["epochs must be a whole number", "'1.5'"]),
        ("epochs=0", ["epochs must be at least 1"]),
        ("seed=-1", ["seed must be at least 0"]),
        ("seed=9223372036854775808", ["seed must be", "at most 9223372036854775807"]),
        ("temperature=0", ["temperature must be above 0"]),
        ("crop_ratio=1", ["crop_ratio must be at least 0 and below 1"]),
        ("mask_ratio=1.0", ["mask_ratio must be at least 0 and below 1"]),
        ("reorder_ratio=1.01", ["reorder_ratio must be at least 0 and at most 1"]),
        ("hidden_dropout=1", ["hidden_dropout", "below 1"]),
        (
            "similarity=cosine",
            ["similarity must be one of dot, cos", "did you mean 'cos'"],
        ),
        ("schedule=oficial", ["did you mean 'official'"]),
        ("ignore_times=maybe", ["ignore_times must be true or false"]),
        ("shared_augmenter=2", ["shared_augmenter must be true or false"]),
        ("data=", ["data must not be empty"]),
        ("cutoffs=5,x", ["cutoffs must be whole numbers in ascending order"]),
        ("cutoffs=10,5", ["cutoffs must be whole numbers in ascending order"]),
        ("cutoffs=0,5", ["cutoffs must be whole numbers in ascending order"]),
        ("ema_decay=1", ["ema_decay must be at least 0 and below 1"]),
        ("learning_rate=__import__('os').getpid()", ["learning_rate must be a number"]),
    ],
)
def test_bad_assignments(text: str, words: list[str]) -> None:
    with pytest.raises(InputError) as error:
        given(text)
    for word in ["--set", *words]:
        assert word in str(error.value)


def test_good_assignments() -> None:
    values = given("lambda=0.3", "max-steps=none", "ignore_times=yes", "seed=7", "beta=1e-2")
    assert {k: v.value for k, v in values.items()} == {
        "lambda": 0.3,
        "max_steps": None,
        "ignore_times": True,
        "seed": 7,
        "beta": 0.01,
    }
    assert resolve("lambda=0.3").model.lambda_ == 0.3
    assert resolve("mask_ratio=0", "crop_ratio=0", "reorder_ratio=1").model.reorder_ratio == 1


def test_values_that_do_not_fit_each_other() -> None:
    with pytest.raises(InputError, match="hidden_size 65 is not a multiple of heads 2"):
        resolve("hidden_size=65")
    with pytest.raises(InputError, match="not both"):
        resolve("data=a.txt", "dataset=beauty")
    with pytest.raises(InputError, match="at least 4"):
        resolve("hidden_size=2")


def test_models_set_their_own_losses() -> None:
    assert not {"lambda", "beta", "schedule"} & c.keys_of("sasrec").keys()
    assert not {"beta", "schedule"} & c.keys_of("cl4srec").keys()
    assert resolve("model=cl4srec").model.lambda_ == 0.1
    assert resolve("model=cl4srec", "lambda=0.3").model.lambda_ == 0.3


@pytest.mark.parametrize(
    ("assignments", "words"),
    [
        (["model=sasrec", "beta=0.1"], "model sasrec has no beta, it is an option of mclrec"),
        (["model=sasrec", "lambda=0.1"], "model sasrec has no lambda"),
        (["model=cl4srec", "beta=0.1"], "model cl4srec has no beta"),
        (["model=cl4srec", "lambda=0"], "lambda must be above 0"),
    ],
)
def test_contradictions_are_refused(assignments: list[str], words: str) -> None:
    with pytest.raises(InputError, match=words):
        resolve(*assignments)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("ndgc@10", "no such metric; did you mean 'ndcg@10'"),
        ("ndcg@7", "no such metric"),
        ("maskd.hr@10", "did you mean 'masked.hr@10'"),
        ("coverage@10", "judges a catalogue's use, not an epoch"),
    ],
)
def test_monitors_that_do_not_exist(text: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        resolve(f"monitor={text}")
    assert resolve("monitor=masked.ndcg@7", "cutoffs=7").train.cutoffs == (7,)


def test_a_named_data_set_brings_its_row_and_the_user_overrides_it() -> None:
    row = {"lambda": 0.04, "beta": 0.4, "hidden_dropout": 0.4}
    resolved = c.resolve(given("beta=0.3"), row, "sports")
    assert resolved.config.model.lambda_ == 0.04
    assert resolved.config.model.beta == 0.3
    lines = c.differences(resolved)
    assert "lambda = 0.04  (default 0.0, from data set sports)" in lines
    assert "beta = 0.3  (default 0.05, from --set beta)" in lines
    # The row is MCLRec's: other models keep their own losses.
    assert resolve("model=sasrec", recommended=row).model.hidden_dropout == 0.4
    assert resolve("model=cl4srec", recommended=row).model.lambda_ == 0.1


def test_toml_sections_and_flat_keys(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_text('epochs = 3\n[model]\nlayers = 1\nlambda = 1\nsimilarity = "cos"\n')
    config = c.resolve(c.checked(c.read_toml(path))).config
    assert (config.train.epochs, config.model.layers) == (3, 1)
    assert (config.model.lambda_, config.model.similarity) == (1.0, "cos")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("epoch = 3", ["unknown key 'epoch'", "did you mean 'epochs'"]),
        ("[trian]\nepochs = 3", ["unknown section [trian]", "did you mean 'train'"]),
        (
            "[model]\nepochs = 3",
            ["'epochs' belongs under [train], found under [model]"],
        ),
        ('epochs = "3"', ["epochs must be a whole number, not '3'"]),
        ("epochs = true", ["epochs must be a whole number, not True"]),
        ("ignore_times = 1", ["ignore_times must be true or false, not 1"]),
        ("epochs = 3\n[train]\nepochs = 4", ["given twice"]),
        ("epochs = = 3", ["not valid TOML"]),
        ("beta = -0.1", ["beta must be at least 0"]),
    ],
)
def test_bad_toml(tmp_path: Path, text: str, words: list[str]) -> None:
    path = tmp_path / "a.toml"
    path.write_text(text)
    with pytest.raises(InputError) as error:
        c.checked(c.read_toml(path))
    for word in ["a.toml", *words]:
        assert word in str(error.value)


# Keys of earlier versions.


def read(tmp_path: Path, text: str) -> c.Config:
    path = tmp_path / "a.toml"
    path.write_text(text)
    return c.resolve(c.checked(c.read_toml(path))).config


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("tf32 = true", "tf32"),
        ("bf16 = true", "bf16"),
        ("[train]\ntf32 = false\nbf16 = true", "bf16"),
        ("tf32 = true\n[train]\nbf16 = false", "tf32"),
        ("tf32 = false\nbf16 = false", "float32"),
        ("epochs = 3", "float32"),
    ],
)
def test_switches_of_precision_in_older_files(tmp_path: Path, text: str, word: str) -> None:
    assert read(tmp_path, text).train.precision == word
    assert read(tmp_path, f'precision = "{word}"').train.precision == word


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("tf32 = true\nbf16 = true", ["tf32 and bf16 are two ways to round", "precision"]),
        ("tf32 = 1", ["tf32 must be true or false, not 1"]),
        ('tf32 = false\nprecision = "tf32"', ["tf32 became precision", "keep precision alone"]),
        ("[model]\ntf32 = true", ["'tf32' belongs under [train], found under [model]"]),
        ("tf32 = true\n[train]\ntf32 = true", ["given twice"]),
        ('precision = "bf32"', ["precision must be one of", "did you mean 'tf32'"]),
    ],
)
def test_bad_precision_in_files(tmp_path: Path, text: str, words: list[str]) -> None:
    with pytest.raises(InputError) as error:
        read(tmp_path, text)
    for word in ["a.toml", *words]:
        assert word in str(error.value)


def test_the_command_line_goes_before_an_older_file(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_text("bf16 = true\nepochs = 3")
    values = c.checked(c.read_toml(path) | {"precision": Given("tf32", "--precision", text=True)})
    assert c.resolve(values).config.train.precision == "tf32"
    assert values["epochs"].value == 3


def test_an_older_runs_configuration_is_read(tmp_path: Path) -> None:
    tree = c.to_dict(c.Config())
    del tree["train"]["precision"]
    for old, word in (({}, "float32"), ({"tf32": False, "bf16": True}, "bf16")):
        config = c.from_dict({**tree, "train": tree["train"] | old}, "config.json")
        assert config.train == replace(c.TrainConfig(), precision=word)


def test_former_keys_are_not_given_any_more() -> None:
    advice = "tf32 is a value of precision now: --precision tf32, or precision='tf32' in Python"
    with pytest.raises(InputError) as refused:
        resolve("tf32=true")
    assert advice in str(refused.value) and "--set tf32" in str(refused.value)
    with pytest.raises(TypeError) as wrong:
        c.options_from(c.TrainConfig, {"tf32": True}, "fit")
    assert f"fit has no 'tf32'; {advice}" in str(wrong.value)


def test_missing_config_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.toml: No such file"):
        c.read_toml(tmp_path / "none.toml")


def test_round_trip() -> None:
    config = resolve("lambda=0.3", "data=a.txt", "max_steps=5", "min_rating=3.5")
    assert c.from_dict(c.to_dict(config), "config.json") == config
    assert c.to_dict(config)["model"]["lambda"] == 0.3

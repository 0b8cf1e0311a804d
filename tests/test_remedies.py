"""What a message advises helps: each is provoked, then its advice is followed to the end."""

import json
import re
import shlex
import tomllib
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from mclrec_fast.commands import VERBS, main
from mclrec_fast.data import Dataset, LogWarning, load_dataset
from mclrec_fast.data import reader as text_reader
from mclrec_fast.errors import InputError
from tests.small_runs import SETTINGS

Capture = pytest.CaptureFixture[str]
Follow = list[str] | Callable[[str], list[str]]


def log(
    *columns: str, separator: str = ",", row: Callable[..., tuple[Any, ...]] | None = None
) -> str:
    """Twelve users with six rows each; a row is made of user, item and second."""
    made = row or (lambda user, item, time: (user, item, time))
    rows = [
        made(user, (user * 7 + k * k) % 11 + 50, 1_600_000_000 + 1000 * k + user)
        for user in range(1, 13)
        for k in range(6)
    ]
    lines = [separator.join(columns)] if columns else []
    return "\n".join([*lines, *(separator.join(map(str, cells)) for cells in rows)]) + "\n"


def month_first(user: int, item: int, time: int) -> tuple[Any, ...]:
    return user, item, f"09/{13 + user}/2020", time


USUAL = log("user", "item", "time")
PAIRS = "".join(f"{user} {user % 5 + 10} {user % 3 + 20}\n" for user in range(9))


class Case(NamedTuple):
    """A log, what is refused with which words, and what helps: options, or found in the message."""

    log: str
    options: list[str]
    words: str
    follow: list[Follow]
    mended: str = ""  # another log, where the advice is to change it


def said(pattern: str) -> Callable[[str], list[str]]:
    """The words of the message that a pattern's group holds, as options."""

    def find(message: str) -> list[str]:
        found = re.search(pattern, message)
        assert found is not None, message
        return shlex.split(found[1])

    return find


CASES = {
    "user column": Case(
        log("who", "item", "time"), [], "name it with --user-col", [["--user-col", "who"]]
    ),
    "item column": Case(
        log("user", "items", "time"),
        [],
        "no column for the item ids",
        [said(r"did you mean (--item-col \S+)\?")],
    ),
    "column given wrong": Case(
        log("who", "item", "time"),
        ["--user-col", "whom"],
        "did you mean 'who'",
        [["--user-col", "who"]],
    ),
    "usual name twice": Case(
        log("user", "item", "item"),
        [],
        "count the one that is meant",
        [said(r"meant: (--item-col \d)")],
    ),
    "given name twice": Case(
        log("a", "item", "a"), ["--user-col", "a"], "count it", [said(r"count it: (--user-col \d)")]
    ),
    "ties of nothing": Case(
        log("user", "item", "k"),
        ["--then-by", "k"],
        "name their column with --time-col",
        [["--time-col", "k"]],
    ),
    "columns where a header is": Case(
        USUAL,
        ["--columns", "user,item,at"],
        "leave --columns out",
        [
            [],
            ["--columns", "user,item,at", "--header", "yes"],
            ["--columns", "user,item,day", "--header", "no", "--ignore-times"],
        ],
    ),
    "header or data": Case(
        log("0", "1", "2"),
        [],
        "Say --header yes or --header no",
        [["--header", h, "--user-col", "1", "--item-col", "2"] for h in ("yes", "no")],
    ),
    "no header": Case(
        log(),
        [],
        "no header",
        [
            said(r"as in (--columns \S+),"),
            said(r"as in (--user-col \d --item-col \d)"),
            ["--header", "yes", "--user-col", "1", "--item-col", "2"],
        ],
    ),
    "a table taken for lists": Case(
        USUAL, ["--format", "text"], "--format csv", [["--format", "csv"]]
    ),
    "pairs taken for lists": Case(
        log(), ["--format", "text"], "--columns user,item", [["--columns", "user,item,time"]]
    ),
    "times of another kind": Case(
        log("user", "item", "time", "second", row=month_first),
        [],
        "ISO 8601",
        [["--time-col", "second"], ["--ignore-times"]],
    ),
    "one field more": Case(
        log("user", "item", "time", row=lambda *row: (*row, "x")),
        [],
        "add a name to that line",
        [[]],
        log("user", "item", "time", "other", row=lambda *row: (*row, "x")),
    ),
    "decimal comma": Case(
        log("user", "item", "rating", separator=";", row=lambda u, i, t: (u, i, "4,5")),
        ["--min-rating", "1"],
        "decimal point",
        [["--min-rating", "1"]],
        log("user", "item", "rating", separator=";", row=lambda u, i, t: (u, i, "4.5")),
    ),
    "ratings by another name": Case(
        log("user", "item", "grade"),
        ["--min-rating", "1"],
        "name it with --rating-col",
        [["--min-rating", "1", "--rating-col", "grade", "--ignore-times"]],
    ),
    "temporal without times": Case(
        log("user", "item", "k"),
        ["--holdout", "temporal"],
        "--time-col",
        [["--holdout", "temporal", "--time-col", "k"], ["--holdout", "leave-one-out"]],
    ),
    "histories of two": Case(
        PAIRS, [], "--holdout none trains with 2", [["--holdout", "none", "--epochs", "1"]]
    ),
    "no end": Case(
        USUAL, ["--holdout", "none"], "--epochs N", [["--holdout", "none", "--epochs", "2"]]
    ),
    "two sources": Case(USUAL, ["--dataset", "synthetic"], "not both", [[]]),
    "unknown option": Case(USUAL, ["--epoch", "3"], "did you mean '--epochs'", [["--epochs", "3"]]),
    "no option of its own": Case(
        USUAL,
        ["--batch-size", "64"],
        "did you mean '--set batch_size=VALUE'",
        [["--set", "batch_size=64"]],
    ),
    "key": Case(
        USUAL, ["--set", "batchsize=64"], "did you mean 'batch_size'", [["--set", "batch_size=64"]]
    ),
    "choice": Case(
        USUAL, ["--holdout", "temporl"], "did you mean 'temporal'", [["--holdout", "temporal"]]
    ),
    "device": Case(
        USUAL, ["--device", "cuda", "--backend", "torch"], "use --device cpu", [["--device", "cpu"]]
    ),
    "precision of a GPU": Case(
        USUAL,
        ["--precision", "tf32"],
        "needs a GPU",
        [lambda message: ["--precision", *re.findall(r"here: (\w+)", message)], []],
    ),
    "former option": Case(
        USUAL, ["--no-tf32"], "tf32 is a value of precision", [said(r"now: (--precision \w+)")]
    ),
    "given twice": Case(
        USUAL, ["--epochs", "2", "--set", "epochs=3"], "keep one", [["--epochs", "2"]]
    ),
    "threads": Case(USUAL, ["--threads", "40000"], "at most 1024", [["--threads", "2"]]),
}


def train(file: Path, out: Path, options: list[str], capsys: Capture) -> tuple[int, str]:
    """The exit code and what was said on standard error."""
    model = [] if "--model" in options else ["--model", "popularity"]
    capsys.readouterr()
    code = main(["train", "--data", str(file), "--out", str(out), *model, *options])
    return code, capsys.readouterr().err


@pytest.mark.parametrize("name", CASES)
def test_advice_about_a_log(tmp_path: Path, capsys: Capture, name: str) -> None:
    case = CASES[name]
    file = tmp_path / "log.txt"
    file.write_text(case.log)
    code, message = train(file, tmp_path / "refused", case.options, capsys)
    assert code == 2 and case.words in message, message
    assert not (tmp_path / "refused").exists()
    if case.mended:
        file.write_text(case.mended)
    for number, follow in enumerate(case.follow):
        options = follow if isinstance(follow, list) else follow(message)
        code, after = train(file, tmp_path / str(number), options, capsys)
        assert code == 0, after
        assert json.loads((tmp_path / str(number) / "config.json").read_text())


def test_an_option_of_another_model(tmp_path: Path, capsys: Capture) -> None:
    file = tmp_path / "log.csv"
    file.write_text(USUAL)
    small = [f"--set={key}={value}" for key, value in SETTINGS.items()]
    argv = ["--model", "popularity", "--set", "beta=0.2"]
    code, message = train(file, tmp_path / "run", argv, capsys)
    assert code == 2 and "an option of mclrec; leave it out, or choose another --model" in message
    assert train(file, tmp_path / "without", argv[:2], capsys)[0] == 0
    assert (
        train(file, tmp_path / "run", ["--model", "mclrec", "--epochs", "1", *small], capsys)[0]
        == 0
    )


@pytest.mark.parametrize("positions", [True, False])
def test_parts_of_several_names(tmp_path: Path, capsys: Capture, positions: bool) -> None:
    folder = tmp_path / "parts"
    folder.mkdir()
    (folder / "a.csv").write_text(log("user_id", "item_id", "timestamp"))
    (folder / "b.csv").write_text(log("user_id", "item", "at", "user"))
    lines = log("user", "item", "time", "user_id", row=lambda *row: (*row, 7))
    (folder / "b.csv").write_text(log("user", "item", "time") if positions else lines)
    code, message = train(folder, tmp_path / "run", [], capsys)
    assert code == 2 and "name them with --user-col, --item-col and --time-col" in message
    count = ["--user-col", "1", "--item-col", "2", "--time-col", "3"]
    code, message = train(folder, tmp_path / "run", count, capsys)
    assert code == 0, message


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    (folder / "log.csv").write_text(USUAL)
    small = [
        f"--set={key}={value}" for key, value in SETTINGS.items() if key not in ("beta", "lambda")
    ]
    argv = ["--data", str(folder / "log.csv"), "--epochs", "1", "--model", "sasrec", *small]
    assert main(["train", *argv, "--out", str(folder / "run")]) == 0
    return folder / "run"


def carry_out(command: str) -> int:
    """A command as a message gives it."""
    program, verb, *rest = shlex.split(command)
    assert program == "mclrec-fast" and verb in VERBS
    return main([verb, *rest])


def test_advice_about_runs(run: Path, tmp_path: Path, capsys: Capture) -> None:
    file = run.parent / "log.csv"
    code, message = train(file, run, [], capsys)
    resume = said(r"go on with that run: (--resume \S+)")(message)
    assert code == 2
    assert main(["train", *resume]) == 0
    note = capsys.readouterr().out
    assert "all 1 epochs are done: --epochs N trains on" in note
    assert main(["train", *resume, "--epochs", "2"]) == 0
    assert main(["train", *resume, "--epochs", "3", "--out", str(tmp_path / "x")]) == 2
    assert main(["train", *resume, "--epochs", "3"]) == 0
    assert main(["train", *resume, "--epochs", "9", "--set", "patience=1"]) == 0
    capsys.readouterr()
    assert main(["train", *resume, "--epochs", "9"]) == 0
    stopped = re.search(r"--set patience=N with N above (\d+) trains on", capsys.readouterr().out)
    if stopped is not None:
        argv = ["train", *resume, "--epochs", "10", "--set", f"patience={int(stopped[1]) + 9}"]
        assert main(argv) == 0
        assert len((run / "metrics.jsonl").read_text().splitlines()) > int(stopped[1]) + 1


def test_advice_about_another_log(run: Path, tmp_path: Path, capsys: Capture) -> None:
    file = run.parent / "log.csv"
    before = file.read_text()
    try:
        file.write_text(before + "1,55,1700000000\n")
        assert main(["evaluate", str(run)]) == 2
        message = capsys.readouterr().err
        command = re.search(r"on any log: (mclrec-fast evaluate .*)", message)
        assert command is not None
        assert carry_out(command[1]) == 0
    finally:
        file.write_text(before)
    assert main(["evaluate", str(run), "--time-col", "time"]) == 2
    assert "--time-col needs --data FILE" in capsys.readouterr().err
    assert main(["evaluate", str(run), "--time-col", "time", "--data", str(file)]) == 0


def test_advice_about_recommending(run: Path, tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "deep" / "best.csv"
    argv = ["recommend", str(run), "--out", str(out)]
    assert main(argv) == 2
    assert "make it first" in capsys.readouterr().err
    out.parent.mkdir()
    assert main(argv) == 0
    assert main(argv) == 2
    assert "name another file, or remove it first" in capsys.readouterr().err
    out.unlink()
    assert main(argv) == 0
    both = ["recommend", str(run), "--history", "55", "--users", "1"]
    assert main(both) == 2
    assert main(both[:4]) == 0 and main([*both[:2], *both[4:]]) == 0


def test_advice_of_the_card(tmp_path: Path) -> None:
    def row(user: int, item: int, time: int) -> tuple[Any, ...]:
        return user, item, f"2020-09-{10 + time % 3}", time

    rows = log("user", "item", "date", "k", row=row)
    file = tmp_path / "log.csv"
    file.write_text(rows + rows.splitlines()[1] + "\n")

    def card(**options: Any) -> str:
        return load_dataset(data=str(file), **options).card.render()

    plain = card()
    assert "name it with --then-by" in plain and "--dedupe exact drops them" in plain
    ordered = card(then_by="k", dedupe="exact")
    assert "column 'k' orders them" in ordered and "name it with --then-by" not in ordered
    assert "column 'k' orders all but 2; among those" in card(then_by="k")
    assert "--dedupe exact drops them" not in card(dedupe="exact")
    assert "targets are items that the user had before" in plain
    assert "targets are items that the user had before" not in card(dedupe="first")
    assert "user 1 holds" in plain


def test_advice_of_a_warning(tmp_path: Path) -> None:
    file = tmp_path / "log.csv"
    file.write_text(log("user", "item", "when"))
    with pytest.warns(LogWarning, match=r"'when' may hold times: --time-col NAME .*--ignore-times"):
        load_dataset(data=str(file))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_dataset(data=str(file), time_col="when")
        load_dataset(data=str(file), ignore_times=True)


def test_advice_for_frames(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    file = tmp_path / "log.csv"
    file.write_text(USUAL)
    with pytest.raises(InputError, match="from_file reads files"):
        Dataset.from_frame(str(file))
    expected = Dataset.from_file(str(file)).log.items.tolist()
    frame = pandas.read_csv(file)
    with pytest.raises(InputError, match=r"pandas\.DataFrame\(records\)"):
        Dataset.from_frame(frame.to_dict("records"))
    records = pandas.DataFrame(frame.to_dict("records"))
    assert Dataset.from_frame(records).log.items.tolist() == expected
    page = tmp_path / "log.json"
    frame.to_json(page, orient="records")
    with pytest.raises(InputError, match=r"pandas\.read_json and Dataset\.from_frame"):
        load_dataset(data=str(page))
    assert Dataset.from_frame(pandas.read_json(page)).log.items.tolist() == expected
    mixed = frame.astype({"user": object})
    mixed.loc[0, "user"] = "1"
    with pytest.raises(InputError, match="make all of them text"):
        Dataset.from_frame(mixed)
    assert Dataset.from_frame(mixed.astype({"user": str})).log.items.tolist() == expected
    raw = frame.assign(user=[str(user).encode() for user in frame.user])
    with pytest.raises(InputError, match="decode the bytes"):
        Dataset.from_frame(raw)
    decoded = raw.assign(user=[user.decode() for user in raw.user])
    assert Dataset.from_frame(decoded).log.items.tolist() == expected
    holed = frame.astype({"user": "Int64"})
    holed.loc[3, "user"] = pandas.NA
    with pytest.raises(InputError, match=r"row 3: no value .*drop those rows"):
        Dataset.from_frame(holed)
    assert len(Dataset.from_frame(holed.dropna()).log.items) == len(expected) - 1


def test_advice_about_rows_behind_no_log(run: Path, tmp_path: Path, capsys: Capture) -> None:
    """Further rows alone are not put behind the default data set."""
    more = tmp_path / "more.csv"
    more.write_text(USUAL)
    argv = ["train", "--more", str(more), "--epochs", "1", "--threads", "1"]
    assert main([*argv, "--out", str(tmp_path / "a")]) == 2
    said = capsys.readouterr().err
    assert "--more: behind which log? --data FILE" in said and "--from RUN" in said
    assert not (tmp_path / "a").exists()
    small = ["--model", "popularity", "--data", str(more)]
    assert main([*argv, *small, "--out", str(tmp_path / "b")]) == 0
    assert main(["train", "--from", str(run), "--threads", "1", "--out", str(tmp_path / "c")]) == 2
    assert "on what? --data FILE" in capsys.readouterr().err
    assert main([*argv, "--from", str(run), "--out", str(tmp_path / "c")]) == 0
    assert main(["train", *argv[3:], "--from", str(run), "--data", str(more),
                 "--out", str(tmp_path / "d")]) == 0  # fmt: skip


@pytest.mark.parametrize("clock", ["", " 10:11:12"])
@pytest.mark.parametrize("reader", ["numpy", "native"])
def test_advice_for_month_first_dates(tmp_path: Path, reader: str, clock: str) -> None:
    """Refused in text, parquet and frames, with row and value; converted by pandas, the order."""
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    if reader == "native" and not text_reader.available():
        pytest.skip("the native reader is not built")
    days = pandas.date_range("2023-12-28", periods=8)
    frame = pandas.DataFrame({"user": 1, "item": range(8), "time": days.strftime("%m/%d/%Y")})
    frame["time"] += clock
    frame = frame.iloc[::-1]  # the file's order is not that of the days
    frames = [frame]
    frame.to_csv(tmp_path / "log.csv", index=False)
    frame.to_parquet(tmp_path / "log.parquet", index=False)
    loads: dict[str, Callable[[], Dataset]] = {
        rf"log\.csv:2: column 'time' is '01/04/2024{clock}', [\s\S]*ISO 8601[\s\S]*Convert": (
            lambda: Dataset.from_file(tmp_path / "log.csv", reader=reader)
        ),
        rf"log\.parquet: column 'time', row 0: '01/04/2024{clock}', [\s\S]*pandas\.to_datetime": (
            lambda: Dataset.from_file(tmp_path / "log.parquet", reader=reader)
        ),
        rf"column 'time', row 0: '01/04/2024{clock}', [\s\S]*pandas\.to_datetime": (
            lambda: Dataset.from_frame(frames[-1])
        ),
    }
    for words, load in loads.items():
        with pytest.raises(InputError, match=words):
            load()
    written = "%m/%d/%Y %H:%M:%S" if clock else "%m/%d/%Y"
    mended = frame.assign(time=pandas.to_datetime(frame.time, format=written))
    frames.append(mended)
    mended.to_csv(tmp_path / "log.csv", index=False)
    mended.to_parquet(tmp_path / "log.parquet", index=False)
    for load in loads.values():
        log = load().log
        assert log.item_ids[log.sequence(0)].tolist() == list(range(8))


def test_extras_that_messages_name() -> None:
    """Each `mclrec_fast[...]` of a message or a page is an extra of the package."""
    root = Path(__file__).parents[1]
    extras = tomllib.loads((root / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    pages = [*(root / "mclrec_fast").rglob("*.py"), *(root / "docs").rglob("*.md")]
    named = {
        name.strip(): path.name
        for path in [*pages, root / "README.md"]
        for names in re.findall(r"mclrec[_-]fast\[([a-z, _-]+)\]", path.read_text("utf-8"))
        for name in names.split(",")
    }
    named |= {
        name: path.name
        for path in [*pages, root / "README.md"]
        for names in re.findall(r"pip install \S*\.\[([a-z,]+)\]", path.read_text("utf-8"))
        for name in names.split(",")
    }
    assert {"parquet", "export", "plots", "tune"} <= named.keys()
    assert not {name: at for name, at in named.items() if name not in extras}

"""README and docs: commands and snippets run as printed, links and paths lead somewhere.

Fenced blocks of one page share a folder with small stand-ins for the logs they name, and one run.
Commands are run in this process; what cannot run here is listed with the reason, and its options
are parsed all the same.
"""

import importlib
import importlib.util
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from mclrec_fast import commands
from mclrec_fast.commands.import_checkpoint import read_state_dict
from mclrec_fast.models.authors import encoder_name

ROOT = Path(__file__).resolve().parents[1]
PAGES = [
    *("README.md", "CONTRIBUTING.md", "CHANGELOG.md"),
    *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").glob("*.md")),
]

NOT_RUN = {
    "pip install": "changes the environment",
    "mclrec-fast train": "downloads MovieLens-100K",
    "mclrec-fast reproduce main --dataset beauty": "downloads Beauty and trains for hours",
    "mclrec-fast reproduce candidates --dataset beauty": "the same",
    "python -m pytest": "this is one of its tests",
    "python setup.py": "compiles for minutes",
    "pytest benchmarks/": "measures for minutes",
    "python -m benchmarks.report": "needs what a measurement wrote",
    "python -m benchmarks.train_step": "measures",
    "python -m benchmarks.bench_recommend": "measures",
    "python -m benchmarks.peers": "measures",
    "python -m benchmarks.picture": "needs matplotlib; its figures are compared below",
    "python -m benchmarks.equality": "starts processes; tests/training/test_processes.py does",
    "python -m benchmarks.beyond_memory": "writes 6 GB; tests/benchmarks runs it small",
    "torchrun": "starts processes",
    "python docs/make_configuration.py": "writes into the sources; its page is compared below",
}
"""Beginnings of commands that are not run; `mclrec-fast train` only where nothing follows it."""
CANNOT_RUN = {"--device cuda": "needs a GPU", "--precision bf16": "needs a CPU with AMX"}


def test_nothing_is_listed_in_vain() -> None:
    said = "\n".join(command for page in PAGES for command in commands_of(page))
    for beginning in (*NOT_RUN, *CANNOT_RUN):
        assert beginning in said, f"{beginning} is in no page any more"


def blocks(page: str) -> Iterator[tuple[str, str]]:
    """(language, text) of a page's fenced blocks."""
    text = (ROOT / page).read_text(encoding="utf-8")
    for found in re.finditer(r"^```(\w*)\n(.*?)^```$", text, re.M | re.S):
        yield found[1], found[2]


def commands_in(block: str) -> Iterator[str]:
    """The single commands of a sh block, without comments and brackets of what is optional."""
    for line in block.replace("\\\n", " ").splitlines():
        bare = " ".join(shlex.split(line, comments=True))
        for command in bare.split(" && "):
            for optional in re.findall(r"\[(-[^]]*)\]", command):
                command = command.replace(f"[{optional}]", optional.split(" | ")[0])
            if command:
                yield " ".join(command.split())


def commands_of(page: str) -> list[str]:
    """All commands of a page's sh blocks."""
    return [c for language, block in blocks(page) if language == "sh" for c in commands_in(block)]


def why_not_run(command: str) -> str | None:
    """Why a command is not run here; None where it is."""
    for words, reason in CANNOT_RUN.items():
        if words in command:
            return reason
    if command == "mclrec-fast train":
        return NOT_RUN[command]
    others = {words: why for words, why in NOT_RUN.items() if words != "mclrec-fast train"}
    return next((why for words, why in others.items() if command.startswith(words)), None)


# What the pages name, small.


def write_stand_ins(folder: Path) -> None:
    """The logs that the pages name, of 60 users who walk through 12 things."""
    rng = np.random.default_rng(0)
    things = "lamp desk chair shelf rug clock vase sofa kettle plant frame mirror".split()
    walks = [(np.arange(8) + start) % 12 for start in rng.integers(0, 12, 60)]
    rows = [(f"u{u}", things[i], 1_700_000_000 + t) for u, w in enumerate(walks)
            for t, i in enumerate(w)]  # fmt: skip
    lines = [f"{user},{item},{time}" for user, item, time in rows]
    (folder / "purchases.csv").write_text("\n".join(["user,item,time", *lines]) + "\n")
    (folder / "today.csv").write_text("user,item,time\nnew,rug,1\nnew,clock,2\nnewer,lamp,1\n")
    new = [f"u{u},bench,{1_700_000_100 + u}" for u in range(20)]
    (folder / "new.csv").write_text("\n".join(["user,item,time", *new]) + "\n")
    (folder / "grown.csv").write_text("\n".join(["user,item,time", *lines, *new]) + "\n")
    vectors = [" ".join([thing, *map(str, rng.normal(size=64).round(3))]) for thing in things[:9]]
    (folder / "vectors.vec").write_text("\n".join(["9 64", *vectors]) + "\n")
    (folder / "returned.csv").write_text("user,item\nnew,lamp\nold,desk\n")
    days = [f"{user},{item},2026-01-{time % 100 + 1:02}" for user, item, time in rows]
    (folder / "interactions.csv").write_text("\n".join(["user_id,item_id,datetime", *days]) + "\n")
    text = [" ".join(map(str, [u + 1, *(walk + 1)])) for u, walk in enumerate(walks)]
    (folder / "beauty.txt").write_text("\n".join(text) + "\n")
    for page, name in (("configuration", "settings"), ("reproducing", "recipe")):
        (block,) = (text for language, text in blocks(f"docs/{page}.md") if language == "toml")
        (folder / f"{name}.toml").write_text(block)


def write_authors_checkpoint(folder: Path, run: str) -> None:
    """A file such as the authors' code saves, with the encoder of a run."""
    from mclrec_fast import load

    ours = load(folder / run).encoder.state_dict()  # type: ignore[union-attr,operator]
    theirs = {}
    for name in AUTHORS_NAMES:
        tensor = ours[encoder_name(name)]
        if name == "item_embedding.weight":
            tensor = torch.cat((tensor, tensor[-1:]))
        theirs[name] = tensor
    torch.save({"state_dict": theirs}, folder / "model.pth")
    assert read_state_dict(folder / "model.pth").keys() == theirs.keys()


AUTHORS_NAMES = [
    *("item_embedding.weight", "position_embedding.weight", "LayerNorm.weight", "LayerNorm.bias"),
    *(
        f"trm_encoder.layer.{layer}.{part}.{kind}"
        for layer in (0, 1)
        for part in (
            *(f"multi_head_attention.{name}" for name in ("query", "key", "value", "dense")),
            *("multi_head_attention.LayerNorm", "feed_forward.LayerNorm"),
            *("feed_forward.dense_1", "feed_forward.dense_2"),
        )
        for kind in ("weight", "bias")
    ),
]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the logs, and the run `runs/first` as the README makes it."""
    folder = tmp_path_factory.mktemp("pages")
    write_stand_ins(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert run(first_run()) == 0
        assert run("mclrec-fast train --data beauty.txt --max-steps 1 --out runs/seen") == 0
    write_authors_checkpoint(folder, "runs/seen")
    return folder


def first_run() -> str:
    """The README's command that makes `runs/first`."""
    (command,) = (c for c in commands_of("README.md") if c.endswith("--out runs/first"))
    return command


def run(command: str) -> int:
    """Runs an `mclrec-fast` command; returns its exit code."""
    words = shlex.split(command)
    assert words[0] == "mclrec-fast", f"nothing here knows how to run {command!r}"
    if "synthetic" in words:  # the text's size takes half a minute
        words = [w.replace("users=2000", "users=60").replace("items=1000", "items=30")
                 for w in words]  # fmt: skip
        assert "synthetic_users=60" in words and "synthetic_items=30" in words
    return commands.main([*words[1:], *(["--threads", "1"] if words[1] == "train" else [])])


@pytest.mark.parametrize(
    "page", [p for p in PAGES if any(b[0] in ("sh", "python") for b in blocks(p))]
)
def test_commands_and_snippets_run_as_printed(
    page: str,
    prepared: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if any("import pandas" in block for _, block in blocks(page)):
        pytest.importorskip("pandas")
    if any("export" in command for command in commands_of(page)):
        for library in ("onnx", "onnxscript", "onnxruntime", "faiss"):
            pytest.importorskip(library)
    shutil.copytree(prepared, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    printed = ""
    for language, block in blocks(page):
        if language == "python":
            capsys.readouterr()
            exec(compile(block, page, "exec"), {"__name__": page})
            printed = capsys.readouterr().out
        elif language == "text" and printed:  # what the snippet above prints, but for its scores
            shown = [re.sub(r"-?\d\.\d{6}", "", line).split() for line in block.splitlines()]
            said = [re.sub(r"-?\d\.\d{6}", "", line).split() for line in printed.splitlines()]
            assert shown == said[-len(shown) :]
        elif language == "sh":
            for command in commands_in(block):
                if why_not_run(command) is None and command != first_run():  # that has been
                    assert run(command) == 0, command


def command_lines() -> list[str]:
    """Every command that is not run."""
    return sorted({c for page in PAGES for c in commands_of(page) if why_not_run(c)})


@pytest.mark.parametrize("command", command_lines())
def test_what_is_not_run_is_at_least_understood(
    command: str, prepared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(prepared)
    words = shlex.split(command)
    if words[0] == "torchrun":
        first = words.index("mclrec_fast.train")
        words = ["mclrec-fast", "train", *words[first + 1 :]]
    if words[0] == "mclrec-fast":
        from mclrec_fast.commands import cli

        module = importlib.import_module(f"mclrec_fast.commands.{words[1].replace('-', '_')}")
        cli.collect(module.parser().parse(words[2:]))
    elif words[:2] == ["python", "-m"] and words[2] != "pytest":
        module = importlib.import_module(words[2])
        source = Path(str(module.__file__)).read_text(encoding="utf-8")
        for option in (w for w in words[3:] if w.startswith("--")):
            assert f'"{option}"' in source or words[2] == "benchmarks.train_step", option
    elif words[0] == "python":
        assert words[1] == "-m" or (ROOT / words[1]).is_file()
    elif words[:2] == ["pip", "install"]:
        extras = re.findall(r"\[(\w+)\]", command)
        text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
        assert all(re.search(rf"^{extra} = \[", text, re.M) for extra in extras)
    else:
        assert words[0] == "pytest"


# Links and paths.


def anchors(page: Path) -> set[str]:
    """GitHub's names of a page's headings."""
    heads = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith(("http://", "https://")):
            continue
        path, _, anchor = target.partition("#")
        there = (ROOT / page).parent / path if path else ROOT / page
        assert there.exists(), f"{page}: {target}"
        if anchor:
            assert anchor in anchors(there), f"{page}: {target}"


PATH = re.compile(r"(?:mclrec_fast|csrc|tests|benchmarks|docs|\.ci)/[\w./<>*-]*[\w>]")


@pytest.mark.parametrize("page", [p for p in PAGES if p != "CHANGELOG.md"])
def test_paths_that_the_pages_name_exist(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    for path in sorted(set(PATH.findall(text))):
        shown = path.partition("<")[0].rpartition("/")[0] if "<" in path else path
        assert (ROOT / shown).exists(), f"{page}: {path}"


@pytest.mark.parametrize("page", ["docs/method.md"])
def test_functions_that_the_method_names_exist(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    pairs = re.findall(r"`([\w.]+)` in `(mclrec_fast/[\w/]+)\.py`", text)
    assert len(pairs) > 8
    for name, path in pairs:
        found: object = importlib.import_module(path.replace("/", "."))
        for part in name.split("."):
            found = getattr(found, part)


# Pages and pictures that are made.


def script(path: str) -> ModuleType:
    """A script of the repository as a module."""
    spec = importlib.util.spec_from_file_location(Path(path).stem, ROOT / path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_configuration_page_is_that_of_the_dataclasses() -> None:
    page = (ROOT / "docs/configuration.md").read_text(encoding="utf-8")
    assert script("docs/make_configuration.py").page() == page, "python docs/make_configuration.py"


def test_the_picture_shows_the_figures_of_the_readme() -> None:
    from html import unescape

    picture = script("benchmarks/picture.py")
    figures = picture.bars((ROOT / "README.md").read_text(encoding="utf-8"))
    assert all(len(of) > 2 for of in figures.values())
    drawn = unescape((ROOT / "docs/plots/first_look.svg").read_text(encoding="utf-8"))
    assert picture.as_text(figures) in drawn, "python -m benchmarks.picture"


def test_the_runs_page_names_every_file_of_a_run(prepared: Path) -> None:
    page = (ROOT / "docs/runs.md").read_text(encoding="utf-8")
    made = {path.name for path in (prepared / "runs/first").iterdir()}
    table = set(re.findall(r"`([\w.]+)`", "".join(re.findall(r"^\| (.*?) \|", page, re.M))))
    assert made == table

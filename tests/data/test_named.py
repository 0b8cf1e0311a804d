"""Named data sets: fetched once, checked, atomic; tested against a server on this machine."""

import io
import os
import sys
import threading
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from mclrec_fast.data import DATASETS, Dataset, named, recommended_settings
from mclrec_fast.errors import InputError
from tests.small_runs import write_log

TEXT = b"".join(b"%d %d %d %d %d\n" % (u, u % 7 + 1, u % 5 + 8, 3, 20) for u in range(1, 30))
RATINGS = b"".join(b"%d\t%d\t%d\t%d\n" % (n % 9 + 1, n % 31, n % 5 + 1, 900 - n) for n in range(90))


class Server(ThreadingHTTPServer):
    """Serves `files` by path and counts requests; `cut` sends only half of what it promises."""

    files: dict[str, bytes]
    requests: list[str]
    cut: bool

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        server = self.server
        assert isinstance(server, Server)
        server.requests.append(self.path)
        content = server.files.get(self.path)
        if content is None:
            return self.send_error(404)
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: len(content) // 2] if server.cut else content)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Server]:
    server = Server(("127.0.0.1", 0), Handler)
    server.files, server.requests, server.cut = {}, [], False
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    monkeypatch.setenv("MCLREC_FAST_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("MCLREC_FAST_GROUPLENS", server.base)
    monkeypatch.setenv("MCLREC_FAST_AUTHORS", server.base)
    for proxy in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(proxy, raising=False)
    # The second source of ml-100k is pip; here it finds nothing and reaches nothing.
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def pretend(monkeypatch: pytest.MonkeyPatch, name: str, content: bytes) -> None:
    """Expect another content of a named data set, so that a small one will do."""
    entry = replace(DATASETS[name], sha256=sha256(content).hexdigest())
    monkeypatch.setitem(DATASETS, name, entry)


def cached(tmp_path: Path) -> list[str]:
    return sorted(p.name for p in (tmp_path / "cache").rglob("*") if p.is_file())


def zip_of(content: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("ml-100k/u.data", content)
    return buffer.getvalue()


def test_a_text_data_set_is_fetched_once(
    server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pretend(monkeypatch, "beauty", TEXT)
    server.files["/Amazon_Beauty/Amazon_Beauty.txt"] = TEXT
    first, again = Dataset.named("beauty"), Dataset.named("Beauty")
    assert server.requests == ["/Amazon_Beauty/Amazon_Beauty.txt"]
    assert cached(tmp_path) == ["beauty.txt"]
    assert first.log.sha256 == again.log.sha256 == sha256(TEXT).hexdigest()
    assert first.name == "beauty" and first.card.users == 29
    assert first.recommended == recommended_settings("beauty")
    assert "not for redistribution" in first.card.render()


def test_a_download_reports_its_bytes(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    server.files["/x"] = bytes(200_000)
    asked: list[tuple[str, int, int, int]] = []

    @contextmanager
    def reported(what: str, total: int, done: Callable[[], int]) -> Iterator[None]:
        before = done()
        yield
        asked.append((what, total, before, done()))

    monkeypatch.setattr(named, "reported", reported)
    assert named.download(f"{server.base}/x") == bytes(200_000)
    assert asked == [(f"fetching {server.base}/x", 200_000, 0, 200_000)]


def test_the_rows_of_an_inter_file_give_the_same_text(
    server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pretend(monkeypatch, "yelp", TEXT)
    rows = [b"user_id:token\titem_id:token\n"]
    for line in TEXT.splitlines():
        user, *items = line.split()
        rows += [user + b"\t" + item + b"\n" for item in items]
    server.files["/Yelp/Yelp.inter"] = b"".join(rows)
    assert Dataset.named("yelp").log.sha256 == sha256(TEXT).hexdigest()
    assert server.requests == ["/Yelp/Yelp.txt", "/Yelp/Yelp.inter"]


def test_movielens_comes_out_of_its_zip(
    server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pretend(monkeypatch, "ml-100k", RATINGS)
    server.files["/ml-100k.zip"] = zip_of(RATINGS)
    data = Dataset.named("ml-100k", min_rating=2.0)
    assert cached(tmp_path) == ["u.data"]
    assert data.card.removed["rating"] == 18
    assert data.log.times is not None and (data.log.times[1:3] >= data.log.times[0]).all()
    assert "no redistribution" in data.card.render()


def test_a_wrong_checksum_is_refused_and_nothing_is_kept(
    server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pretend(monkeypatch, "toys", TEXT)
    server.files["/Amazon_Toys_and_Games/Amazon_Toys_and_Games.txt"] = TEXT + b"30 1 2 3\n"
    with pytest.raises(InputError, match=r"SHA-256 .* expected "):
        Dataset.named("toys")
    assert cached(tmp_path) == []


def test_a_download_that_breaks_off_leaves_nothing(
    server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pretend(monkeypatch, "beauty", TEXT)
    server.files["/Amazon_Beauty/Amazon_Beauty.txt"] = TEXT
    server.cut = True
    with pytest.raises(InputError, match="could not be fetched"):
        Dataset.named("beauty")
    assert cached(tmp_path) == []


def test_offline_says_what_is_missing_and_names_the_way_out(server: Server, tmp_path: Path) -> None:
    with pytest.raises(InputError) as error:
        Dataset.named("ml-100k")
    text = str(error.value)
    assert "/ml-100k.zip: status 404" in text
    assert "pip download recbole==1.2.1" in text
    assert "--dataset synthetic" in text and "--data FILE" in text
    assert str(tmp_path / "cache" / "ml-100k" / "u.data") in text


def test_no_answer_at_all(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MCLREC_FAST_CACHE", str(tmp_path))
    monkeypatch.setenv("MCLREC_FAST_AUTHORS", "http://127.0.0.1:1")
    with pytest.raises(InputError, match="refused"):
        Dataset.named("sports")


def test_a_damaged_file_in_the_cache_is_refused(
    server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "cache" / "beauty" / "beauty.txt"
    path.parent.mkdir(parents=True)
    path.write_bytes(TEXT)
    with pytest.raises(InputError, match=r"beauty\.txt: SHA-256 .* delete it"):
        Dataset.named("beauty")
    assert server.requests == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_cache_that_cannot_be_written(
    server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pretend(monkeypatch, "beauty", TEXT)
    server.files["/Amazon_Beauty/Amazon_Beauty.txt"] = TEXT
    (tmp_path / "cache").mkdir(mode=0o500)
    with pytest.raises(InputError, match="MCLREC_FAST_CACHE"):
        Dataset.named("beauty")


def test_a_cache_that_is_a_file(
    server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pretend(monkeypatch, "beauty", TEXT)
    server.files["/Amazon_Beauty/Amazon_Beauty.txt"] = TEXT
    (tmp_path / "cache").write_text("not a folder")
    with pytest.raises(InputError, match="MCLREC_FAST_CACHE"):
        Dataset.named("beauty")


def fake_wheel(path: Path, content: bytes) -> None:
    """A wheel that pip accepts, with a log in the place where recbole keeps its copy."""
    info = "recbole-1.2.1.dist-info"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr("recbole/dataset_example/ml-100k/ml-100k.inter", content)
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: recbole\nVersion: 1.2.1\n")
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{info}/RECORD", "")


def test_the_copy_in_the_recbole_wheel(
    server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pytest.importorskip("pip")
    pretend(monkeypatch, "ml-100k", RATINGS)
    links = tmp_path / "links"
    links.mkdir()
    header = b"user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
    fake_wheel(links / "recbole-1.2.1-py3-none-any.whl", header + RATINGS)
    monkeypatch.setenv("PIP_FIND_LINKS", str(links))
    assert Dataset.named("ml-100k").log.sha256 == sha256(RATINGS).hexdigest()
    assert server.requests == ["/ml-100k.zip"]


def test_a_python_without_pip(
    server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "no-python"))
    with pytest.raises(InputError, match=r"pip download recbole==1\.2\.1: "):
        Dataset.named("ml-100k")


def test_unknown_name() -> None:
    with pytest.raises(InputError, match="did you mean 'beauty'"):
        Dataset.named("beuty")


def test_recommended_settings() -> None:
    rows = {name: recommended_settings(name) for name in DATASETS}
    assert rows["sports"]["lambda"] == 0.04 and rows["sports"]["beta"] == 0.4
    assert rows["yelp"] == {
        "lambda": 0.03,
        "beta": 0.1,
        "hidden_dropout": 0.5,
        "attention_dropout": 0.5,
    }
    assert rows["ml-100k"]["beta"] == 0.01 and rows["ml-100k"]["layers"] == 1
    assert rows["synthetic"] == {}


def test_clearing_the_cache(
    server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pretend(monkeypatch, "beauty", TEXT)
    server.files["/Amazon_Beauty/Amazon_Beauty.txt"] = TEXT
    Dataset.named("beauty")
    named.clear("beauty")
    assert cached(tmp_path) == []


def test_a_file_that_is_a_named_data_set_says_whose_settings_are_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = write_log(tmp_path / "log.txt")
    assert not any("data set" in note for note in Dataset.from_file(log).card.notes)
    digest = Dataset.from_file(log).card.sha256
    monkeypatch.setitem(DATASETS, "sports", replace(DATASETS["sports"], sha256=digest))
    (note,) = Dataset.from_file(log).card.notes
    assert "--dataset sports" in note and "lambda=0.04, beta=0.4" in note

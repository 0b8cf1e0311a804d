"""Named data sets: where they come from, how they are checked, where they are kept.

A file is fetched once into the cache (MCLREC_FAST_CACHE, else ~/.cache/mclrec_fast), written to a
temporary name, checked against its SHA-256 and only then renamed. Nothing here is shipped with the
package; each data set has its owner's terms, which are shown.
"""

import difflib
import os
import shutil
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from .._files import write_atomically
from ..bars import reported
from ..errors import InputError

GROUPLENS = "https://files.grouplens.org/datasets/movielens"
AUTHORS = "https://raw.githubusercontent.com/QinHsiu/MCLRec/HEAD/dataset"
RECBOLE = "recbole==1.2.1"
_RECBOLE_MEMBER = "recbole/dataset_example/ml-100k/ml-100k.inter"
_RECBOLE_HEADER = b"user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
_MAX_BYTES = 256 << 20
_TIMEOUT = 30.0
_CACHE_REMEDY = "set MCLREC_FAST_CACHE to a folder that can be written"
_BLOCK = 1 << 16

_AMAZON = (
    "Amazon reviews, 5-core (McAuley et al. 2015; He and McAuley 2016), as published with the "
    "authors' code of MCLRec; for research, not for redistribution"
)


class FetchError(Exception):
    """One source could not deliver; another may."""


@dataclass(frozen=True)
class NamedDataset:
    """One entry of the list.

    Attributes:
        name: what --dataset takes.
        file: its name in the cache.
        format: how that file is read.
        sha256: of that file.
        notice: where it comes from and its terms.
        recommended: settings for this data set by configuration key.
        sources: ways to get the bytes, tried in order.
    """

    name: str
    file: str
    format: str
    sha256: str
    notice: str
    recommended: Mapping[str, float] = field(default_factory=dict)
    sources: tuple[Callable[[], bytes], ...] = ()


def cache_dir() -> Path:
    """Where fetched files are kept.

    Raises:
        InputError: this user has no home directory, as in some containers.
    """
    given = os.environ.get("MCLREC_FAST_CACHE")
    try:
        return Path(given or "~/.cache/mclrec_fast").expanduser()
    except RuntimeError:
        raise InputError(
            f"{given or 'the cache of data sets'}: no home directory here; {_CACHE_REMEDY}"
        ) from None


def download(url: str) -> bytes:
    """The bytes at an address.

    Raises:
        FetchError: no answer, an error status, or far too much.
    """
    try:
        request = urllib.request.Request(url, headers={"User-Agent": "mclrec_fast"})
        with urllib.request.urlopen(request, timeout=_TIMEOUT) as response:
            expected = response.headers.get("Content-Length")
            total = int(expected) if expected is not None and expected.isdigit() else 0
            content = bytearray()
            with reported(f"fetching {url}", total, lambda: len(content)):
                while len(content) <= _MAX_BYTES and (block := response.read(_BLOCK)):
                    content += block
    except urllib.error.HTTPError as error:
        raise FetchError(f"{url}: status {error.code}") from None
    except (OSError, ValueError, EOFError) as error:
        reason = getattr(error, "reason", None) or error
        raise FetchError(f"{url}: {reason}") from None
    except Exception as error:  # http.client raises its own kinds for a broken answer
        raise FetchError(f"{url}: {type(error).__name__}") from None
    if len(content) > _MAX_BYTES:
        raise FetchError(f"{url}: more than {_MAX_BYTES >> 20} MB")
    if total and total != len(content):
        raise FetchError(f"{url}: broke off after {len(content)} of {total} bytes")
    return bytes(content)


def _member(archive: bytes, name: str, where: str) -> bytes:
    import io

    try:
        with zipfile.ZipFile(io.BytesIO(archive)) as file:
            return file.read(name)
    except (zipfile.BadZipFile, KeyError, OSError, ValueError) as error:
        raise FetchError(f"{where}: no {name} in it ({error})") from None


def _movielens_from_grouplens() -> bytes:
    base = os.environ.get("MCLREC_FAST_GROUPLENS") or GROUPLENS
    url = f"{base}/ml-100k.zip"
    return _member(download(url), "ml-100k/u.data", url)


def _movielens_from_recbole() -> bytes:
    """The copy inside the recbole wheel: u.data with a header line in front of it."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    try:
        temporary = tempfile.TemporaryDirectory(prefix="mclrec_fast_")
    except OSError as error:
        raise FetchError(f"no folder for temporary files: {error.strerror}") from None
    with temporary as folder:
        try:
            done = subprocess.run(
                [*command, "--only-binary", ":all:", "--dest", folder, RECBOLE],
                capture_output=True,
                text=True,
                timeout=300,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise FetchError(f"pip download {RECBOLE}: {error}") from None
        wheels = sorted(Path(folder).glob("*.whl"))
        if done.returncode or not wheels:
            lines = [line for line in done.stderr.strip().splitlines() if "WARNING" not in line]
            raise FetchError(f"pip download {RECBOLE}: {lines[-1] if lines else 'no wheel'}")
        content = _member(wheels[0].read_bytes(), _RECBOLE_MEMBER, wheels[0].name)
    if not content.startswith(_RECBOLE_HEADER):
        raise FetchError(f"{RECBOLE}: {_RECBOLE_MEMBER} has an unexpected header")
    return content[len(_RECBOLE_HEADER) :]


def _authors_text(folder: str) -> Callable[[], bytes]:
    def fetch() -> bytes:
        base = os.environ.get("MCLREC_FAST_AUTHORS") or AUTHORS
        return download(f"{base}/{folder}/{folder}.txt")

    return fetch


def _authors_inter(folder: str) -> Callable[[], bytes]:
    """The same log with one row per interaction, put back into one line per user."""

    def fetch() -> bytes:
        base = os.environ.get("MCLREC_FAST_AUTHORS") or AUTHORS
        url = f"{base}/{folder}/{folder}.inter"
        rows = download(url).split(b"\n")[1:]
        lines: dict[bytes, list[bytes]] = {}
        for row in rows:
            user, tab, item = row.partition(b"\t")
            if tab:
                lines.setdefault(user, [user]).append(item)
        if not lines:
            raise FetchError(f"{url}: no rows in it")
        return b"".join(b" ".join(line) + b"\n" for line in lines.values())

    return fetch


def _text(name: str, folder: str, digest: str, notice: str, *row: float) -> NamedDataset:
    lambda_, beta, dropout = row
    settings = {
        "lambda": lambda_,
        "beta": beta,
        "hidden_dropout": dropout,
        "attention_dropout": dropout,
    }
    sources = (_authors_text(folder), _authors_inter(folder))
    return NamedDataset(name, f"{name}.txt", "text", digest, notice, settings, sources)


DATASETS: dict[str, NamedDataset] = {
    entry.name: entry
    for entry in (
        NamedDataset(
            "ml-100k",
            "u.data",
            "movielens",
            "06416e597f82b7342361e41163890c81036900f418ad91315590814211dca490",
            "MovieLens 100K, GroupLens Research, University of Minnesota: free for research, no "
            "commercial use and no redistribution without permission; cite Harper and Konstan "
            "(2015), doi 10.1145/2827872",
            # ML-1M's losses; one layer and six epochs, so that a first run takes minutes.
            {
                "lambda": 0.0,
                "beta": 0.01,
                "hidden_dropout": 0.2,
                "attention_dropout": 0.2,
                "layers": 1,
                "epochs": 6,
            },
            (_movielens_from_grouplens, _movielens_from_recbole),
        ),
        _text(
            "beauty",
            "Amazon_Beauty",
            "226cce9c3105299ca0db9615d7d3fb32b3175e90da43100ae352599f0f0107b8",
            _AMAZON,
            *(0.0, 0.05, 0.5),
        ),
        _text(
            "sports",
            "Amazon_Sports_and_Outdoors",
            "2a095e0648872beb9982408958290f5d655db5be2911c3756b5446de9f0b8de2",
            _AMAZON,
            *(0.04, 0.4, 0.5),
        ),
        _text(
            "toys",
            "Amazon_Toys_and_Games",
            "176c680c688d497598c4a89a03b402c0fe78d795e5db335c2e78dd5f2d778a3f",
            _AMAZON,
            *(0.01, 0.1, 0.5),
        ),
        _text(
            "yelp",
            "Yelp",
            "724b219106b81dd2349027da997334ddb6da9fe2f152ad6e0d97a93170f7caed",
            "Yelp reviews, 5-core, as published with the authors' code of MCLRec; under the terms "
            "of the Yelp data set, for research, not for redistribution",
            *(0.03, 0.1, 0.5),
        ),
        NamedDataset(
            "synthetic",
            "",
            "generated",
            "",
            "generated, not real: its shape is Amazon Beauty's, its structure is invented",
        ),
    )
}


def find(name: str) -> NamedDataset:
    """The entry of a name.

    Raises:
        InputError: there is no such data set.
    """
    entry = DATASETS.get(name.lower())
    if entry is None:
        close = difflib.get_close_matches(name.lower(), DATASETS, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise InputError(
            f"unknown data set {name!r}, expected one of {', '.join(DATASETS)}{hint} "
            "(a file of your own: --data FILE)"
        )
    return entry


def recommended_settings(name: str) -> dict[str, float]:
    """The settings for a named data set, by configuration key."""
    return dict(find(name).recommended)


def settings_beside(digest: str) -> tuple[str, ...]:
    """What to say of a file that is a named data set's: reading it as a file brings no settings."""
    return tuple(
        f"this is the file of the data set {entry.name}: --dataset {entry.name} also brings its "
        f"settings ({', '.join(f'{key}={value:g}' for key, value in entry.recommended.items())})"
        for entry in DATASETS.values()
        if entry.sha256 == digest and entry.recommended
    )


def check_digest(entry: NamedDataset, path: Path, digest: str) -> None:
    """Refuse a cached file that is not what it should be."""
    if digest != entry.sha256:
        raise InputError(
            f"{path}: SHA-256 is {digest}, expected {entry.sha256}; the file is damaged or another "
            "version: delete it and it is fetched again"
        )


def fetch(entry: NamedDataset) -> Path:
    """The path of a named data set's file, fetched now if it is not in the cache.

    Raises:
        InputError: no source delivers it, what came has another checksum, or the cache cannot be
            read or written.
    """
    path = cache_dir() / entry.name / entry.file
    try:
        if path.is_file():
            return path
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); {_CACHE_REMEDY}") from None
    failures = []
    for source in entry.sources:
        try:
            content = source()
        except FetchError as error:
            failures.append(str(error))
            continue
        digest = sha256(content).hexdigest()
        if digest != entry.sha256:
            failures.append(f"what came has SHA-256 {digest}, expected {entry.sha256}")
            continue
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, content)
        except OSError as error:
            raise InputError(
                f"{path}: cannot be written ({error.strerror}); {_CACHE_REMEDY}"
            ) from None
        return path
    raise InputError(
        f"data set {entry.name!r} could not be fetched:\n"
        + "".join(f"  {failure}\n" for failure in failures)
        + f"Put the file at {path} yourself, use a file of your own with --data FILE, or work "
        "without a network with --dataset synthetic."
    )


def clear(name: str) -> None:
    """Forget the cached files of a named data set."""
    shutil.rmtree(cache_dir() / find(name).name, ignore_errors=True)

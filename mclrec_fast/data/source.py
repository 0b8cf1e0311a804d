"""Where the bytes of a log come from: a plain file, a compressed one, standard input, a named pipe.

Nothing here knows what the bytes mean. A plain file may be read anywhere and by many threads; the
other sources are streams, read once, decompressed block by block and never held whole.
"""

import bz2
import codecs
import difflib
import hashlib
import importlib
import lzma
import os
import stat
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from .. import bars
from ..errors import InputError
from .kinds import refuse_binary

STDIN = "-"
BOM = b"\xef\xbb\xbf"
_RAW_BLOCK = 1 << 18
_BLOCK = 1 << 20
HEAD_BYTES = 1 << 16  # bytes looked at, more where the first lines are longer
_MAX_HEAD = 1 << 28
_ZSTD_REMEDY = 'pip install pyarrow (or "mclrec_fast[parquet]"), or unpack the file first'
SUFFIXES = {".gz": "gzip", ".bz2": "bzip2", ".xz": "xz", ".zst": "zstd", ".zstd": "zstd"}
_MAGIC = (
    (b"\x1f\x8b", "gzip"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ\0", "xz"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
)


def open_check(path: Path) -> int:
    """The size of a readable, regular, non-empty file.

    Raises:
        InputError: the file is missing, a folder, unreadable or empty.
    """
    status = _status(path)
    if stat.S_ISDIR(status.st_mode):
        raise InputError(f"{path}: a folder, expected a file")
    if not stat.S_ISREG(status.st_mode):
        raise InputError(f"{path}: not a regular file; write it to disk first")
    if not os.access(path, os.R_OK):
        raise InputError(f"{path}: no permission to read it")
    if status.st_size == 0:
        raise InputError(f"{path}: the file is empty, expected interactions")
    return status.st_size


def _status(path: Path) -> os.stat_result:
    try:
        return path.stat()
    except FileNotFoundError:
        raise InputError(f"{path}: no such file{_near_miss(path)}") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{str(path)[:200]!r}: cannot be read ({reason})") from None


def _near_miss(path: Path) -> str:
    try:
        names = [entry.name for entry, _ in zip(path.parent.iterdir(), range(1000), strict=False)]
    except OSError:
        return ""
    close = difflib.get_close_matches(path.name, names, n=1)
    return f"; did you mean {path.parent / close[0]}?" if close else ""


def is_stream(path: Path) -> bool:
    """Whether a path is a pipe that someone else fills (`<(command)`, mkfifo)."""
    return stat.S_ISFIFO(_status(path).st_mode)


class _Inflate:
    """gzip, member after member."""

    def __init__(self) -> None:
        self._inflater = zlib.decompressobj(wbits=31)
        self._finished = False

    def feed(self, raw: bytes) -> Iterator[bytes]:
        while raw:
            if self._finished:
                raw = raw.lstrip(b"\0")  # padding after a member
                if not raw:
                    return
                self._inflater, self._finished = zlib.decompressobj(wbits=31), False
            yield self._inflater.decompress(raw, _BLOCK)
            if self._inflater.eof:
                self._finished, raw = True, self._inflater.unused_data
            else:
                raw = self._inflater.unconsumed_tail
        while not self._finished:
            more = self._inflater.decompress(b"", _BLOCK)
            if not more:
                return
            yield more
            self._finished = self._inflater.eof

    def complete(self) -> bool:
        return self._finished


class _ByBlocks:
    """bzip2 or xz, stream after stream."""

    def __init__(self, new: Callable[[], bz2.BZ2Decompressor | lzma.LZMADecompressor]) -> None:
        self._new = new
        self._decompressor = new()

    def feed(self, raw: bytes) -> Iterator[bytes]:
        while raw or not (self._decompressor.needs_input or self._decompressor.eof):
            if self._decompressor.eof:
                if not raw.strip(b"\0"):  # padding after a stream
                    return
                self._decompressor = self._new()
            yield self._decompressor.decompress(raw, _BLOCK)
            raw = self._decompressor.unused_data if self._decompressor.eof else b""

    def complete(self) -> bool:
        return self._decompressor.eof


def _feed(raw: Iterator[bytes], decompressor: _Inflate | _ByBlocks) -> Iterator[bytes]:
    for block in raw:
        yield from decompressor.feed(block)
    if not decompressor.complete():
        raise EOFError("it ends in the middle")


class _Raw:
    """Blocks as a file object, for decompressors that pull."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self._blocks, self._rest = blocks, b""
        self.closed = False

    def readable(self) -> bool:
        return True

    def close(self) -> None:
        self.closed = True

    def read(self, size: int = -1) -> bytes:
        while size < 0 or len(self._rest) < size:
            block = next(self._blocks, None)
            if block is None:
                break
            self._rest += block
        taken = self._rest if size < 0 else self._rest[:size]
        self._rest = self._rest[len(taken) :]
        return taken


def _unzstd(raw: Iterator[bytes], name: str) -> Iterator[bytes]:
    """zstd, by the first library that is there."""
    for module, open_stream in _ZSTD:
        try:
            library = importlib.import_module(module)
        except ImportError:
            continue
        stream = open_stream(library, _Raw(raw))
        while block := stream.read(_BLOCK):
            yield bytes(block)
        return
    raise InputError(f"{name}: zstd-compressed, and nothing here can unpack it: {_ZSTD_REMEDY}")


_ZSTD: tuple[tuple[str, Callable[[Any, _Raw], Any]], ...] = (
    ("compression.zstd", lambda library, raw: library.ZstdFile(raw)),
    (
        "zstandard",
        lambda library, raw: library.ZstdDecompressor().stream_reader(raw, read_across_frames=True),
    ),
    (
        "pyarrow",
        lambda library, raw: library.CompressedInputStream(
            library.PythonFile(raw, mode="r"), "zstd"
        ),
    ),
)


def _from_utf16(blocks: Iterator[bytes]) -> Iterator[bytes]:
    decoder = codecs.getincrementaldecoder("utf-16")()
    for block in blocks:
        yield decoder.decode(block).encode("utf-8")
    yield decoder.decode(b"", final=True).encode("utf-8")


class Source:
    """The bytes of one log, from the beginning, once.

    Attributes:
        name: what messages call it.
        path: where it lies; None for standard input.
        compression: "", "gzip", "bzip2", "xz" or "zstd".
        plain: a regular file that is UTF-8 or binary as it lies: it may be read by its path.
        size: bytes as it lies; None where that is not known before the end.
        came: bytes read so far, as they lie.
        format_name: the name that tells the format, without the suffix of a compression.
    """

    def __init__(self, path: Path | str) -> None:
        """Look at the first bytes of a file, a pipe or ("-") standard input.

        Raises:
            InputError: it is missing, unreadable, empty, or of a kind that cannot be read.
        """
        self._digest = hashlib.sha256()
        self.came = 0
        self._taken: list[bytes] = []
        self._head = b""
        if str(path) == STDIN:
            self.name, self.path, regular = "standard input", None, False
        else:
            self.path = Path(path)
            self.name, regular = str(path), not is_stream(self.path)
        self.size = open_check(self.path) if regular and self.path is not None else None
        raw = self._read_raw()
        first = next(raw, b"")
        while len(first) < 8 and (more := next(raw, b"")):
            first += more
        if not first:
            raise InputError(f"{self.name}: nothing came, expected interactions")
        refuse_binary(self.name, first, "" if self.path is None else self.path.suffix)
        self.compression = next((kind for magic, kind in _MAGIC if first.startswith(magic)), "")
        utf16 = first.startswith((b"\xff\xfe", b"\xfe\xff"))
        self.plain = regular and not self.compression and not utf16
        self._blocks = self._guard(self._decoded(self._chain(first, raw), utf16))

    @property
    def format_name(self) -> str:
        """The file's name without the suffix of a compression."""
        if self.path is None:
            return "stdin"
        name = self.path.name
        suffix = self.path.suffix.lower()
        known = self.compression and SUFFIXES.get(suffix) == self.compression
        return name[: -len(suffix)] if known else name

    def _read_raw(self) -> Iterator[bytes]:
        """The bytes as they lie or come, their digest taken on the way."""
        if self.path is None:
            if sys.stdin is None:
                raise InputError("--data -: there is no standard input here")
            with open(sys.stdin.fileno(), "rb", buffering=0, closefd=False) as file:
                yield from self._hashed(file)
            return
        try:
            with self.path.open("rb", buffering=0) as file:
                yield from self._hashed(file)
        except OSError as error:
            raise InputError(f"{self.name}: cannot be read ({error.strerror})") from None

    def _hashed(self, file: Any) -> Iterator[bytes]:
        while block := file.read(_RAW_BLOCK):
            self._digest.update(block)
            self.came += len(block)
            yield block

    @staticmethod
    def _chain(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
        yield first
        yield from rest

    def _decoded(self, raw: Iterator[bytes], utf16: bool) -> Iterator[bytes]:
        if self.compression == "gzip":
            return _feed(raw, _Inflate())
        if self.compression == "bzip2":
            return _feed(raw, _ByBlocks(bz2.BZ2Decompressor))
        if self.compression == "xz":
            return _feed(raw, _ByBlocks(lambda: lzma.LZMADecompressor(memlimit=_MAX_HEAD)))
        if self.compression == "zstd":
            return _unzstd(raw, self.name)
        return _from_utf16(raw) if utf16 else raw

    def _guard(self, blocks: Iterator[bytes]) -> Iterator[bytes]:
        """What a damaged stream raises, as one error."""
        came = 0
        try:
            for block in blocks:
                came += len(block)
                yield block
        except UnicodeDecodeError as error:
            raise InputError(f"{self.name}: damaged UTF-16 text ({error.reason})") from None
        except (zlib.error, lzma.LZMAError, EOFError, OSError, ValueError) as error:
            raise InputError(
                f"{self.name}: damaged {self.compression or 'input'} after {came} bytes of text "
                f"({error}); fetch it or compress it again"
            ) from None

    def head(self) -> bytes:
        """The first lines: 64 KiB at least where there are so many, and one whole line.

        Raises:
            InputError: the first line has more than 256 MiB, or a compressed file is damaged.
        """
        if self._head:
            return self._head
        size, newline = 0, False
        while size < HEAD_BYTES or not newline:
            block = next(self._blocks, None)
            if block is None:
                break
            self._taken.append(block)
            size += len(block)
            newline = newline or b"\n" in block
            if size > _MAX_HEAD:
                raise InputError(
                    f"{self.name}:1: no end of line in {_MAX_HEAD >> 20} MiB, expected a table"
                )
        self._head = b"".join(self._taken)
        self._taken = [self._head]
        return self._head

    def blocks(self, offset: int = 0) -> Iterator[bytes]:
        """All of the bytes from `offset` on, decompressed; only once."""
        skip = offset
        while self._taken:
            block = self._taken.pop(0)
            if skip < len(block):
                yield block[skip:] if skip else block
            skip = max(skip - len(block), 0)
        for block in self._blocks:
            if skip < len(block):
                yield block[skip:] if skip else block
            skip = max(skip - len(block), 0)

    def reported(self) -> AbstractContextManager[None]:
        """While entered, what was taken of the file can be watched; nobody knows a pipe's size."""
        return bars.reported(f"reading {self.name}", self.size or 0, lambda: self.came)

    def digest(self) -> str:
        """SHA-256 of all that was read, as it lay; the rest is read for it."""
        for _ in self._blocks:
            pass
        return self._digest.hexdigest()


class Piece(Source):
    """Some whole lines of a source, to be read as a source of their own."""

    def __init__(self, name: str, text: bytes) -> None:
        """`name` is what messages call it."""
        self.name, self.path, self.compression, self.plain = name, None, "", False
        self._text = text

    def blocks(self, offset: int = 0) -> Iterator[bytes]:
        """All of it from `offset` on."""
        yield self._text[offset:]

    def reported(self) -> AbstractContextManager[None]:
        """Nothing: who cuts the pieces says how far that is."""
        return nullcontext()

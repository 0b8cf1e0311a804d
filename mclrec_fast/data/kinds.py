"""Files that are no log as they are: known by their first bytes, and what to do with each.

Nothing is unpacked or converted here; compressed files are source.py's.
"""

import re

from ..errors import InputError

_FRAME = "read it in Python and give the frame to Dataset.from_frame, or save it as CSV or parquet"
_UNPACK = "unpack it first"
_ZIPS = {
    ".xlsx": ("an Excel workbook", "save it as CSV (UTF-8)"),
    ".xlsm": ("an Excel workbook", "save it as CSV (UTF-8)"),
    ".ods": ("a spreadsheet", "save it as CSV (UTF-8)"),
    ".npz": ("arrays of numpy", "Dataset.from_frame(np.load(FILE)) takes arrays by name"),
}
_BINARY = (
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", _UNPACK),
    (b"Rar!\x1a\x07", "a rar archive", _UNPACK),
    (b"ARROW1", "an Arrow or Feather file", _FRAME),
    (b"FEA1", "a Feather file", _FRAME),
    (b"SQLite format 3\0", "an SQLite database", "export the table as CSV"),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file", _FRAME),
    (
        b"\x93NUMPY",
        "an array of numpy",
        "np.load it and give columns by name to Dataset.from_frame",
    ),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Excel workbook", "save it as CSV (UTF-8)"),
    (b"\x80\x02", "a pickle", _FRAME),
    (b"\x80\x03", "a pickle", _FRAME),
    (b"\x80\x04", "a pickle", _FRAME),
    (b"\x80\x05", "a pickle", _FRAME),
    (b"Obj\x01", "an Avro file", _FRAME),
)
_JSON = re.compile(rb'(?:\xef\xbb\xbf)?\s*(?:\[\s*[{\["]|\{\s*"[^"\n]{0,200}"\s*:|\{\s*\n\s*")')
_HTML = re.compile(rb"(?:\xef\xbb\xbf)?\s*<(?:!doctype|html|\?xml)", re.IGNORECASE)


def refuse_binary(name: str, first: bytes, suffix: str) -> None:
    """Refuse a file by its first bytes as they lie.

    Raises:
        InputError: it is an archive, a workbook, a database or the like.
    """
    if first.startswith(b"PK\x03\x04"):
        what, remedy = _ZIPS.get(suffix.lower(), ("a zip archive", _UNPACK))
        raise InputError(f"{name}: the file is {what}; {remedy}")
    for magic, what, remedy in _BINARY:
        if first.startswith(magic):
            raise InputError(f"{name}: the file is {what}; {remedy}")
    if first.startswith(b"ORC") and b"\0" in first:
        raise InputError(f"{name}: the file is an ORC file; {_FRAME}")


def refuse_other_text(name: str, head: bytes) -> None:
    """Refuse what begins as no table and no list does.

    Raises:
        InputError: it is a tar archive, JSON, a page, or of lines without ends.
    """
    if head[257:262] == b"ustar":
        raise InputError(f"{name}: the file is a tar archive; {_UNPACK}")
    if _JSON.match(head):
        raise InputError(
            f"{name}:1: JSON, expected a table or one line per user; pandas.read_json and "
            "Dataset.from_frame read it, or save it as CSV or parquet"
        )
    if _HTML.match(head):
        raise InputError(f"{name}:1: a page of a web site, expected a log; fetch the file itself")
    if b"\r" in head and b"\n" not in head:
        raise InputError(
            f"{name}:1: a carriage return inside the line, and no other end of a line, expected "
            "lines that end in \\n or \\r\\n; tr '\\r' '\\n' makes them so"
        )
    if head and not head.removeprefix(b"\xef\xbb\xbf").strip():
        raise InputError(f"{name}: nothing but blank lines: no interactions")

"""Random logs through the C++ reader and its numpy twin: the same answer to the bit.

Faster than hypothesis by a hundred times, and without its shrinking: tests/data/test_readers.py
does that for the same readers.
"""

import random
from collections import Counter
from pathlib import Path

from mclrec_fast.data import numpy_reader, reader
from mclrec_fast.data.columns import ColumnNames
from mclrec_fast.data.layout import Layout, find_layout
from mclrec_fast.errors import InputError
from tests.data.test_readers import assert_same

PLAIN = [str(n) for n in (*range(30), 1234567, -5, 10**12)]
IDS = [
    *(
        "-0",
        "00",
        "007",
        "+5",
        "9223372036854775807",
        "9223372036854775808",
        "4194304",
        "é",
        "日本",
    ),
    *("-9223372036854775808", "-9223372036854775809", "1" * 30, "", " ", "a b", " x ", '"q"', "u7"),
    *('"a""b"', '"open', '"q" tail', "x" * 1100, '"a,b"', "a,b", "-", "1e5", "x\r", '"', '" 7 "'),
]
NUMBERS = [
    *(
        "nan",
        "-inf",
        "Infinity",
        "1e400",
        "1e-400",
        "5e-324",
        "1.",
        ".5",
        ".",
        "1e",
        "+1.5",
        "-0.0",
    ),
    *("0x10", "1_000", "1,5", "++1", "9007199254740993", "9223372036854775808", "0.1e-2", "1.5.2"),
    *("1600000000", "1600000000.25", "1600000000123", "", " 12 ", "1" * 400),
]
TIMES = [
    *("2020-09-13", "2020-09-13T21:18:11", "2020-09-13 21:18:11.599 UTC", "20200913T211811Z"),
    *("2020-02-29", "2021-02-29", "2020-13-01", "1677-12-31", "2262-01-01", "2020-09-13T24:00"),
    *("2020-09-13T21:18:11,5+02:00", "2020-9-13", "13.09.2020", "21:18", "NaT", "2020/09/13"),
]
ENDS = ["\n"] * 6 + ["\r\n", "\n\n", "\r"]
NOISE = [b"\x00", b"\xff", b"\xc3", b"\xed\xa0\x80", b"\r", b'"', b"\n", b"\t", b" ", b",", b"::"]
HEADERS = ["user_id", "item_id", "timestamp", "rating", "note", "user_id:token", "item_id:token"]


def random_log(chance: random.Random) -> tuple[str, bytes]:
    """An ending, and the content of a file with it."""
    ending = chance.choice(["txt", "csv", "tsv", "inter", "dat", "log"])
    comma = {"csv": ",", "txt": " ", "dat": "::"}.get(ending, "\t")
    gap = comma if chance.random() < 0.8 else chance.choice([" ", ",", ";", "|", "\t", "::"])
    width = chance.choice([2, 3, 3, 4, 4, 5])
    wild = chance.random() < 0.5
    pools = [PLAIN, PLAIN, *([chance.choice([PLAIN, NUMBERS, TIMES]) for _ in range(width - 2)])]
    pools = [pool + IDS if wild and chance.random() < 0.5 else pool for pool in pools]
    lines = []
    if chance.random() < 0.7:
        lines.append(gap.join(chance.sample(HEADERS, width)) + "\n")
    for _ in range(chance.randrange(12)):
        fields = [chance.choice(pool) for pool in pools]
        if wild and chance.random() < 0.1:
            fields = fields[1:] if chance.random() < 0.5 else [*fields, "more"]
        lines.append(gap.join(fields) + (chance.choice(ENDS) if wild else "\n"))
    content = "".join(lines).encode()
    return ending, spoilt(content, chance) if chance.random() < 0.4 else content


def spoilt(content: bytes, chance: random.Random) -> bytes:
    """The content with something put in, cut out or doubled at a random place."""
    at = chance.randint(0, len(content))
    to = min(len(content), at + chance.randrange(9))
    return content[:at] + chance.choice([b"", content[at:to] * 2, *NOISE]) + content[to:]


def layouts(path: Path, chance: random.Random) -> Layout | None:
    """What is found out about a file, or any layout at all; None where the file is refused."""
    if chance.random() < 0.7:
        try:
            return find_layout(path, "auto", ColumnNames(), chance.random() < 0.2)
        except InputError:
            return None
    width = chance.randint(2, 5)
    columns = chance.sample(range(width), width)
    columns = [*columns[:2], *((columns[2:] + [-1] * 3)[:3])]
    return Layout(
        *("csv", chance.choice(["table", "table", "table", "text"])),
        chance.choice([",", "\t", ";", "::", " "]),
        chance.random() < 0.5,
        tuple(map(str, range(width))),
        *columns[:4],
        then=columns[4],
        time_is_iso=chance.random() < 0.5,
        then_is_iso=chance.random() < 0.5,
    )


def fuzz_readers(folder: Path, number: int, seed: int = 0) -> Counter[str]:
    """That many random logs, through both readers in blocks and threads of any number."""
    counts: Counter[str] = Counter()
    for case in range(seed, seed + number):
        chance = random.Random(case)
        ending, content = random_log(chance)
        path = folder / f"log.{ending}"
        path.write_bytes(content)
        try:
            layout = layouts(path, chance)
            if layout is None:
                counts["refused before reading"] += 1
                continue
            if layout.kind == "text":
                layout = Layout("text", "text")
            expected = numpy_reader.read(path, layout)
            threads, block = chance.choice([1, 2, 3, 7]), chance.choice([1, 16, 64, 4096])
            got = reader.read_native(path, layout, threads, bytes_per_thread=1, block_bytes=block)
            assert_same(got, expected)
        except Exception as error:
            raise AssertionError(f"log {case}, {ending}, {content!r}: {error!r}") from error
        counts["with bad lines" if expected[2] else "read"] += 1
    return counts

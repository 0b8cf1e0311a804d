"""The compiled log reader (csrc/reader.cpp); mclrec_fast.data.reader is what to use."""

from collections.abc import Callable
from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray

class Found(TypedDict):
    problems: list[tuple[int, int, int, bytes, int]]
    bad: int
    users: NDArray[np.int32]
    items: NDArray[np.int32]
    user_ids: NDArray[np.int64] | list[str]
    item_ids: NDArray[np.int64] | list[str]
    times: NDArray[np.int64] | NDArray[np.float64] | None
    then: NDArray[np.int64] | NDArray[np.float64] | None
    ratings: NDArray[np.float64] | None

def read(
    path: bytes,
    table: bool,
    delimiter: str,
    quotes: bool,
    columns: int,
    parts: tuple[int, int, int, int, int],
    iso: tuple[bool, bool],
    offset: int,
    first_line: int,
    threads: int,
    bytes_per_thread: int = ...,
    block_bytes: int = ...,
    stream: Callable[[], bytes] | None = ...,
) -> Found: ...
def census(
    items: NDArray[np.int32],
    offsets: NDArray[np.int64],
    times: NDArray[Any] | None,
    threads: int,
) -> tuple[NDArray[np.bool_], int, int]: ...
def group(
    users: NDArray[np.int32],
    items: NDArray[np.int32],
    times: NDArray[Any] | None,
    n_users: int,
    threads: int,
) -> NDArray[np.int64]: ...

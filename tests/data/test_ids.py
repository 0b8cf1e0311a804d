"""External ids survive the round trip into a run directory, and nothing there can run code."""

import json
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from mclrec_fast.data import Dataset, IdIndex, InteractionLog, load_ids, match_items, save_ids
from mclrec_fast.data.build import with_padding
from mclrec_fast.data.ids import as_objects
from mclrec_fast.errors import InputError

texts = st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), unique=True)
numbers = st.lists(st.integers(-(2**63), 2**63 - 1), unique=True)


def log_of(users: NDArray[Any], items: NDArray[Any]) -> InteractionLog:
    return InteractionLog(
        items=np.arange(1, len(items) + 1, dtype=np.int32),
        offsets=np.array([0, len(items)]),
        times=None,
        user_ids=users,
        item_ids=with_padding(items),
        source="test",
    )


def array_of(values: list[Any]) -> NDArray[Any]:
    if values and isinstance(values[0], str):
        return as_objects(values)
    return np.array(values, dtype=np.int64)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.one_of(texts, numbers), st.one_of(texts, numbers))
def test_round_trip(tmp_path: Path, users: list[Any], items: list[Any]) -> None:
    log = log_of(array_of(users), array_of(items))
    save_ids(log, tmp_path)
    found = load_ids(tmp_path)
    assert found.user_ids is not None
    assert found.user_ids.tolist() == users
    assert found.item_ids[1:].tolist() == items
    assert found.item_ids.dtype == log.item_ids.dtype
    assert IdIndex(found.item_ids, first=1, missing=0).find(items).tolist() == [
        *range(1, len(items) + 1)
    ]


def test_user_ids_can_be_kept_out(tmp_path: Path) -> None:
    log = log_of(as_objects(["secret"]), np.array([5]))
    save_ids(log, tmp_path, keep_user_ids=False)
    assert load_ids(tmp_path).user_ids is None
    assert [path.name for path in tmp_path.iterdir()] == ["item_ids.npz"]


def test_files_are_compact(tmp_path: Path) -> None:
    data = Dataset.named("synthetic")
    save_ids(data.log, tmp_path)
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 100_000


def test_a_failed_write_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_ids(log_of(np.array([1]), np.array([5])), tmp_path)

    def full(*args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez_compressed", full)
    with pytest.raises(OSError):
        save_ids(log_of(np.array([2]), np.array([6])), tmp_path)
    assert load_ids(tmp_path).item_ids.tolist() == [0, 5]
    assert len(list(tmp_path.iterdir())) == 2


class Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return (pytest.fail, ("a pickle was opened",))


def test_pickles_are_never_opened(tmp_path: Path) -> None:
    bomb = np.empty(1, dtype=object)
    bomb[0] = Bomb()
    np.savez(tmp_path / "item_ids.npz", integers=bomb)
    with pytest.raises(InputError, match="not a file of ids"):
        load_ids(tmp_path)
    (tmp_path / "item_ids.npz").write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(InputError, match="not a file of ids"):
        load_ids(tmp_path)


@pytest.mark.parametrize(
    "arrays",
    [
        {},
        {"integers": np.zeros((2, 2), dtype=np.int64)},
        {"integers": np.zeros(2)},
        {"text": np.frombuffer(b"\xff", dtype=np.uint8), "offsets": np.array([0, 1])},
    ],
)
def test_other_files_are_refused(tmp_path: Path, arrays: dict[str, Any]) -> None:
    np.savez(tmp_path / "item_ids.npz", **arrays)
    with pytest.raises(InputError, match="not a file of ids"):
        load_ids(tmp_path)


def test_files_that_lie_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "item_ids.npz"

    def refused(reason: str, **arrays: Any) -> None:
        np.savez_compressed(path, **arrays)
        with pytest.raises(InputError, match=f"not a file of ids \\({reason}"):
            load_ids(tmp_path)

    text = np.frombuffer(b"abc", dtype=np.uint8)
    refused("an id is there twice", integers=np.array([0, 5, 6, 5]))
    refused("an id is there twice", text=text[[0, 1, 0]], offsets=np.array([0, 0, 1, 2, 3]))
    for ends in ([0, 0, 2, 1, 3], [0, 0, 1], [1, 2, 3], [0, 0, 9], []):
        refused("its offsets do not divide", text=text, offsets=np.array(ends, dtype=np.int64))
    refused("integers.npy would unpack to", integers=np.zeros(1 << 24, dtype=np.int64))
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(InputError, match="not a regular file"):
        load_ids(tmp_path)


def test_every_flipped_bit_is_noticed_or_harmless(tmp_path: Path) -> None:
    log = log_of(as_objects(["u1", "u2"]), np.array([5, 7, 1000]))
    save_ids(log, tmp_path)
    for name in ("item_ids.npz", "user_ids.npz"):
        path = tmp_path / name
        whole = bytearray(path.read_bytes())
        for bit in range(8 * len(whole)):
            whole[bit // 8] ^= 1 << bit % 8
            path.write_bytes(whole)
            try:
                found = load_ids(tmp_path)
                assert found.item_ids.tolist() == [0, 5, 7, 1000]
                assert found.user_ids is not None and found.user_ids.tolist() == ["u1", "u2"]
            except InputError:
                pass
            whole[bit // 8] ^= 1 << bit % 8
        path.write_bytes(whole)


def test_ids_of_another_run_are_noticed(tmp_path: Path) -> None:
    (tmp_path / "log.txt").write_text("1 5 6 7 8\n2 8 7 6 5\n")
    data = Dataset.from_file(tmp_path / "log.txt")
    (tmp_path / "data.json").write_text(json.dumps(data.card.to_dict()))
    save_ids(data.log, tmp_path)
    assert load_ids(tmp_path).item_ids.tolist() == [0, 5, 6, 7, 8]
    for users, items, name in (
        (np.array([1, 2]), np.array([6, 5, 7, 8]), "item_ids.npz"),
        (np.array([2, 1]), np.array([5, 6, 7, 8]), "user_ids.npz"),
    ):
        save_ids(log_of(users, items), tmp_path)
        with pytest.raises(InputError, match=f"{name}: .*not the ids that the run was made with"):
            load_ids(tmp_path)


def test_user_ids_are_for_their_owner(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        save_ids(log_of(as_objects(["secret"]), np.array([5])), tmp_path)
    finally:
        os.umask(before)
    assert (tmp_path / "user_ids.npz").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "item_ids.npz").stat().st_mode & 0o777 == 0o644


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is this a run directory"):
        load_ids(tmp_path)


def test_looking_up() -> None:
    index = IdIndex(np.array([0, 30, -5]), first=1, missing=0)
    asked: list[Any] = [30, "30", np.int32(-5), "-5", "030", " 30", 7, "x", 30.0, np.array(30)]
    assert index.find(asked).tolist() == [1, 1, 2, 2, 0, 0, 0, 0, 1, 1]
    for wrong in (True, None, float("nan"), 30.5, b"30", [30], np.array([30])):
        with pytest.raises(InputError, match=r"id 1: .*expected an integer or text"):
            index.find([30, wrong])
    index = IdIndex(as_objects(["a", "7"]), first=0, missing=-1)
    assert index.find(["7", 7, "a", np.str_("a"), "A"]).tolist() == [1, 1, 0, 0, -1]


def test_matching_a_log_to_a_run() -> None:
    run = with_padding(as_objects(["a", "b", "c"]))
    log = log_of(np.array([1]), as_objects(["c", "a"]))
    matched = match_items(log, run, "runs/x")
    assert matched.items.tolist() == [3, 1]
    assert matched.n_classes == 4
    same = log_of(np.array([1]), as_objects(["a", "b", "c"]))
    assert match_items(same, run, "runs/x") is same
    with pytest.raises(InputError, match=r"1 of its 2 items are unknown to runs/x \('z'\)"):
        match_items(log_of(np.array([1]), as_objects(["a", "z"])), run, "runs/x")
    with pytest.raises(InputError, match="3 of its 3 items"):
        match_items(log_of(np.array([1]), np.array([4, 5, 6])), run, "runs/x")

"""Which column of a table plays which part: by a name given, a usual name, or what it holds.

Files and frames ask here alike. Times are looked for hardest, because without them the order of the
events is that of the rows: what was taken, and what might have been, is said.
"""

import difflib
import functools
import re
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from ..errors import InputError
from .times import is_spelled_date, is_time_of_day

# Column names tried, in this order, when none is given; case, blanks, "_" and "-" do not count.
USER_NAMES = (
    "user_id", "user", "userid", "uid", "customer_id", "reviewer_id", "reviewerid", "visitor_id",
    "member_id", "client_id", "account_id", "buyer_id", "customer", "session_id",
)  # fmt: skip
ITEM_NAMES = (
    "item_id", "item", "itemid", "iid", "movie_id", "movieid", "product_id", "parent_asin", "asin",
    "article_id", "business_id", "book_id", "track_id", "song_id", "artist_id", "video_id",
    "content_id", "news_id", "recipe_id", "game_id", "sku", "product", "article",
)  # fmt: skip
RATING_NAMES = ("rating", "ratings", "score", "stars", "overall")
# Times: these whole names first (case, blanks, "_" and "-" do not count), then these last words.
TIME_NAMES = (
    "timestamp", "time", "ts", "unixreviewtime", "unixtime", "unixtimestamp", "eventtime",
    "eventtimestamp", "eventdatetime", "datetime", "tdat", "eventdate", "createdat", "date",
)  # fmt: skip
_TIME_WORDS = ("at", "timestamp", "ts", "datetime", "time", "date", "dat", "dt")
# Words of a column that may order the events although its numbers are no times.
_ORDER_WORDS = frozenset("day week month hour step turn seq sequence order position".split())
# First words that make a length of time of a name such as "watch_time".
_DURATIONS = frozenset(
    "watch watching dwell play playing session elapsed spent listen listening run reading response "
    "load loading wait waiting total avg average mean duration remaining".split()
)

NO_RATINGS = "no ratings here, so every row is read, whatever --min-rating the run was made with"
DATE, EPOCH, NUMBER, OTHER = "date", "epoch", "number", "other"
SPELLED, CLOCK = "spelled", "clock"  # a date in a form that is not read; a time of day alone
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_MAX_NUMBER = 1024
_SUGGESTED_FROM = 1000  # column names that are compared with a wrong one
_EPOCH_UNITS = tuple(
    (6e8 * scale, min(1e10 * scale, 9.3e18), unit)
    for scale, unit in (
        (1, "seconds"),
        (1e3, "milliseconds"),
        (1e6, "microseconds"),
        (1e9, "nanoseconds"),
    )
)


@dataclass(frozen=True)
class ColumnNames:
    """The columns the user named; None lets the format decide. `use_time` False wants no times.

    A column is named, or counted from 1. `names` are those of a file that has none (or, where
    `header` is "yes", none that are wanted). `soft` are parts whose names may not be met: another
    log's, for which the usual names are good enough, and without ratings or ties if need be.
    """

    user: str | None = None
    item: str | None = None
    time: str | None = None
    rating: str | None = None
    use_time: bool = True
    then: str | None = None
    names: tuple[str, ...] | None = None
    header: str = "auto"
    soft: frozenset[str] = frozenset()

    def fitting(self, names: Sequence[str]) -> "ColumnNames":
        """The same without the soft names that are not among a table's."""

        def there(part: str, name: str | None) -> str | None:
            gone = part in self.soft and name is not None and by_name(names, name) < 0
            return None if gone else name

        return replace(
            self,
            user=there("user", self.user),
            item=there("item", self.item),
            time=there("time", self.time),
            rating=there("rating", self.rating),
            then=there("then", self.then),
        )

    def hard(self) -> "ColumnNames":
        """The same without its soft parts, for what has no columns to name."""
        return replace(
            self.fitting(()),
            names=None if "names" in self.soft else self.names,
            header="auto" if "header" in self.soft else self.header,
        )

    def given(self) -> dict[str, str]:
        """The named ones by option."""
        named = {
            "--user-col": self.user,
            "--item-col": self.item,
            "--time-col": self.time,
            "--rating-col": self.rating,
            "--then-by": self.then,
            "--columns": None if self.names is None else ",".join(self.names),
            "--header": None if self.header == "auto" else self.header,
        }
        return {option: name for option, name in named.items() if name is not None}


@dataclass
class Picked:
    """Column numbers by part, -1 for none, and what is to be said about the times."""

    user: int
    item: int
    time: int = -1
    rating: int = -1
    then: int = -1
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def parts(self) -> dict[str, int]:
        """The columns that are used, by part."""
        parts = {
            "user": self.user,
            "item": self.item,
            "time": self.time,
            "rating": self.rating,
            "then": self.then,
        }
        return {part: column for part, column in parts.items() if column >= 0}


def is_number(text: str) -> bool:
    """Whether a text is a decimal number."""
    return len(text) <= _MAX_NUMBER and _NUMBER.fullmatch(text) is not None


def spelling(values: Sequence[str]) -> str:
    """What texts that are neither numbers nor dates hold: SPELLED, CLOCK or OTHER."""
    if all(map(is_time_of_day, values)):
        return CLOCK
    return SPELLED if all(map(is_spelled_date, values)) else OTHER


def epoch_unit(value: float) -> str:
    """The unit in which a number is a time of 1989 to 2264; "" where it is in none."""
    return next((unit for low, high, unit in _EPOCH_UNITS if low <= abs(value) < high), "")


def listed(names: Sequence[str]) -> str:
    """Some names for a message."""
    shown = ", ".join(repr(name[:60]) for name in names[:12])
    return shown + (f" and {len(names) - 12} more" if len(names) > 12 else "")


def match_any(names: Sequence[str], wanted: Sequence[str]) -> int:
    """The number of the first of `wanted` that is a column, -1 for none."""
    at = {_plain(name): i for i, name in reversed(list(enumerate(names)))}
    return next((at[_plain(name)] for name in wanted if _plain(name) in at), -1)


def _plain(name: str) -> str:
    """A name without what people write differently; one of nothing else stays as it is."""
    return re.sub(r"[\s_.-]", "", name[:200]).lower() or name


def by_name(names: Sequence[str], given: str) -> int:
    """The number of a column that is named, or counted from 1; -1 for none."""
    if given in names:
        return list(names).index(given)
    if given.isascii() and given.isdecimal() and 1 <= int(given[:9]) <= len(names):
        return int(given[:9]) - 1
    return -1


def find_column(
    place: str,
    names: Sequence[str],
    given: str | None,
    usual: Sequence[str],
    option: str,
    what: str,
) -> int:
    """The number of a column, by the name given or else by the usual names.

    Raises:
        InputError: there is no such column; the text lists the columns and the nearest one.
    """
    near = [name for name in names[:_SUGGESTED_FROM] if len(name) <= 80]
    if given is not None:
        column = by_name(names, given)
        if column < 0:
            close = difflib.get_close_matches(given[:80], near, n=1, cutoff=0.5)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise InputError(
                f"{place}: no column {given[:80]!r} ({option}), found {listed(names)}{hint}"
            )
        if list(names).count(names[column]) > 1 and names[column] == given:
            raise InputError(
                f"{place}: column {given!r} appears twice; count it: {option} {column + 1}"
            )
        return column
    column = match_any(names, usual)
    if column < 0:
        close = [m for n in usual for m in difflib.get_close_matches(n, near, n=1, cutoff=0.75)]
        near_one = f"; did you mean {option} {shlex.quote(close[0])}?" if close else ""
        hint = near_one or f"; name it with {option}"
        raise InputError(
            f"{place}: no column for {what} (such as {usual[0]!r}), found {listed(names)}{hint}"
        )
    return column


def _words(name: str) -> list[str]:
    """createdAt, created_at and "Created At" as their words."""
    parts = re.sub(r"([a-z0-9])([A-Z])", r"\1 \2", name[:200])
    return re.split(r"[^0-9a-z]+", parts.lower().strip())


def _find_time(
    names: Sequence[str], kind_of: Callable[[int], str], used: set[int], picked: Picked
) -> None:
    """Finds the times by name, else by what the columns hold, and says how sure that is."""
    free = [i for i in range(len(names)) if i not in used and names[i]]
    exact: dict[int, int] = {}
    worded: list[int] = []
    for i in free:
        words = _words(names[i])
        whole = "".join(words)
        if whole in TIME_NAMES:
            exact[i] = TIME_NAMES.index(whole)
        elif len(words) > 1 and words[-1] in _TIME_WORDS:
            worded.append(i)
    named = [*sorted(exact, key=exact.__getitem__), *worded]
    sure = [i for i in named if kind_of(i) in (DATE, EPOCH)]
    likely = [i for i in named if kind_of(i) == NUMBER and not _is_duration(names[i])]
    if exact and likely and likely[0] in exact and (not sure or sure[0] not in exact):
        sure = []  # a column called "timestamp" goes before the dates in "release_date"
    candidates = sure + likely
    if candidates:
        picked.time = candidates[0]
        others = [names[i] for i in candidates[1:] if i in sure]
        if others and picked.time not in exact:
            picked.notes.append(
                f"times are taken from column {names[picked.time]!r}; {listed(others)} might be "
                "meant instead: --time-col NAME"
            )
        return
    by_content = [i for i in free if kind_of(i) == DATE]
    if len(by_content) == 1:
        picked.time = by_content[0]
        picked.notes.append(
            f"times are taken from column {names[picked.time]!r}, the only one that holds dates; "
            "--time-col names another, --ignore-times keeps the order of the rows"
        )
        return
    if exact and not by_content:
        # Refused where it is read, or said to be a time of day.
        picked.time = next(iter(sorted(exact, key=exact.__getitem__)))
        return
    _say_what_may_hold_times(names, kind_of, used, by_content or named, picked)


def _say_what_may_hold_times(
    names: Sequence[str],
    kind_of: Callable[[int], str],
    used: set[int],
    maybe: Sequence[int],
    picked: Picked,
) -> None:
    """Warns of columns that may order the events, where none was taken; a nameless one by number.

    Columns that look like times come first, then dates in a form that is not read, then numbers
    whose name speaks of an order.
    """
    free = [i for i in range(len(names)) if i not in used]
    unread = [i for i in free if kind_of(i) == SPELLED]
    if not maybe and not unread:
        maybe = [i for i in free if kind_of(i) == EPOCH or (not names[i] and kind_of(i) == DATE)]
        maybe = maybe or [i for i in free if kind_of(i) == NUMBER and _is_order(names[i])]
    readable = [i for i in maybe if i not in unread]
    said = []
    if readable:
        found = listed([names[i] or str(i + 1) for i in readable])
        said.append(f"{found} may hold times: --time-col NAME uses it")
    if unread:
        found = listed([names[i] or str(i + 1) for i in unread])
        said.append(
            f"{found} may hold dates, in a form that is not read: write them as 2020-09-13 or "
            "2020-09-13 21:18:11"
        )
    if said:
        picked.warnings.append(
            "no column was taken for the times, so the order of the rows is the order of the "
            f"events; {'; '.join(said)}; --ignore-times says that the order of the rows is right"
        )


def _is_order(name: str) -> bool:
    words = _words(name)
    return words[-1] != "id" and not _ORDER_WORDS.isdisjoint(words)


def _is_duration(name: str) -> bool:
    return not _DURATIONS.isdisjoint(_words(name))


def check_distinct(place: str, names: Sequence[str], picked: Picked) -> None:
    """Refuse a part whose column's name occurs twice, and one column with two parts."""
    parts = picked.parts()
    columns = list(parts.values())
    if len(set(columns)) != len(columns):
        twice = next(names[column] for column in columns if columns.count(column) > 1)
        raise InputError(
            f"{place}: column {twice!r} is given two parts, expected different columns"
        )


def _check_usual(place: str, names: Sequence[str], column: int, option: str) -> None:
    if names.count(names[column]) > 1:
        raise InputError(
            f"{place}: column {names[column]!r} appears twice, expected distinct names; count "
            f"the one that is meant: {option} {column + 1}"
        )


def pick_columns(
    place: str,
    names: Sequence[str],
    columns: ColumnNames,
    need_rating: bool,
    kind_of: Callable[[int], str],
) -> Picked:
    """The columns of user, item, time, rating and what breaks ties in a table.

    Args:
        place: where the names were found, for messages.
        names: of all columns.
        columns: what the user named.
        need_rating: ratings must be found.
        kind_of: what a column holds: DATE, EPOCH, NUMBER, SPELLED, CLOCK or OTHER.

    Raises:
        InputError: a column is missing, named twice or given two parts.
    """
    columns, kind_of = columns.fitting(names), functools.cache(kind_of)
    user = find_column(place, names, columns.user, USER_NAMES, "--user-col", "the user ids")
    item = find_column(place, names, columns.item, ITEM_NAMES, "--item-col", "the item ids")
    picked = Picked(user, item)
    if need_rating and "rating" in columns.soft and columns.rating is None:
        need_rating = match_any(names, RATING_NAMES) >= 0
        if not need_rating:
            picked.warnings.append(NO_RATINGS)
    if need_rating or columns.rating is not None:
        picked.rating = find_column(
            place, names, columns.rating, RATING_NAMES, "--rating-col", "the ratings"
        )
    if columns.then is not None:
        picked.then = find_column(place, names, columns.then, (), "--then-by", "ties")
    if columns.time is not None:
        picked.time = find_column(place, names, columns.time, TIME_NAMES, "--time-col", "the times")
    elif columns.use_time:
        used = set(picked.parts().values()) | {match_any(names, RATING_NAMES)}
        _find_time(names, kind_of, used, picked)
    if picked.time >= 0 and kind_of(picked.time) == CLOCK:
        picked.warnings.append(
            f"column {names[picked.time]!r} holds times of day without a date, so that days are "
            "mixed: write the date in front of it (2020-09-13 21:18:11), name another column with "
            "--time-col, or keep the order of the rows with --ignore-times"
        )
    check_distinct(place, names, picked)
    for column, given, option in (
        (user, columns.user, "--user-col"),
        (item, columns.item, "--item-col"),
        (picked.time, columns.time, "--time-col"),
        (picked.rating, columns.rating, "--rating-col"),
    ):
        if column >= 0 and given is None:
            _check_usual(place, names, column, option)
    if picked.then >= 0 and picked.time < 0:
        raise InputError(
            f"{place}: --then-by breaks ties of the times, and there are none: name their column "
            f"with --time-col"
        )
    return picked

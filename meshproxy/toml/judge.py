"""Reading a TOML document table by table, collecting every fault on the way."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import msgspec

from meshproxy.errors import FaultyInput, Problem
from meshproxy.toml.words import describe, quote, where

if TYPE_CHECKING:
    from collections.abc import Mapping

    from meshproxy.toml.document import TomlDocument
    from meshproxy.toml.words import KeyPath

T = TypeVar("T")
D = TypeVar("D")
Reader = Callable[[object], T]
"""Takes one TOML value, returns what it means; raises ValueError with a phrase that completes "expected ..."."""

_MOST_PROBLEMS = 100  # told of one document; a person mends those first, and a log line has an end
_MAX_COMPARED = 80  # characters of an unknown key that the search for its nearest known one looks at


@dataclass(frozen=True, slots=True)
class Place:
    """A line (from 1) of a document and the key path written there, as people write it: `inbound[0].forward`."""

    line: int
    where: str


class Judge:
    """Collects every problem of one document; `root` is where reading begins, `verdict` where it ends."""

    __slots__ = ("_document", "_more", "_problems", "_tables", "root")

    def __init__(self, document: TomlDocument) -> None:
        """Open `document` for reading."""
        self._document = document
        self._problems: list[Problem] = []
        self._more = 0  # beyond those
        self._tables: list[Table] = []
        self.root = self.table((), document.data)

    def __repr__(self) -> str:
        return f"<Judge of {self._document.file}, {len(self._problems)} problems>"

    def table(self, path: KeyPath, data: Mapping[str, object]) -> Table:
        """Return a view of the table at `path`, whose unread keys will count as unknown."""
        table = Table(self, path, data)
        self._tables.append(table)
        return table

    def place_of(self, path: KeyPath) -> Place:
        """Return where `path` stands in the document."""
        return Place(self._document.line_of(path), where(path))

    @property
    def is_full(self) -> bool:
        """Whether faults are only counted by now."""
        return len(self._problems) >= _MOST_PROBLEMS

    def problem(self, path: KeyPath, *, found: str, expected: str, remedy: str) -> None:
        """Record one fault at `path`; of more than a person reads, that there are more."""
        if self.is_full:
            self._more += 1
            return
        place = self.place_of(path)
        self._problems.append(Problem(self._document.file, found, expected, remedy, place.line, place.where))

    def faults(self) -> tuple[Problem, ...]:
        """End the reading: add the unknown keys of every table opened, and return every problem found."""
        for table in self._tables:
            table.refuse_unread()
        self._tables.clear()
        if not self._more:
            return tuple(self._problems)
        found = f"{self._more:,} more fault{'' if self._more == 1 else 's'}"
        last = max(problem.line or 0 for problem in self._problems)
        more = Problem(self._document.file, found, "none", "Mend these first", last)
        return (*self._problems, more)

    def verdict(self) -> None:
        """End the reading; raises FaultyInput if anything at all was wrong."""
        if faults := self.faults():
            raise FaultyInput(faults)


class Table:
    """One table under judgement. Readers return None, or the default, after recording what was wrong."""

    __slots__ = ("_asked", "_data", "_judge", "path")

    def __init__(self, judge: Judge, path: KeyPath, data: Mapping[str, object]) -> None:
        """Made by `Judge.table`."""
        self.path = path
        self._judge = judge
        self._data = data
        self._asked: set[str] = set()

    def __repr__(self) -> str:
        return f"<Table {where(self.path) or 'at the top'}, asked for {sorted(self._asked)}>"

    def __contains__(self, key: str) -> bool:
        self._asked.add(key)
        return key in self._data

    def place_of(self, *key: str | int) -> Place:
        """Return where this table begins, or where one of its keys stands."""
        return self._judge.place_of((*self.path, *key))

    def problem(self, *key: str | int, found: str, expected: str, remedy: str) -> None:
        """Record a fault of this table, of one of its keys, or of one item below a key."""
        self._judge.problem((*self.path, *key), found=found, expected=expected, remedy=remedy)

    def require(self, key: str, read: Reader[T], *, like: str) -> T | None:
        """Read a key that must be there; `like` is a good value in TOML, for the remedy. None after a problem."""
        if key in self:
            return self._read((key,), self._data[key], read, None, remedy=_as_in(key, like))
        self.missing(key, like=like)
        return None

    def take(self, key: str, read: Reader[T], default: D, *, like: str) -> T | D:
        """Read a key that may be left out; the default when it is, and after a problem."""
        if key not in self:
            return default
        return self._read((key,), self._data[key], read, default, remedy=_as_in(key, like))

    def require_each(self, key: str, read: Reader[T], *, like: str) -> tuple[T, ...]:
        """Read a list that must be there and hold something, item by item; only the good items after a problem."""
        if key not in self:
            self.missing(key, like=like)
        return self.take_each(key, read, (), like=like)

    def take_each(
        self, key: str, read: Reader[T], default: D, *, like: str, may_be_empty: bool = False
    ) -> tuple[T, ...] | D:
        """Read a list that may be left out but mostly not be empty; one of strings may be written as one string."""
        if key not in self:
            return default
        value, remedy = self._data[key], _as_in(key, like)
        places: list[tuple[KeyPath, object]]
        if isinstance(value, str):
            places = [((key,), value)]
        else:
            items = self._read((key,), value, _array, None, remedy=remedy)
            if items == [] and not may_be_empty:  # could mean all or nobody; who means "any" leaves the key out
                self.problem(key, found="an empty array", expected="at least one item", remedy=remedy)
            places = [((key, index), item) for index, item in enumerate(items or ())]
        read_items = (self._read(place, item, read, None, remedy=remedy) for place, item in places)
        return tuple(item for item in read_items if item is not None)

    def table(self, key: str) -> Table | None:
        """Open a sub-table that may be left out (an empty one then); None after a problem."""
        if key not in self:
            return self._judge.table((*self.path, key), {})
        data = self._read((key,), self._data[key], _table, None, remedy=f"Write it as [{key}] with its keys below")
        return None if data is None else self._judge.table((*self.path, key), data)

    def require_table(self, key: str, *, like: str) -> Table | None:
        """Open a sub-table that must be there; None after a problem. `like` is a key of it in TOML, for the remedy."""
        if key in self:
            return self.table(key)
        self.problem(found=f"no [{key}]", expected=f"a table [{key}]", remedy=f"Add [{key}] with `{like}` below it")
        return None

    def tables(self, key: str) -> list[Table]:
        """Open each table of an array of tables that may be left out; without the items that are none."""
        if key not in self:
            return []
        remedy = f"Write it as [[{key}]] with its keys below"
        items = self._read((key,), self._data[key], _array, [], remedy=remedy)
        places = [
            ((key, index), self._read((key, index), item, _table, None, remedy=remedy))
            for index, item in enumerate(items)
        ]
        return [self._judge.table((*self.path, *place), data) for place, data in places if data is not None]

    def missing(self, key: str, *, like: str) -> None:
        """Record that a required key is not there."""
        self.problem(found=f"no `{key}`", expected=f"`{key}` in this table", remedy=f"Add `{key} = {like}`")

    def refuse_unread(self) -> None:
        """Record every key of this table that no reader asked for, with the nearest one that was."""
        for key in self._data:
            if key in self._asked:
                continue
            if self._judge.is_full:
                self.problem(key, found="", expected="", remedy="")  # which is counted; to look for its name takes time
                continue
            near = difflib.get_close_matches(key[:_MAX_COMPARED], self._asked, n=1)
            remedy = f"Did you mean `{near[0]}`? Rename or remove it" if near else "Remove it"
            known = ", ".join(sorted(self._asked))
            self.problem(key, found=f"the unknown key {quote(key)}", expected=f"one of {known}", remedy=remedy)

    def _read(self, place: KeyPath, value: object, read: Reader[T], default: D, *, remedy: str) -> T | D:
        try:
            return read(value)
        except ValueError as error:
            self.problem(*place, found=describe(value), expected=str(error), remedy=remedy)
            return default


def _as_in(key: str, like: str) -> str:
    return f"Write it as in `{key} = {like}`"


def of_type(kind: type[T], expected: str) -> Reader[T]:
    """Return a reader that takes exactly what msgspec's strict conversion to `kind` takes."""

    def read(value: object) -> T:
        try:
            return msgspec.convert(value, kind)
        except msgspec.ValidationError:
            raise ValueError(expected) from None

    return read


string = of_type(str, "a string")
boolean = of_type(bool, "true or false")
whole_number = of_type(int, "a whole number")
_array = of_type(list[object], "an array")
_table = of_type(dict[str, object], "a table")


def written(parse: Callable[[str], T]) -> Reader[T]:
    """Return a reader of strings with a grammar: `parse` raises ValueError with a phrase completing "expected ..."."""

    def read(value: object) -> T:
        return parse(string(value))

    return read

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshproxy.errors import FaultyInput, Problem
from meshproxy.toml import (
    MAX_BYTES,
    Judge,
    Place,
    Table,
    TomlDocument,
    boolean,
    describe,
    parse_toml,
    quote,
    string,
    whole_number,
    written,
)
from meshproxy.toml.lines import key_offsets
from meshproxy.toml.words import KeyPath, where

# --- lines -----------------------------------------------------------------------------------------------------------

EVERYTHING = '''a.b = 1 # c = 2
[x]
y = """
foo = 1
[z]
"""
z = [
  1, # ]
  "]",
  { k = 'v', l = [ "#" ] },
]
[[inbound]]
name="a"

[[inbound]]
"na me" = {q = 1}
[inbound.sub]
when = 1979-05-27 07:32:00
[[inbound.arr]]
m='#'
[[inbound.arr]]
"\\u00e9\\"" = 1
q1 = """a"""""
q2 = \'\'\'a\'\'\'\'\'
q3 = """"""
last = 1'''


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ((), 1),
        (("a",), 1),
        (("a", "b"), 1),
        (("x",), 2),
        (("x", "y"), 3),
        (("x", "z"), 7),
        (("x", "z", 0), 8),
        (("x", "z", 1), 9),
        (("x", "z", 2), 10),
        (("x", "z", 2, "l", 0), 10),
        (("inbound",), 12),
        (("inbound", 0, "name"), 13),
        (("inbound", 1), 15),
        (("inbound", 1, "na me", "q"), 16),
        (("inbound", 1, "sub", "when"), 18),
        (("inbound", 1, "arr", 0, "m"), 20),
        (("inbound", 1, "arr", 1, 'é"'), 22),
        (("inbound", 1, "arr", 1, "q2"), 24),
        (("inbound", 1, "arr", 1, "last"), 26),
        (("inbound", 1, "nothing", "here"), 15),
        (("nothing",), 1),
    ],
)
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_the_line_of_a_key_path(path: KeyPath, line: int, line_end: str) -> None:
    document = parse_toml(EVERYTHING.replace("\n", line_end).encode(), file="f")
    assert document.line_of(path) == line


@dataclass
class Writer:
    """Writes a random valid document and notes where it put each key, independently of the scanner."""

    lines: list[str] = field(default_factory=list)
    noted: dict[KeyPath, int] = field(default_factory=dict)
    text: str = ""

    def note(self, path: KeyPath) -> None:
        self.noted.setdefault(path, self.text.count("\n") + 1)

    def write(self, text: str) -> None:
        self.text += text


def basic(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


ALPHABET = "ab\"'\\#[]{}=,. é\n"
KEYS = st.one_of(st.sampled_from(["a", "b-c", "d_1", "7"]), st.text(ALPHABET, max_size=4))
SCALARS = st.one_of(
    st.integers(-10, 10).map(str),
    st.sampled_from(["true", "1.5e3", "inf", "1979-05-27", "1979-05-27 07:32:00Z", "07:32:00", "0xff"]),
    st.text(ALPHABET, max_size=8).map(basic),
    st.text('ab"\\#[]{}=,. \n', max_size=8).map(lambda text: f"'''\n{text}'''"),
    st.sampled_from(['"""a"""""', "'''b'''''", '""""""', '"""x\\\n   y = 1"""', '"""[z]\n"q" = 1\n"""', "''", '"#"']),
)


def write_key(writer: Writer, key: str, draw: st.DrawFn) -> None:
    bare = key.isascii() and key.replace("-", "").replace("_", "").isalnum()
    literal = "'" not in key and "\n" not in key
    writer.write(draw(st.sampled_from([basic(key)] + [key] * bare + [f"'{key}'"] * literal)))


def write_gap(writer: Writer, draw: st.DrawFn) -> None:
    writer.write(draw(st.sampled_from(["", " ", "\n", " # [a] = {\n", "\n\n\t"])))


def write_value(writer: Writer, path: KeyPath, draw: st.DrawFn, depth: int) -> None:
    kind = draw(st.sampled_from(["scalar", "scalar", "array", "table"] if depth else ["scalar"]))
    if kind == "scalar":
        writer.write(draw(SCALARS))
    elif kind == "array":
        writer.write("[")
        count = draw(st.integers(0, 3))
        for index in range(count):
            write_gap(writer, draw)
            writer.note((*path, index))
            write_value(writer, (*path, index), draw, depth - 1)
            write_gap(writer, draw)
            writer.write("," if index + 1 < count or draw(st.booleans()) else "")
        write_gap(writer, draw)
        writer.write("]")
    else:
        writer.write("{ ")
        for number, key in enumerate(draw(st.lists(KEYS, unique=True, max_size=3))):
            writer.write(" , " if number else "")
            write_pair(writer, path, key, draw, depth - 1)
        writer.write("}")


def write_pair(writer: Writer, table: KeyPath, key: str, draw: st.DrawFn, depth: int) -> None:
    parts = [key, *draw(st.lists(KEYS, max_size=2))]
    path = table
    for number, part in enumerate(parts):
        writer.write(" . " if number else "")
        path = (*path, part)
        writer.note(path)
        write_key(writer, part, draw)
    writer.write(draw(st.sampled_from(["=", " = ", "\t=  "])))
    write_value(writer, path, draw, depth)


def write_header(writer: Writer, path: KeyPath, brackets: int, draw: st.DrawFn) -> None:
    seen: KeyPath = ()
    writer.write("[" * brackets + " ")
    written_parts = 0
    for part in path:
        seen = (*seen, part)
        writer.note(seen)
        if isinstance(part, str):
            writer.write(" . " if written_parts else "")
            write_key(writer, part, draw)
            written_parts += 1
    writer.write(" " + "]" * brackets)


def write_table(writer: Writer, path: KeyPath, draw: st.DrawFn, depth: int) -> None:
    keys = draw(st.lists(KEYS, unique=True, max_size=4))
    tables = draw(st.integers(0, len(keys))) if depth else 0
    for key in keys[tables:]:
        write_pair(writer, path, key, draw, 2)
        writer.write(draw(st.sampled_from(["\n", " # x = 1\n", "\n\n"])))
    for key in keys[:tables]:
        if draw(st.booleans()):
            write_header(writer, (*path, key), 1, draw)
            writer.write("\n")
            write_table(writer, (*path, key), draw, depth - 1)
        else:
            for index in range(draw(st.integers(1, 3))):
                write_header(writer, (*path, key, index), 2, draw)
                writer.write("\n")
                write_table(writer, (*path, key, index), draw, depth - 1)


@st.composite
def documents(draw: st.DrawFn) -> Writer:
    writer = Writer()
    write_table(writer, (), draw, 3)
    return writer


@given(documents())
def test_on_random_documents_every_key_path_has_its_line(document: Writer) -> None:
    parsed = parse_toml(document.text.encode(), file="f")
    assert {path: parsed.line_of(path) for path in document.noted} == document.noted
    assert set(key_offsets(document.text)) == set(document.noted)
    assert set(document.noted) == set(paths_of(parsed.data))


def paths_of(value: object, path: KeyPath = ()) -> list[KeyPath]:
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [below for key, item in children for below in [(*path, key), *paths_of(item, (*path, key))]]


def test_a_very_deep_dotted_key_costs_no_memory_and_no_recursion() -> None:
    document = parse_toml(("a." * 3000 + "a = 1\n[b]\nc = 1").encode(), file="f")
    assert document.line_of(("a",) * 3001) == 1
    assert document.line_of(("b", "c")) == 3
    assert len(key_offsets("a." * 3000 + "a = 1")) < 100


def test_a_string_of_megabytes_is_walked_over() -> None:
    body = '\\"' * 1_000_000 + "'" * 1_000_000
    document = parse_toml(f'a = """\n{body}"""\nb = 1'.encode(), file="f")
    assert document.line_of(("b",)) == 3


# --- documents -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "line", "found", "remedy"),
    [
        (b"a = 1\nb = = 2\n", 2, "a syntax error (invalid value", "Correct the syntax"),
        (b"a = 1\na = 2\n", 2, "a syntax error (cannot overwrite", "Correct the syntax"),
        (b'a = 1\nb = """\n\n', 2, "a syntax error (unterminated", "Correct the syntax"),
        (b"a = 1\nb =", 2, "a syntax error (invalid value", "Correct the syntax"),
        (b"a = " + b"9" * 5000, None, "a number of more than 4,300 digits", "Write a shorter number"),
        (b"a = 1\n# \xff\n", 2, "bytes that are not UTF-8", "Save the file as UTF-8"),
        ("a = 1\n".encode("utf-16"), 1, "bytes that are not UTF-8", "Save the file as UTF-8"),
        (b"a = 1\nb\0 = 2", 2, "a NUL byte", "plain UTF-8"),
        (b"\xef\xbb\xbfa = 1", 1, "a byte order mark", "without a byte order mark"),
        (b"a = " + b"[" * 100_000, None, "nested too deeply", "fewer brackets"),
        (b"a = " + b"{b=" * 100_000, None, "nested too deeply", "fewer brackets"),
        (b"#" * (MAX_BYTES + 1), None, "more than 16 MiB", "right file"),
    ],
)
def test_what_is_no_toml_is_one_problem_with_its_line(
    content: bytes, line: int | None, found: str, remedy: str
) -> None:
    with pytest.raises(FaultyInput) as refusal:
        parse_toml(content, file="x.toml")
    (problem,) = refusal.value.problems
    assert problem.file == "x.toml"
    assert problem.line == line
    assert found in problem.found
    assert remedy in problem.remedy


@given(st.text(max_size=60))
def test_any_text_is_read_as_tomllib_reads_it_or_refused(text: str) -> None:
    try:
        expected: object = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        expected = None
    try:
        document = parse_toml(text.encode("utf-8", "replace"), file="f")
    except FaultyInput:
        document = None
    if document is not None:
        assert document.data == expected
        assert document.line_of(("a",)) >= 1


# --- the judge -------------------------------------------------------------------------------------------------------


def judged(text: str) -> Judge:
    return Judge(parse_toml(text.encode(), file="f.toml"))


def problems_of(judge: Judge) -> list[str]:
    with pytest.raises(FaultyInput) as refusal:
        judge.verdict()
    return [str(problem) for problem in refusal.value.problems]


def even(text: str) -> int:
    if not re.fullmatch("[0-9]*[02468]", text):
        raise ValueError("an even number")
    return int(text)


def test_good_values_are_returned_and_nothing_is_recorded() -> None:
    judge = judged('n = "4"\nflag = true\nlist = ["2", "4"]\none = "6"\n[t]\nw = 3\n[[rows]]\n[[rows]]\nname = "x"')
    root = judge.root
    assert root.require("n", written(even), like='"2"') == 4
    assert root.take("flag", boolean, default=False, like="true") is True
    assert root.require_each("list", written(even), like='["2"]') == (2, 4)
    assert root.take_each("one", written(even), None, like='["2"]') == (6,)
    assert root.take_each("absent", written(even), None, like='["2"]') is None
    assert root.take("gone", whole_number, 7, like="7") == 7
    table = root.require_table("t", like="w = 3")
    assert table is not None
    assert table.require("w", whole_number, like="3") == 3
    first, second = root.tables("rows")
    assert (first.take("name", string, "-", like='"x"'), second.require("name", string, like='"x"')) == ("-", "x")
    assert second.place_of() == Place(8, "rows[1]")
    assert second.place_of("name") == Place(9, "rows[1].name")
    empty = root.table("nothing")
    assert empty is not None
    assert empty.take("k", whole_number, 1, like="1") == 1
    assert root.tables("none") == []
    judge.verdict()


def test_every_fault_is_told_at_once_in_line_order() -> None:
    judge = judged(
        'n = "3"\nflag = 1\nlist = [\n"2",\n"3",\n4]\nempty = []\nt = 3\nrows = [1, {}]\n'
        'not_rows = "x"\nflagg = 1\nzzz = 1'
    )
    root = judge.root
    assert root.require("n", written(even), like='"2"') is None
    assert root.take("flag", boolean, default=True, like="true") is True
    assert root.require_each("list", written(even), like='["2"]') == (2,)
    assert root.require_each("empty", written(even), like='["2"]') == ()
    assert root.require_each("missing", written(even), like='["2"]') == ()
    assert root.require_table("t", like="w = 3") is None
    assert root.require_table("u", like="w = 1") is None
    assert [row.path for row in root.tables("rows")] == [("rows", 1)]
    assert root.tables("not_rows") == []
    expected = [
        'f.toml:1: n: found the string "3"; expected an even number -> Write it as in `n = "2"`',
        'f.toml:1: found no `missing`; expected `missing` in this table -> Add `missing = ["2"]`',
        "f.toml:1: found no [u]; expected a table [u] -> Add [u] with `w = 1` below it",
        "f.toml:2: flag: found 1; expected true or false -> Write it as in `flag = true`",
        'f.toml:5: list[1]: found the string "3"; expected an even number -> Write it as in `list = ["2"]`',
        'f.toml:6: list[2]: found 4; expected a string -> Write it as in `list = ["2"]`',
        'f.toml:7: empty: found an empty array; expected at least one item -> Write it as in `empty = ["2"]`',
        "f.toml:8: t: found 3; expected a table -> Write it as [t] with its keys below",
        "f.toml:9: rows[0]: found 1; expected a table -> Write it as [[rows]] with its keys below",
        'f.toml:10: not_rows: found the string "x"; expected an array -> Write it as [[rows]] with its keys below',
    ]
    told = problems_of(judge)
    assert told[:9] == expected[:9]
    assert told[9] == expected[9].replace("[[rows]]", "[[not_rows]]")
    assert 'f.toml:11: flagg: found the unknown key "flagg"' in told[10]
    assert "Did you mean `flag`? Rename or remove it" in told[10]
    assert told[11].endswith("-> Remove it")
    assert len(told) == 12


def test_more_faults_than_anybody_reads_are_counted() -> None:
    judge = Judge(parse_toml(b"".join(b"[[a]]\nx%d = 1\n" % n for n in range(20_000)), file="x.toml"))
    for table in judge.root.tables("a"):
        table.require("from", string, like='"/web"')
    with pytest.raises(FaultyInput) as faulty:
        judge.verdict()
    assert len(faulty.value.problems) == 101
    last = faulty.value.problems[-1]
    assert last.found == "39,900 more faults"
    assert len(str(faulty.value)) < 50_000


def test_a_key_that_was_only_looked_for_is_known() -> None:
    judge = judged("a = 1")
    assert "a" in judge.root
    judge.verdict()


def test_unknown_keys_below_every_opened_table_are_told() -> None:
    judge = judged("[t]\nx = 1\n[[rows]]\ny = 2")
    judge.root.table("t")
    judge.root.tables("rows")
    assert [line.split(":")[1] for line in problems_of(judge)] == ["2", "4"]


def test_reprs_say_where_reading_stands() -> None:
    document = TomlDocument("a = 1", file="f.toml", data={"a": 1})
    judge = Judge(document)
    judge.root.problem("a", found="x", expected="y", remedy="z")
    assert "f.toml" in repr(document)
    assert repr(judge) == "<Judge of f.toml, 1 problems>"
    assert repr(Table(judge, ("t",), {})) == "<Table t, asked for []>"


# --- words -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("a\nb", 'the string "a\\nb"'),
        ('"\\', 'the string "\\"\\\\"'),
        ("\u202e\x1b[31m", 'the string "\\u202e\\x1b[31m"'),
        ("x" * 100, 'the string "' + "x" * 80 + '…"'),
        (True, "true"),
        (False, "false"),
        (12, "12"),
        (-(1 << 63), "a number beyond 64 bits"),
        (1.5, "1.5"),
        ([[[]]], "an array"),
        ({}, "a table"),
    ],
)
def test_a_value_is_shown_short_and_safe(value: object, words: str) -> None:
    assert describe(value) == words


def test_a_number_too_long_to_print_is_named() -> None:
    assert describe(1 << 20_000) == "a number beyond 64 bits"


@given(st.text())
def test_quoted_text_forges_no_line(text: str) -> None:
    assert quote(text).isprintable()


def test_a_key_of_any_length_is_shown_short() -> None:
    assert len(where(("k" * 100_000,))) < 100


def test_where_quotes_what_is_not_bare() -> None:
    assert where(("inbound", 0, "na me", "x")) == 'inbound[0]."na me".x'
    assert where(()) == ""
    assert len(where(("a",) * 1000)) < 100


def test_a_problem_names_its_file() -> None:
    judge = judged("x = 1")
    assert "yes" not in judge.root
    with pytest.raises(FaultyInput) as refusal:
        judge.verdict()
    assert refusal.value.problems == (
        Problem("f.toml", 'the unknown key "x"', "one of yes", "Remove it", line=1, where="x"),
    )

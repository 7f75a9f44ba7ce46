# SPDX-License-Identifier: Apache-2.0
"""Questions about recordings with known calls, and what is printed of the answers."""

from __future__ import annotations

import csv
import io
import json

import pytest
from harness.recordings import AT_FDCWD, as_recorded, call, ended, opened, record, signalled

from kwatch.cli import main
from kwatch.errors import UsageError
from kwatch.model.traced_call import Moment
from kwatch.recording.columns import HIDDEN, columns
from kwatch.recording.manifest import open_recording
from kwatch.recording.query import Database
from kwatch.recording.schema import MEANINGS, TABLES
from kwatch.sinks.trace_lines import LineStyle, TraceLines
from kwatch.syscalls import names
from kwatch.syscalls.first_arguments import first_words
from kwatch.wire.events import Abi, EventType
from kwatch.wire.maps import CALL_NUMBERS

BATCH = [
    opened(b"/etc/passwd"),
    call("read", 3, 4096, 100, result=5, pieces={7: b"hello"}, duration_ns=2000),
    opened(b"/n\xffn\\e", fd=-2),
    call("mmap", 0, 4096, 1, 2, 0xFFFFFFFF, 0, result=-1),
    call("dup2", 0xDEAD00000003, 7, result=7),
    call("lseek", 3, 2**64 - 100, 0, result=-22, tid=101, comm=b"other"),
    call("pause", type=EventType.SYSCALL_UNFINISHED),
    signalled(17),
    call("exit_group", 3),
    ended(3 << 8),
    ended(9, tid=101),
]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return record(tmp_path_factory.mktemp("query") / "run", BATCH, lost={"syscall_lost": 7})


@pytest.fixture(scope="module")
def database(run):
    made = Database(open_recording(run), 32, lambda: None)
    yield made
    made.close()


def rows(database, sql):
    return list(database.answer(sql).rows)


def test_every_table_and_column_has_a_meaning():
    assert set(columns()) == set(MEANINGS) == set(TABLES)
    for table, schema in TABLES.items():
        listed = {column.name for column in columns()[table]}
        stored = {column.name for column in columns()[table] if not column.expression}
        assert stored - {"host", "day"} == set(schema.names) - set(HIDDEN.get(table, ()))
        assert len(listed) == len(columns()[table])
        assert all(column.meaning for column in columns()[table])


@pytest.mark.parametrize("table", TABLES)
def test_a_table_has_its_columns(database, table):
    assert list(database.answer(f"from {table}").names) == [c.name for c in columns()[table]]


def test_the_text_is_that_of_show(database):
    stream = io.StringIO()
    wanted = [each for each in as_recorded(BATCH) if each.name]
    for each in wanted:
        TraceLines(stream, LineStyle()).write([each])
    found = rows(database, "select text from syscalls order by seq")
    assert [text for (text,) in found] == stream.getvalue().splitlines()
    assert len(found) == sum(each.moment is not Moment.SIGNAL for each in wanted) == 8


def test_texts_of_more_rows_than_duckdb_takes_at_once(tmp_path):
    path = record(tmp_path / "run", [opened(b"/%d" % number) for number in range(5000)])
    database = Database(open_recording(path), 32, lambda: None)
    found = rows(database, "select text, path from syscalls order by ts_ns")
    assert all(f'"{path}"' in text for text, path in found)
    assert [path for _, path in found] == [f"/{number}" for number in range(5000)]
    database.close()


def test_what_a_call_has(database):
    sql = (
        "select name, fd, path, error, ret, comm, tid, kind, duration_ns from syscalls order by seq"
    )
    assert rows(database, sql) == [
        ("openat", -100, "/etc/passwd", None, 3, "cat", 100, "call", 1000),
        ("read", 3, None, None, 5, "cat", 100, "call", 2000),
        ("openat", -100, r"/n\xffn\\e", "ENOENT", -2, "cat", 100, "call", 1000),
        ("mmap", -1, None, "EPERM", -1, "cat", 100, "call", 1000),
        ("dup2", 3, None, None, 7, "cat", 100, "call", 1000),
        ("lseek", 3, None, "EINVAL", -22, "other", 101, "call", 1000),
        ("pause", None, None, None, None, "cat", 100, "unfinished", None),
        ("exit_group", None, None, None, None, "cat", 100, "call", None),
    ]


def test_registers_and_hexadecimal_numbers(database):
    assert rows(database, "select name from syscalls where arg1 = 0xffffffffffffff9c") == [
        ("lseek",)
    ]
    found = rows(database, f"select count(*) from syscalls where arg0 = {AT_FDCWD:#x}")
    assert found == [(2,)]


@pytest.mark.parametrize("abi", Abi)
def test_the_descriptor_of_every_call(tmp_path, abi):
    """That of the filter of `kwatch trace`, which is written in Python."""
    registers = (10, 11, 12, 13, 14, 0xFFFFFFF0)
    batch = [
        call("read", abi=abi, nr=nr, arguments=registers)
        for nr in range(CALL_NUMBERS)
        if not names.name(abi, nr).startswith("syscall_")
    ]
    database = Database(open_recording(record(tmp_path / "run", batch)), 32, lambda: None)
    found = rows(database, "select nr, fd from syscalls")
    assert len(found) > 300
    signed = (*registers[:5], -16)
    for nr, fd in found:
        word, _ = first_words(abi, nr)
        assert fd == (None if word is None else signed[word]), names.name(abi, nr)
    database.close()


def test_times_and_places(database):
    sql = (
        "select epoch_ns(ts) // 1000 = ts_ns // 1000, host <> '', day > '2020-01-01' from syscalls"
    )
    assert set(rows(database, sql)) == {(True, True, True)}


def test_the_other_tables(database):
    assert rows(database, "select signal, name from signals") == [(17, "SIGCHLD")]
    ends = rows(database, "select tid, status, code, killed_by from exits order by tid")
    assert ends == [(100, 768, 3, None), (101, 9, None, "SIGKILL")]
    assert rows(database, "select pid, comm, exe, ended from processes") == [
        (100, "cat", "/usr/bin/cat", False)
    ]
    assert rows(database, "select cause, events from losses") == [("syscall_lost", 7)]
    found = rows(database, "select arguments from calls where name = 'openat' and abi = 'x86_64'")
    assert found[0][0][:2] == ["dfd", "filename"]


def test_a_directory_with_marks_in_its_name(tmp_path):
    """DuckDB would take them for a pattern, or for the end of a string."""
    path = record(tmp_path / "it's [1]*?{a,b}", BATCH)
    database = Database(open_recording(path), 32, lambda: None)
    assert rows(database, "select count(*) from syscalls") == [(8,)]
    database.close()


def test_a_table_without_files(tmp_path):
    """Its columns are there, with the same types."""
    path = record(tmp_path / "run", [ended()])
    database = Database(open_recording(path), 32, lambda: None)
    assert rows(database, "select fd, text, host from syscalls") == []
    assert rows(database, "select count(*) from exits") == [(1,)]
    assert dict(database.columns("syscalls"))["fd"] == "INTEGER"
    database.close()


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("selec", r"syntax error at or near \"selec\"\n.*LINE 1: selec\n.*\^\^"),
        ("select nothing from syscalls", r"\"nothing\" not found"),
        ("select cast('x' as int)", "Could not convert"),
        ("select error::int from syscalls", "Could not convert"),
        ("select 1; select 2", "several statements"),
        ("-- nothing", "no statement"),
        ("set threads = 1", "cannot be SET"),
        ("attach 'x.db'", "cannot be ATTACH"),
        ("install httpfs", "cannot be"),
        ("create table t as select 1", "cannot be CREATE"),
        ("drop view syscalls", "cannot be DROP"),
    ],
)
def test_a_query_that_cannot_be_answered(database, sql, message):
    with pytest.raises(UsageError, match=message) as caught:
        rows(database, sql)
    assert caught.value.hint


@pytest.mark.parametrize(
    "sql",
    ["with a as (from exits) from a", "pivot exits on tid using count(*)", "explain from exits",
     "summarize exits", "describe exits", "show tables", "values (1)"],
)  # fmt: skip
def test_what_else_is_a_query(database, sql):
    assert rows(database, sql)


def test_a_copy_can_be_written(database, tmp_path):
    rows(database, f"copy (select name from syscalls) to '{tmp_path}/names.csv'")
    assert (tmp_path / "names.csv").read_text().split()[:3] == ["name", "openat", "read"]


def test_a_signal_ends_a_query(run):
    """The check raises, DuckDB stops, and the next query is answered."""

    class Stop(BaseException):
        pass

    looks = []

    def check():
        looks.append(1)
        if len(looks) == 1:
            raise Stop

    database = Database(open_recording(run), 32, check)
    with pytest.raises(Stop):
        rows(database, "select count(*) from range(100000000) a, range(100000) b where a < b")
    assert rows(database, "select count(*) from exits") == [(2,)]
    database.close()


def printed(capsys, *words):
    assert main(["query", *words]) == 0
    found = capsys.readouterr()
    assert "kwatch: the recording is not complete: 7 syscall_lost" in found.err
    return found.out


def test_a_table(run, capsys):
    sql = "select name, ret, ret::double / 2 as half, error from syscalls order by seq limit 3"
    assert printed(capsys, run, sql).splitlines() == [
        " name   |   ret |   half | error",
        "--------+-------+--------+---------",
        " openat |     3 |    1.5 |",
        " read   |     5 |    2.5 |",
        " openat |    -2 |   -1.0 | ENOENT",
        "(3 rows)",
    ]
    assert printed(capsys, run, "select 1 as a where false").splitlines()[-1] == "(0 rows)"
    assert "\x1b" not in printed(capsys, run, "select chr(27) || '[2J', chr(27) as \"\x1b[2J\"")


def test_a_table_is_not_endless(run, capsys, monkeypatch):
    monkeypatch.setattr("kwatch.commands.query.output._MAX_ROWS", 3)
    assert main(["query", run, "from range(5)"]) == 0
    found = capsys.readouterr()
    assert "(3 rows)" in found.out
    assert "the table has the first 3 rows" in found.err


def test_comma_separated_values(run, capsys):
    sql = "select 'a,\"b\"' as x, null as n, 9007199254740993 as i, true as t, '\\xff'::blob as b"
    out = printed(capsys, run, "--csv", sql)
    assert list(csv.reader(io.StringIO(out)))[1] == [
        'a,"b"',
        "",
        "9007199254740993",
        "true",
        "\\xff",
    ]
    assert len(printed(capsys, run, "--csv", "from syscalls").splitlines()) == 9


def test_json(run, capsys):
    sql = """select 9223372036854775807 as big, sum(9223372036854775807) as huge, 0.5 as half,
        null as n, true as t, '\\x00a'::blob as b, [1, null] as l, {'k': 'v'} as s,
        'nan'::double as nan, timestamp '2026-01-02 03:04:05.678' as ts, date '2026-01-02' as d
        from range(2)"""
    (line,) = printed(capsys, run, sql, "--json").splitlines()
    assert json.loads(line) == {
        "big": 9223372036854775807,
        "huge": 2 * 9223372036854775807,
        "half": 0.5,
        "n": None,
        "t": True,
        "b": "\\x00a",
        "l": [1, None],
        "s": {"k": "v"},
        "nan": None,
        "ts": "2026-01-02 03:04:05.678000",
        "d": "2026-01-02",
    }
    lines = printed(capsys, run, "--json", "from signals").splitlines()
    assert json.loads(lines[0])["siginfo"] == "\\x00" * 48


def test_a_file(run, capsys, tmp_path):
    assert printed(capsys, run, "--csv", "-o", str(tmp_path / "out"), "select 1 as a") == ""
    assert (tmp_path / "out").read_text() == "a\n1\n"


def test_the_list_of_tables(run, capsys):
    lines = printed(capsys, run, "--tables", "--json").splitlines()
    found = [json.loads(line) for line in lines]
    assert {each["table"] for each in found} == set(TABLES)
    (text,) = [each for each in found if each["column"] == "text"]
    assert (text["type"], text["meaning"]) == ("VARCHAR", "the line that `kwatch show` prints")


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["selec"], 2, "LINE 1: selec"),
        ([], 2, "required: SQL"),
        (["--tables", "select 1"], 2, "--tables takes no SQL"),
        (["select 1", "--csv", "--json"], 2, "not allowed with"),
        (["select 1", "-s", "x"], 2, "-s 'x'"),
        (["select 1", "-o", "/nonexistent/file"], 1, "cannot be written"),
        (["select 1", "-o", "/dev/full"], 1, "cannot be written"),
        (["copy (select 1) to '/nonexistent/file'"], 1, "Cannot open file"),
    ],
)
def test_errors(run, capsys, words, status, message):
    assert main(["query", run, *words]) == status
    found = capsys.readouterr()
    assert message in found.err
    assert found.out == ""

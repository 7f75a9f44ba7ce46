# SPDX-License-Identifier: Apache-2.0
"""The queries of docs/case-studies.md find the defects of the programs that it names."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

PAGE = Path(__file__).resolve().parents[2] / "docs" / "case-studies.md"
QUERIES = dict(re.findall(r"```sql\n-- (\S+)\n(.*?)```", PAGE.read_text(), re.DOTALL))
MAX_NAME = 16
FILES = 61
EMPTY = "part17.c"


@pytest.fixture
def ask(run_kwatch, tmp_path):
    """ask(NAME) returns the rows of the page's query over the recording in tmp_path / "run"."""

    def rows(name):
        options = ("--json", "-s", "64", QUERIES[name])
        result = run_kwatch("query", tmp_path / "run", *options).finish()
        assert result.status == 0, result.stderr
        return [json.loads(line) for line in result.stdout]

    return rows


def test_the_read_that_overflowed_a_copy(program, run_kwatch, tmp_path, ask):
    """The program says which message it was by the bytes that it found behind the copy."""
    command = [program("overflow"), tmp_path, "tell"]
    kwatch = run_kwatch("record", tmp_path / "run", "-f", "--content", "64", "--", *command)
    recorded = kwatch.finish()
    assert recorded.status == 1  # of the program
    message = f"a message of 40 bytes, number {recorded.answers['message']:10d}"
    (found,) = ask("overflow.sql")
    assert (found["length"], found["text"]) == (40, f'read(4, "{message}", 64) = 40')
    assert found["tid"] != found["copied_by"]
    assert (tmp_path / "names").read_text().endswith(message)
    before = ask("before.sql")
    copier = [row for row in before if row["tid"] == found["copied_by"]]
    assert [row["text"].split("(")[0] for row in copier] == ["write", "clock_nanosleep", "write"]
    last_note = (tmp_path / "notes").read_text().splitlines()[-1]
    assert copier[0]["text"].startswith(f'write(5, "{last_note}\\n"')
    assert int(last_note.split()[0]) <= MAX_NAME
    assert copier[-1]["text"] == f'write(6, "{message}", 40) = 40'
    (read,) = [row for row in before if row["text"] == found["text"]]
    assert read["end_us"] < copier[-1]["begin_us"] == 0


def test_the_file_that_a_program_cannot_read(program, run_kwatch, tmp_path, ask):
    folder = tmp_path / "src"
    folder.mkdir()
    for number in range(FILES):
        (folder / f"part{number}.c").write_text("int part(void) { return 1; }\n" * (number + 1))
    (folder / EMPTY).write_text("")
    kwatch = run_kwatch("record", tmp_path / "run", "-f", "--", program("checker"), folder)
    recorded = kwatch.finish()
    assert recorded.status == 1  # of the program
    assert "checker: Invalid argument" in recorded.stderr
    (found,) = ask("failed.sql")
    assert found["path"] == str(folder / EMPTY)
    assert re.fullmatch(
        r"mmap\(NULL, 0, PROT_READ, MAP_PRIVATE, \d, 0\) = -1 EINVAL .*", found["text"]
    )
    (pid,) = re.findall(r"\[(\d+)\]", recorded.stderr[0])
    assert found["tid"] != int(pid)

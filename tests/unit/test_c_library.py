# SPDX-License-Identifier: Apache-2.0
"""Who owns what the C library allocates."""

from __future__ import annotations

import pytest
from harness.compiled import compile_c, run

from kwatch.elf.elf import Elf
from kwatch.model.c_library import HANDED, KEPT, Owner, is_c_library, owner
from kwatch.model.frame import Frame
from kwatch.symbols.tail_calls import TailCalls

LIBC = "/usr/lib/x86_64-linux-gnu/libc.so.6"
LOADER = "/lib64/ld-linux-x86-64.so.2"


def library(names):
    """Frames of the C library, innermost first. `?` and `LOADER` are functions without names."""
    return [
        Frame(1, "" if name in ("?", "LOADER") else name, 0, LOADER if name == "LOADER" else LIBC)
        for name in names.split()
    ]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ("strdup", Owner.CALLER),
        ("__GI___strdup", Owner.CALLER),
        ("__getdelim getline", Owner.CALLER),
        ("__vasprintf_internal ___asprintf_chk", Owner.CALLER),
        ("__alloc_dir opendir_tail", Owner.CALLER),
        ("? opendir", Owner.CALLER),
        ("fopen@@GLIBC_2.2.5", Owner.CALLER),
        ("_IO_new_fopen64", Owner.CALLER),
        ("__isoc99_sscanf", Owner.CALLER),
        ("__strdup realpath_stk realpath", Owner.CALLER),
        ("fdopen tmpfile", Owner.CALLER),
        ("? ? ? regcomp", Owner.CALLER),
        ("generate_addrinfo gaih_inet getaddrinfo", Owner.CALLER),
        ("__newlocale", Owner.CALLER),
        ("__gconv_open iconv_open", Owner.CALLER),
        ("__tsearch", Owner.CALLER),
        ("__tsearch __add_to_environ", Owner.LIBRARY),
        ("__strdup setlocale", Owner.LIBRARY),
        ("__strdup tzset_internal tzset", Owner.LIBRARY),
        ("? ? localtime_r", Owner.LIBRARY),
        ("__asprintf dlerror", Owner.LIBRARY),
        ("? ? __newlocale", Owner.LIBRARY),
        ("? ? ? ? iconv_open", Owner.LIBRARY),
        ("_dl_new_object _dl_map_object iconv_open", Owner.LIBRARY),
        ("LOADER ? __gconv_open iconv_open", Owner.LIBRARY),
        ("__resolv_conf_load getaddrinfo", Owner.LIBRARY),
        ("__nss_module_allocate getpwnam_r getpwnam", Owner.LIBRARY),
        ("_IO_file_doallocate fgets", Owner.LIBRARY),
        ("__new_exitfn __cxa_atexit", Owner.LIBRARY),
        ("allocate_dtv", Owner.LIBRARY),
        ("strdup some_function", Owner.UNKNOWN),
        ("?", Owner.UNKNOWN),
        ("", Owner.UNKNOWN),
    ],
)
def test_the_called_function_tells_who_owns_it(names, expected):
    assert owner(library(names)) is expected


def test_no_function_is_in_two_rows():
    names = [name for row in HANDED for name in row.functions.split()]
    names += [name for row in KEPT for name in row.functions.split()]
    assert sorted(names) == sorted(set(names))
    assert all(row.released_by for row in HANDED)


@pytest.mark.parametrize(
    ("module", "belongs"),
    [
        (LIBC, True),
        (LOADER, True),
        ("/lib/ld-musl-aarch64.so.1", True),
        ("/lib/libc.musl-x86_64.so.1", True),
        ("/lib/x86_64-linux-gnu/libc-2.31.so", True),
        ("/nix/store/abc-glibc-2.38/lib/libc.so.6", True),
        ("/lib/x86_64-linux-gnu/libnss_systemd.so.2", True),
        ("/usr/lib/libc++.so.1", False),
        ("/usr/lib/libcurl.so.4", False),
        ("/opt/ldlib.so", False),
        ("/srv/app", False),
        ("", False),
    ],
)
def test_files_of_the_c_library(module, belongs):
    assert is_c_library(Frame(1, "strdup", 0, module)) is belongs


JUMPS = """
#define HIDDEN __attribute__((noinline, visibility("hidden")))
extern void *allocate(long), *volatile kept;
HIDDEN void *open_it(const char *name, const char *mode, long wide) {
    kept = allocate(wide + 1);
    return name == mode ? kept : 0;
}
HIDDEN void *keep_it(long size) { kept = allocate(size + 2); return kept; }
HIDDEN void *either(long size) { kept = allocate(size + 3); return kept; }
void *fopen(const char *name, const char *mode) { return open_it(name, mode, 17); }
void *setenv(long size) { return size > 5 ? keep_it(size - 3) : either(size); }
void *strdup(long size) { return either(size * 3); }
"""


@pytest.mark.parametrize(
    ("hidden", "name"), [("open_it", "fopen"), ("keep_it", "setenv"), ("either", "")]
)
def test_what_a_public_function_jumps_to_has_its_name(tmp_path, hidden, name):
    """Unless functions that differ in ownership jump there."""
    path = compile_c(tmp_path / "libc.so.6", "-shared", "-fPIC", "-fno-builtin", source=JUMPS)
    start = next(
        int(line.split()[0], 16)
        for line in run("nm", path).splitlines()
        if line.split()[-1] == hidden
    )
    run("strip", path)
    with Elf.open(str(path)) as elf:
        found = TailCalls(elf).find(start + 4)
        assert found == ((name, 4) if name else None)
        assert TailCalls(elf).find(1) is None

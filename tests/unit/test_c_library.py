# SPDX-License-Identifier: Apache-2.0
"""What belongs to the C library, and what it keeps."""

from __future__ import annotations

import pytest
from harness.compiled import compile_c, run

from kwatch.elf.elf import Elf
from kwatch.model.c_library import PUBLIC_FUNCTIONS, has_c_name, is_c_library, keeps
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
        ("strdup", False),
        ("__GI___strdup", False),
        ("__getdelim getline", False),
        ("__vasprintf_internal ___asprintf_chk", False),
        ("__alloc_dir opendir_tail", False),
        ("? opendir", False),
        ("fopen@@GLIBC_2.2.5", False),
        ("_IO_new_fopen64", False),
        ("__isoc99_sscanf", False),
        ("__strdup realpath_stk realpath", False),
        ("fdopen tmpfile", False),
        ("? ? ? regcomp", False),
        ("generate_addrinfo gaih_inet getaddrinfo", False),
        ("__newlocale", False),
        ("__gconv_open iconv_open", False),
        ("__tsearch", False),
        ("__tsearch __add_to_environ", True),
        ("__strdup setlocale", True),
        ("__strdup tzset_internal tzset", True),
        ("? ? localtime_r", True),
        ("__asprintf dlerror", True),
        ("? ? __newlocale", True),
        ("? ? ? ? iconv_open", True),
        ("_dl_new_object _dl_map_object iconv_open", True),
        ("LOADER ? __gconv_open iconv_open", True),
        ("__resolv_conf_load getaddrinfo", True),
        ("__nss_module_allocate getpwnam_r getpwnam", True),
        ("_IO_file_doallocate fgets", True),
        ("__new_exitfn __cxa_atexit", True),
        ("allocate_dtv", True),
        ("strdup some_function", False),
        ("?", False),
        ("", False),
    ],
)
def test_the_called_function_tells_whether_the_library_keeps_it(names, expected):
    assert keeps(library(names)) is expected


@pytest.mark.parametrize(
    ("symbol", "belongs"),
    [
        ("strdup", True),
        ("setenv", True),
        ("__libc_start_call_main", True),
        ("vasprintf_internal", True),
        ("tzset_internal", True),
        ("dl_list_add", False),
        ("main", False),
        ("", False),
    ],
)
def test_functions_of_the_c_library_in_a_static_program(symbol, belongs):
    assert has_c_name(Frame(1, symbol, 0, "/srv/app")) is belongs


def test_public_functions_have_names_for_large_files():
    assert {"fopen", "fopen64", "setenv", "getaddrinfo"} <= PUBLIC_FUNCTIONS


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
    """Unless a function whose result the library keeps, and another one, jump there."""
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

# SPDX-License-Identifier: Apache-2.0
"""Names of wrappers, of standard libraries, and of code in no file."""

from __future__ import annotations

import pytest

from kwatch.model.frame import Frame
from kwatch.model.frame_roles import (
    is_application,
    is_in_no_file,
    is_standard,
    is_wrapper,
    relevant_frames,
)

PROGRAM = "/srv/app"

WRAPPERS = """zmalloc zcalloc xstrdup g_malloc0 ngx_palloc ngx_palloc_small ngx_memalign av_mallocz
_PyObject_Malloc PyMem_RawMalloc PyMem_Calloc PyType_GenericAlloc _PyObject_GC_NewVar CRYPTO_zalloc
sqlite3DbMallocRaw zcalloc_num AllocateHeap av_mallocz_array g_malloc0_n g_strdup_printf xasprintf
xrealloc MemoryContextAllocZero MemoryContextAllocExtended zmalloc_usable g_memdup2 g_slice_new0
ztrymalloc_usable_internal ruby_xmalloc2 AllocSetContextCreateInternal""".split()
OTHERS = """update_alloc_stats load_alloc_table TotalLocked CallOcaml PyObject_Dealloc deallocate
main strdup_lost PyList_New""".split()


@pytest.mark.parametrize(
    ("name", "wraps"),
    [
        *[(name, True) for name in WRAPPERS],
        *[(name, False) for name in OTHERS],
        ("os::malloc(unsigned long, MEMFLAGS)", True),
        ("<app::Counting as core::alloc::global::GlobalAlloc>::alloc", True),
        ("<app::Pool<T> as core::alloc::global::GlobalAlloc>::realloc", True),
        ("<&app::Bump as allocator_api2::alloc::Allocator>::allocate", True),
        ("<app::Counting as core::alloc::global::GlobalAlloc>::dealloc", False),
        ("<app::Table as app::Grow>::alloc_rows", False),
        ("parse::<alloc::vec::Vec<u8>>", False),
        ("std::vector<int, MyAlloc<int> >::push_back", False),
    ],
)
def test_names_of_wrappers(name, wraps):
    assert is_wrapper(Frame(1, name)) is wraps


RUSTS = """alloc::raw_vec::RawVec<T,A>::grow_amortized
alloc::raw_vec::finish_grow
<alloc::raw_vec::RawVecInner>::try_allocate_in
<alloc::vec::Vec<app::Row> as core::clone::Clone>::clone
<T as alloc::slice::hack::ConvertVec>::to_vec
<u8 as alloc::vec::spec_from_elem::SpecFromElem>::from_elem
<[T] as alloc::borrow::ToOwned>::to_owned
<&mut W as core::fmt::Write>::write_str
<core::iter::adapters::map::Map<I,F> as core::iter::traits::iterator::Iterator>::fold
hashbrown::raw::RawTable<T,A>::reserve_rehash
std::collections::hash::map::HashMap<K,V,S>::insert
alloc[5f2e6ca4d4a8e6cd]::vec::in_place_collect::from_iter
core::ops::function::FnOnce::call_once{{vtable.shim}}""".splitlines()
RUST_PROGRAMS = """app::cache::insert
<app::Row as core::clone::Clone>::clone
<app::Row as core::convert::From<alloc::string::String>>::from
<&app::Row as core::fmt::Display>::fmt
<app::Cache<K,V>>::insert
app::main::{{closure}}
allocator::grow""".splitlines()
CPPS = """std::vector<Row, std::allocator<Row> >::_M_realloc_insert(Row const&)
void std::vector<int>::emplace_back<int>(int&&)
std::pair<int, bool> std::_Rb_tree<int, int>::_M_insert_unique<int const&>(int const&)
std::__cxx11::basic_string<char>::_M_create(unsigned long&, unsigned long)
__gnu_cxx::new_allocator<char>::allocate(unsigned long, void const*)
std::ostream& std::operator<< <char>(std::ostream&, char const*)
std::map<int, int>::operator[](int const&)
std::function<void ()>::operator()() const
std::vector<bool>::reference::operator bool() const
std::string::reserve(unsigned long) [clone .isra.0]""".splitlines()
CPP_PROGRAMS = """remember(long)
std::vector<int> make_numbers<int>(int)
app::std_cache::insert(std::string const&)
core::Engine::load(char const*)
alloc::Pool::take(int)
Cache<std::string>::insert(std::string const&)
(anonymous namespace)::load()
app::Matrix operator*<int>(app::Matrix const&, int)""".splitlines()


@pytest.mark.parametrize("name", [*RUSTS, *CPPS])
def test_names_of_standard_libraries(name):
    assert is_standard(Frame(1, name, module=PROGRAM))


@pytest.mark.parametrize("name", [*RUST_PROGRAMS, *CPP_PROGRAMS, "main", ""])
def test_names_of_programs(name):
    assert not is_standard(Frame(1, name, module=PROGRAM))


@pytest.mark.parametrize(
    ("file", "standard"),
    [
        ("/usr/include/x86_64-linux-gnu/bits/stdio.h", True),
        ("/usr/include/bits/stdio2.h", True),
        ("/usr/include/c++/12/bits/stl_vector.h", True),
        ("/src/app/bits.c", False),
    ],
)
def test_inlined_headers_belong_to_their_library(file, standard):
    assert is_standard(Frame(1, "getline", module=PROGRAM, file=file, line=7)) is standard


def test_a_rust_program_without_debug_information_shows_its_own_functions():
    names = [
        "__rust_alloc",
        "<alloc::raw_vec::RawVecInner>::try_allocate_in",
        "<u8 as alloc::vec::spec_from_elem::SpecFromElem>::from_elem",
        "app::remember",
        "app::main",
        "std::sys::backtrace::__rust_begin_short_backtrace",
        "std::rt::lang_start::{{closure}}",
        "main",
        "__libc_start_call_main",
    ]
    shown = relevant_frames([Frame(number, name, 0, PROGRAM) for number, name in enumerate(names)])
    assert [frame.symbol for frame in shown] == [
        "<u8 as alloc::vec::spec_from_elem::SpecFromElem>::from_elem",
        "app::remember",
        "app::main",
    ]


@pytest.mark.parametrize("module", ["", "//anon", "[heap]", "[anon:v8]", "/memfd:doublemapper"])
def test_code_in_no_file_is_nobodys(module):
    frame = Frame(1, "", 0, module)
    assert is_in_no_file(frame)
    assert not is_application(frame, PROGRAM)


@pytest.mark.parametrize("module", [PROGRAM, "/opt/app/librender.so", "perf-17.map"])
def test_code_with_a_name_is_the_applications(module):
    assert is_application(Frame(1, "render", 0, module), PROGRAM)

# SPDX-License-Identifier: Apache-2.0
"""Which memory the C library hands to its caller, and which it keeps for itself.

The facts are from the manual pages and the sources of glibc 2.31 to 2.41 and musl 1.2.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from kwatch.model.frame import Frame


class Owner(enum.Enum):
    """Who has to free what the C library has allocated."""

    CALLER = enum.auto()
    LIBRARY = enum.auto()
    UNKNOWN = enum.auto()


@dataclass(frozen=True, slots=True)
class Handed:
    """Functions whose caller has to free the result with `released_by`.

    `inner`: their own functions, which are their callers' place in a stack after a tail call.
    `frames`: what is allocated by more frames of the C library than this stays in its tables.
    """

    functions: str
    released_by: str
    inner: str = ""
    frames: int = 1000


@dataclass(frozen=True, slots=True)
class Kept:
    """Functions that fill a table which lives as long as the process or thread.

    `inner`: a regular expression of their own functions.
    """

    functions: str
    table: str
    inner: str = ""


HANDED: tuple[Handed, ...] = (
    Handed("strdup strndup wcsdup", "free"),
    Handed("asprintf vasprintf", "free", "vasprintf_internal"),
    Handed("getline getdelim", "free"),
    Handed("scanf fscanf sscanf vscanf vfscanf vsscanf", "free", "vfscanf_internal"),
    Handed("realpath canonicalize_file_name", "free", "realpath_stk"),
    Handed("getcwd get_current_dir_name", "free"),
    Handed("tempnam", "free"),
    Handed("backtrace_symbols", "free"),
    Handed("argz_create argz_create_sep argz_add argz_append argz_insert argz_replace", "free"),
    Handed("envz_add envz_merge", "free"),
    Handed("fopen fdopen freopen tmpfile fmemopen fopencookie", "fclose", "fopen_internal"),
    Handed("open_memstream open_wmemstream", "fclose and free"),
    Handed("popen", "pclose", "proc_open"),
    Handed("setmntent", "endmntent"),
    Handed("opendir fdopendir", "closedir", "alloc_dir opendir_tail"),
    Handed("scandir scandirat", "free", "scandir_tail scandir64_tail"),
    Handed("fts_open fts_read fts_children", "fts_close"),
    Handed("glob", "globfree", "glob_in_dir prefix_array"),
    Handed("wordexp", "wordfree", "w_addchar w_addword"),
    Handed("regcomp re_compile_pattern re_search", "regfree", "re_compile_internal tre_compile"),
    Handed("getaddrinfo", "freeaddrinfo", "gaih_inet generate_addrinfo", frames=3),
    Handed("getifaddrs", "freeifaddrs", "getifaddrs_internal"),
    Handed("if_nameindex", "if_freenameindex", "if_nameindex_netlink"),
    Handed("newlocale duplocale", "freelocale", frames=1),
    Handed("iconv_open", "iconv_close", "gconv_open", frames=2),
    Handed("catopen", "catclose"),
    Handed("tsearch", "tdelete"),
    Handed("hcreate hcreate_r", "hdestroy"),
    Handed("sem_open", "sem_close"),
    Handed("timer_create", "timer_delete"),
    Handed("pthread_getattr_np pthread_attr_setaffinity_np", "pthread_attr_destroy"),
    Handed(
        "posix_spawn_file_actions_addopen posix_spawn_file_actions_adddup2"
        " posix_spawn_file_actions_addclose posix_spawn_file_actions_addchdir_np",
        "posix_spawn_file_actions_destroy",
    ),
    Handed("res_ninit", "res_nclose"),
)

KEPT: tuple[Kept, ...] = (
    Kept("setenv putenv unsetenv clearenv", "the environment", "add_to_environ|env_rm_add"),
    Kept(
        "tzset localtime localtime_r mktime ctime ctime_r timelocal timegm strftime",
        "the time zone",
        r"tz(set|file|string)_\w+|do_tzset|tz_convert",
    ),
    Kept(
        "setlocale bindtextdomain bind_textdomain_codeset textdomain gettext dgettext dcgettext"
        " ngettext dngettext dcngettext nl_langinfo catgets",
        "locales and messages",
        r"nl_\w+|dci?gettext|get_locale|read_alias_file|extend_alias_table|composite_name",
    ),
    Kept("", "conversions of iconv", r"gconv_(?!open$)\w+|find_module|gconv_init"),
    Kept(
        "atexit on_exit at_quick_exit __cxa_atexit __cxa_at_quick_exit __cxa_thread_atexit_impl",
        "what runs at the exit",
        "internal_atexit|exitfn",
    ),
    Kept(
        "dlopen dlmopen dlclose dlsym dlvsym dlerror dladdr dladdr1 dlinfo dl_iterate_phdr",
        "loaded libraries",
        r"dl\w*_\w+|load_(library|deps)|tls_get_addr",
    ),
    Kept(
        "getpwnam getpwuid getpwent getgrnam getgrgid getgrent getspnam getspent getservbyname"
        " getservbyport getservent getprotobyname getprotobynumber getprotoent gethostbyname"
        " gethostbyname2 gethostbyaddr gethostent getnetbyname getnetbyaddr getnetent getrpcbyname"
        " getpwnam_r getpwuid_r getgrnam_r getgrgid_r getservbyname_r getservbyport_r"
        " gethostbyname_r gethostbyname2_r gethostbyaddr_r getnameinfo getnetgrent setnetgrent"
        " innetgr initgroups getgrouplist setpwent setgrent endpwent endgrent",
        "name services",
        r"nss_\w+|resolv_\w+|res_(?!ninit)\w+|global_state_allocate|allocate_once_slow",
    ),
    Kept("ungetc ungetwc", "buffers of streams", r"w?(file|default)_doallocate|\w+_backup_area"),
    Kept("openlog syslog vsyslog closelog", "the system log", r"vsyslog_internal|openlog_internal"),
    Kept(
        "getmntent getpass getlogin ttyname ptsname strerror strsignal psignal getutent getutxent"
        " getusershell getfsent getttyent l64a error hsearch register_printf_function"
        " register_printf_specifier register_printf_type",
        "results that the next call replaces",
    ),
    Kept("pthread_setspecific tss_set pthread_key_create allocate_dtv", "storage of threads"),
)

#: A table that has more bytes from one stack grows: with ever new values of setenv(), for example.
MAX_KEPT_BYTES = 1 << 20

_MODULES = re.compile(
    r"lib(c|pthread|dl|rt|resolv|nss_\w+)(\.so\.\d+|-2\.\d+\.so)|libc(\.musl[\w.-]*)?\.so(\.\d+)?"
    r"|ld(-linux[\w.-]*|-musl[\w.-]*|64|-2\.\d+)?\.so(\.\d+)?"
)
#: glibc's loader is a file of its own; musl's is the C library.
_LOADER = re.compile(r"ld(-linux[\w.-]*|64|-2\.\d+)?\.so(\.\d+)?")

_DECORATION = re.compile(
    r"_*(GI_+|IO_|new_|libc_|isoc\d\d_)*(?P<name>\w+?)(64)?(_chk)?(\.\w+(\.\d+)?|@.*)*", re.ASCII
)


@lru_cache(4096)
def _plain(symbol: str) -> str:
    """The name in the manual: `strdup` of `__GI___strdup`, `fopen` of `_IO_new_fopen64`."""
    match = _DECORATION.fullmatch(symbol)
    return match["name"] if match else symbol


#: Programs use these for names of their own.
_COMMON_PREFIXES = ("dl", "res_")

_HANDED = {name: row for row in HANDED for name in f"{row.functions} {row.inner}".split()}
#: What the C library exports under these names, also for files beyond 2 GiB.
PUBLIC_FUNCTIONS = frozenset(
    name + suffix
    for functions in [*(row.functions for row in HANDED), *(row.functions for row in KEPT)]
    for name in functions.split()
    for suffix in ("", "64")
)
_KEPT = frozenset(_plain(name) for row in KEPT for name in row.functions.split())
_KEPT_INNER = re.compile("|".join(row.inner for row in KEPT if row.inner))


def is_c_library(frame: Frame) -> bool:
    """Whether a frame is in a file of the C library, its loader among them."""
    return _is_library_file(frame.module)


def has_c_name(frame: Frame) -> bool:
    """Whether a function of a static program belongs to the C library by its name.

    Names with a leading underscore are reserved for it (C11 7.1.3).
    """
    return _is_c_name(frame.symbol)


def owner(frames: Sequence[Frame]) -> Owner:
    """Who owns what these frames of the C library allocated; the outermost is what was called."""
    names = [_plain(frame.symbol) for frame in frames]
    if any(map(_is_kept, frames, names)):
        return Owner.LIBRARY
    row = _HANDED.get(names[-1]) if names else None
    if row is None:
        return Owner.UNKNOWN
    return Owner.CALLER if len(frames) <= row.frames else Owner.LIBRARY


@lru_cache(256)
def _is_library_file(module: str) -> bool:
    return bool(_MODULES.fullmatch(module.rpartition("/")[2]))


@lru_cache(4096)
def _is_c_name(symbol: str) -> bool:
    name = _plain(symbol)
    if symbol.startswith("_") or name in _HANDED or name in _KEPT:
        return True
    return bool(_KEPT_INNER.fullmatch(name)) and not name.startswith(_COMMON_PREFIXES)


def _is_kept(frame: Frame, name: str) -> bool:
    in_loader = bool(_LOADER.fullmatch(frame.module.rpartition("/")[2]))
    return in_loader or name in _KEPT or bool(_KEPT_INNER.fullmatch(name))

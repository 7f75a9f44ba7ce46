# SPDX-License-Identifier: Apache-2.0
"""Which functions belong to the C library, and which memory it keeps for itself.

The facts are from the manual pages and the sources of glibc 2.31 to 2.41 and musl 1.2.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

from kwatch.model.frame import Frame

#: Functions whose caller has to end what they return: with `free`, `fclose` and the like.
_HANDED = (
    "strdup strndup wcsdup asprintf vasprintf getline getdelim scanf fscanf sscanf vscanf "
    "vfscanf vsscanf realpath canonicalize_file_name getcwd get_current_dir_name tempnam "
    "backtrace_symbols argz_create argz_create_sep argz_add argz_append argz_insert "
    "argz_replace envz_add envz_merge fopen fdopen freopen tmpfile fmemopen fopencookie "
    "open_memstream open_wmemstream popen setmntent opendir fdopendir scandir scandirat "
    "fts_open fts_read fts_children glob wordexp regcomp re_compile_pattern re_search "
    "getaddrinfo getifaddrs if_nameindex newlocale duplocale iconv_open catopen tsearch hcreate "
    "hcreate_r sem_open timer_create pthread_getattr_np pthread_attr_setaffinity_np "
    "posix_spawn_file_actions_addopen posix_spawn_file_actions_adddup2 "
    "posix_spawn_file_actions_addclose posix_spawn_file_actions_addchdir_np res_ninit"
).split()
#: Their own functions, which are their callers' place in a stack after a tail call.
_HANDED_INNER = (
    "vasprintf_internal vfscanf_internal realpath_stk fopen_internal proc_open alloc_dir "
    "opendir_tail scandir_tail scandir64_tail glob_in_dir prefix_array w_addchar w_addword "
    "re_compile_internal tre_compile gaih_inet generate_addrinfo getifaddrs_internal "
    "if_nameindex_netlink gconv_open"
).split()
#: What is allocated by more frames of the C library below these functions stays in its tables.
_MAX_FRAMES = {
    **dict.fromkeys("getaddrinfo gaih_inet generate_addrinfo".split(), 3),
    **dict.fromkeys("newlocale duplocale".split(), 1),
    **dict.fromkeys("iconv_open gconv_open".split(), 2),
}

#: Functions that fill a table which lives as long as the process or thread, and a pattern for their
#: own functions.
_TABLES: tuple[tuple[str, str], ...] = (
    # the environment
    (
        "setenv putenv unsetenv clearenv",
        "add_to_environ|env_rm_add",
    ),
    # the time zone
    (
        "tzset localtime localtime_r mktime ctime ctime_r timelocal timegm strftime",
        r"tz(set|file|string)_\w+|do_tzset|tz_convert",
    ),
    # locales and messages
    (
        "setlocale bindtextdomain bind_textdomain_codeset textdomain gettext dgettext dcgettext "
        "ngettext dngettext dcngettext nl_langinfo catgets",
        r"nl_\w+|dci?gettext|get_locale|read_alias_file|extend_alias_table|composite_name",
    ),
    # conversions of iconv
    (
        "",
        r"gconv_(?!open$)\w+|find_module|gconv_init",
    ),
    # what runs at the exit
    (
        "atexit on_exit at_quick_exit __cxa_atexit __cxa_at_quick_exit __cxa_thread_atexit_impl",
        "internal_atexit|exitfn",
    ),
    # loaded libraries
    (
        "dlopen dlmopen dlclose dlsym dlvsym dlerror dladdr dladdr1 dlinfo dl_iterate_phdr",
        r"dl\w*_\w+|load_(library|deps)|tls_get_addr",
    ),
    # name services
    (
        "getpwnam getpwuid getpwent getgrnam getgrgid getgrent getspnam getspent getservbyname "
        "getservbyport getservent getprotobyname getprotobynumber getprotoent gethostbyname "
        "gethostbyname2 gethostbyaddr gethostent getnetbyname getnetbyaddr getnetent getrpcbyname "
        "getpwnam_r getpwuid_r getgrnam_r getgrgid_r getservbyname_r getservbyport_r "
        "gethostbyname_r gethostbyname2_r gethostbyaddr_r getnameinfo getnetgrent setnetgrent "
        "innetgr initgroups getgrouplist setpwent setgrent endpwent endgrent",
        r"nss_\w+|resolv_\w+|res_(?!ninit)\w+|global_state_allocate|allocate_once_slow",
    ),
    # buffers of streams
    (
        "ungetc ungetwc",
        r"w?(file|default)_doallocate|\w+_backup_area",
    ),
    # the system log
    (
        "openlog syslog vsyslog closelog",
        "vsyslog_internal|openlog_internal",
    ),
    # results that the next call replaces
    (
        "getmntent getpass getlogin ttyname ptsname strerror strsignal psignal getutent getutxent "
        "getusershell getfsent getttyent l64a error hsearch register_printf_function "
        "register_printf_specifier register_printf_type",
        "",
    ),
    # storage of threads
    (
        "pthread_setspecific tss_set pthread_key_create allocate_dtv",
        "",
    ),
)

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

#: What the C library exports under these names, also for files beyond 2 GiB.
PUBLIC_FUNCTIONS = frozenset(
    name + suffix
    for name in [*_HANDED, *(name for names, _ in _TABLES for name in names.split())]
    for suffix in ("", "64")
)
_GIVEN = frozenset([*_HANDED, *_HANDED_INNER])
_KEPT = frozenset(_plain(name) for names, _ in _TABLES for name in names.split())
_KEPT_INNER = re.compile("|".join(inner for _, inner in _TABLES if inner))


def is_c_library(frame: Frame) -> bool:
    """Whether a frame is in a file of the C library, its loader among them."""
    return _is_library_file(frame.module)


def has_c_name(frame: Frame) -> bool:
    """Whether a function of a static program belongs to the C library by its name.

    Names with a leading underscore are reserved for it (C11 7.1.3).
    """
    return _is_c_name(frame.symbol)


def keeps(frames: Sequence[Frame]) -> bool:
    """Whether the C library keeps what these frames of it allocated in a table of its own.

    The outermost frame is what was called.
    """
    names = [_plain(frame.symbol) for frame in frames]
    if any(map(_is_kept, frames, names)):
        return True
    return bool(names) and len(frames) > _MAX_FRAMES.get(names[-1], len(frames))


@lru_cache(256)
def _is_library_file(module: str) -> bool:
    return bool(_MODULES.fullmatch(module.rpartition("/")[2]))


@lru_cache(4096)
def _is_c_name(symbol: str) -> bool:
    name = _plain(symbol)
    if symbol.startswith("_") or name in _GIVEN or name in _KEPT:
        return True
    return bool(_KEPT_INNER.fullmatch(name)) and not name.startswith(_COMMON_PREFIXES)


def _is_kept(frame: Frame, name: str) -> bool:
    in_loader = bool(_LOADER.fullmatch(frame.module.rpartition("/")[2]))
    return in_loader or name in _KEPT or bool(_KEPT_INNER.fullmatch(name))

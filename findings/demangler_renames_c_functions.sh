#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# __cxa_demangle() of libstdc++ 12.2.0-14+deb12u1 (Debian 12) turns the names of C functions into
# C++ types.
#
# It decodes types as well as symbols, so it does not fail for every name that is not mangled: a C
# function `f` becomes `float`. A symbolizer must test for `_Z` itself; c++filt does so. The hash of
# a Rust symbol in the old mangling comes out as one more namespace, and a symbol version makes the
# call fail.
#
# Seen:
#> f                                  float
#> i                                  int
#> z                                  ...
#> Ss                                 std::string
#> Pv                                 void*
#> main                               (fails)
#> _Z3foov                            foo()
#> _Z3foov.cold                       foo() [clone .cold]
#> _Z3foov@@LIB_1.0                   (fails)
#> _ZN4core3fmt5write17h0123456789abcdefE core::fmt::write::h0123456789abcdef
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
(cd "$dir" && apt-get -qq -o APT::Sandbox::User=root download libstdc++6=12.2.0-14+deb12u1)
dpkg -x "$dir"/libstdc++6_*.deb "$dir/root"

python3 - "$dir"/root/usr/lib/*/libstdc++.so.6 <<'PY' | tee "$dir/seen"
import ctypes
import sys

demangle = ctypes.CDLL(sys.argv[1]).__cxa_demangle
demangle.restype = ctypes.c_char_p

for name in (
    "f",
    "i",
    "z",
    "Ss",
    "Pv",
    "main",
    "_Z3foov",
    "_Z3foov.cold",
    "_Z3foov@@LIB_1.0",
    "_ZN4core3fmt5write17h0123456789abcdefE",
):
    found = demangle(name.encode(), None, None, None)
    print(f"{name:34} {found.decode() if found else '(fails)'}")
PY

sed -n 's/^#> //p' "$0" | diff - "$dir/seen"

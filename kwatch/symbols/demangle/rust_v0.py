# SPDX-License-Identifier: Apache-2.0
"""Demangles Rust's v0 symbol names.

Source: "v0 Symbol Format" in the rustc book (RFC 2603). Hashes of crates, types of constants and
suffixes after a dot are left out, as in other tools.
"""

from __future__ import annotations

import string
from collections.abc import Callable

_MAX_DEPTH = 200
_MAX_LENGTH = 8192
_DIGITS = {c: i for i, c in enumerate(string.digits + string.ascii_letters)}
_BASIC = {
    **{"a": "i8", "b": "bool", "c": "char", "d": "f64", "e": "str", "f": "f32", "h": "u8"},
    **{"i": "isize", "j": "usize", "l": "i32", "m": "u32", "n": "i128", "o": "u128", "s": "i16"},
    **{"t": "u16", "u": "()", "v": "...", "x": "i64", "y": "u64", "z": "!", "p": "_"},
}
_POINTERS = {"P": "*const ", "O": "*mut "}
_SPECIAL = {"C": "closure", "S": "shim"}


class _Invalid(Exception):
    """The name is not a v0 name, or too long."""


def demangle_v0(name: str) -> str | None:
    """The path; None if the name is not a v0 name."""
    if not name.startswith("_R") or not name.isascii() or not name[2:3].isupper():
        return None
    parser = _Parser(name[2:].partition(".")[0])
    try:
        parser.path(in_value=True)
    except (_Invalid, IndexError, ValueError, RecursionError):
        return None
    return "".join(parser.out)


class _Parser:
    """Parses the mangled name by recursive descent. `out` collects the demangled name."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._depth = 0
        self._length = 0
        self._lifetimes = 0
        self.out: list[str] = []

    def path(self, in_value: bool) -> None:
        self._nested(self._path, in_value)

    def _path(self, in_value: bool) -> None:
        tag = self._next()
        if tag == "C":
            self._put(self._identifier()[0])
        elif tag == "N":
            self._nested_path(in_value)
        elif tag in "MX":
            self._disambiguator()
            self._skip_path()
            self._implementation(tag == "X")
        elif tag == "Y":
            self._implementation(True)
        elif tag == "I":
            self._generic(in_value)
        elif tag == "B":
            self._backwards(lambda: self.path(in_value))
        else:
            raise _Invalid

    def _nested_path(self, in_value: bool) -> None:
        space = self._next()
        self.path(in_value)
        name, number = self._identifier()
        if space.isupper():
            colon = f":{name}" if name else ""
            self._put(f"::{{{_SPECIAL.get(space, space)}{colon}#{number}}}")
        elif not space.islower():
            raise _Invalid
        elif name:
            self._put(f"::{name}")

    def _implementation(self, of_trait: bool) -> None:
        self._put("<")
        self._type()
        if of_trait:
            self._put(" as ")
            self.path(in_value=False)
        self._put(">")

    def _generic(self, in_value: bool) -> None:
        self.path(in_value)
        self._put("::<" if in_value else "<")
        self._list(self._argument)
        self._put(">")

    def _argument(self) -> None:
        if self._takes("L"):
            self._lifetime(self._number())
        elif self._takes("K"):
            self._constant()
        else:
            self._type()

    def _type(self) -> None:
        self._nested(self._any_type)

    def _any_type(self) -> None:
        tag = self._next()
        if tag in _BASIC:
            self._put(_BASIC[tag])
        elif tag in _POINTERS:
            self._put(_POINTERS[tag])
            self._type()
        elif tag in "RQ":
            self._reference(tag == "Q")
        elif tag in "AS":
            self._array(tag == "A")
        elif tag == "T":
            self._put("(")
            single = self._list(self._type) == 1
            self._put(",)" if single else ")")
        elif tag == "F":
            self._bound(self._function)
        elif tag == "D":
            self._dynamic()
        elif tag == "B":
            self._backwards(self._type)
        else:
            self._at -= 1
            self.path(in_value=False)

    def _reference(self, mutable: bool) -> None:
        self._put("&")
        if self._takes("L") and (lifetime := self._number()):
            self._lifetime(lifetime)
            self._put(" ")
        self._put("mut " if mutable else "")
        self._type()

    def _array(self, sized: bool) -> None:
        self._put("[")
        self._type()
        if sized:
            self._put("; ")
            self._constant()
        self._put("]")

    def _function(self) -> None:
        self._put("unsafe " if self._takes("U") else "")
        if self._takes("K"):
            abi = "C" if self._takes("C") else self._plain_identifier().replace("_", "-")
            self._put(f'extern "{abi}" ')
        self._put("fn(")
        self._list(self._type)
        self._put(")")
        if not self._takes("u"):
            self._put(" -> ")
            self._type()

    def _dynamic(self) -> None:
        self._put("dyn ")
        self._bound(lambda: self._list(self._trait, " + "))
        if self._next() != "L":
            raise _Invalid
        if lifetime := self._number():
            self._put(" + ")
            self._lifetime(lifetime)

    def _trait(self) -> None:
        is_open = self._open_generics()
        while self._takes("p"):
            self._put(", " if is_open else "<")
            is_open = True
            self._put(self._plain_identifier() + " = ")
            self._type()
        self._put(">" if is_open else "")

    def _open_generics(self) -> bool:
        """Writes a path; returns whether its list of arguments is still open."""
        if self._takes("B"):
            is_open: list[bool] = []
            self._backwards(lambda: is_open.append(self._open_generics()))
            return bool(is_open and is_open[0])
        if self._takes("I"):
            self.path(in_value=False)
            self._put("<")
            self._list(self._argument)
            return True
        self.path(in_value=False)
        return False

    def _constant(self) -> None:
        self._nested(self._any_constant)

    def _any_constant(self) -> None:
        tag = self._next()
        if tag == "p":
            self._put("_")
        elif tag == "B":
            self._backwards(self._constant)
        elif tag in "RQ":
            self._put("" if self._text[self._at] == "e" else "&" if tag == "R" else "&mut ")
            self._constant()
        elif tag in "AT":
            self._put("[" if tag == "A" else "(")
            single = self._list(self._constant) == 1
            self._put("]" if tag == "A" else ",)" if single else ")")
        elif tag == "e":
            text = bytes.fromhex(self._hexadecimal()).decode()
            self._put('"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"')
        elif tag in "abchijlmnostxy":
            self._scalar(tag)
        else:
            raise _Invalid

    def _scalar(self, tag: str) -> None:
        sign = "-" if self._takes("n") else ""
        value = int(self._hexadecimal() or "0", 16)
        if tag == "b":
            self._put("true" if value else "false")
        elif tag == "c":
            self._put(repr(chr(value)))
        else:
            self._put(f"{sign}{value}" if value >> 64 == 0 else f"{sign}{value:#x}")

    def _bound(self, what: Callable[[], object]) -> None:
        """Writes a type that may begin with its own lifetimes: `for<'a> fn(&'a u8)`."""
        count = self._number() + 1 if self._takes("G") else 0
        if count > _MAX_DEPTH:
            raise _Invalid
        self._lifetimes += count
        if count:
            self._put("for<")
            for index in range(count, 0, -1):
                self._lifetime(index)
                self._put(", " if index > 1 else "> ")
        what()
        self._lifetimes -= count

    def _lifetime(self, index: int) -> None:
        depth = self._lifetimes - index
        if index and depth < 0:
            raise _Invalid
        letter = string.ascii_lowercase[depth] if depth < 26 else f"_{depth}"
        self._put(f"'{letter}" if index else "'_")

    def _list(self, item: Callable[[], object], separator: str = ", ") -> int:
        count = 0
        while not self._takes("E"):
            self._put(separator if count else "")
            item()
            count += 1
        return count

    def _skip_path(self) -> None:
        """Parses the path of an implementation, which is not shown."""
        out, length = self.out, self._length
        self.out = []
        self.path(in_value=False)
        self.out, self._length = out, length

    def _backwards(self, what: Callable[[], object]) -> None:
        start = self._at - 1
        target = self._number()
        if target >= start:
            raise _Invalid
        back, self._at = self._at, target
        self._nested(what)
        self._at = back

    def _nested(self, what: Callable[..., object], *arguments: object) -> None:
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise _Invalid
        what(*arguments)
        self._depth -= 1

    def _identifier(self) -> tuple[str, int]:
        number = self._disambiguator()
        return self._plain_identifier(), number

    def _plain_identifier(self) -> str:
        encoded = self._takes("u")
        start = self._at
        while self._text[self._at] in string.digits and self._at - start < 5:
            self._at += 1
            if self._text[start] == "0":
                break
        length = int(self._text[start : self._at])
        self._takes("_")
        name = self._text[self._at : self._at + length]
        if len(name) != length:
            raise _Invalid
        self._at += length
        return _decoded(name) if encoded else name

    def _disambiguator(self) -> int:
        return self._number() + 1 if self._takes("s") else 0

    def _number(self) -> int:
        value, start = 0, self._at
        while (digit := self._next()) != "_":
            value = value * 62 + _DIGITS[digit] if digit in _DIGITS else _refuse()
            if value >> 64:
                raise _Invalid
        return value + 1 if self._at - start > 1 else 0

    def _hexadecimal(self) -> str:
        end = self._text.index("_", self._at)
        digits, self._at = self._text[self._at : end], end + 1
        return digits

    def _put(self, text: str) -> None:
        self._length += max(len(text), 1)
        if self._length > _MAX_LENGTH:
            raise _Invalid
        self.out.append(text)

    def _takes(self, letter: str) -> bool:
        found = self._text[self._at : self._at + 1] == letter
        self._at += found
        return found

    def _next(self) -> str:
        letter = self._text[self._at]
        self._at += 1
        return letter


def _refuse() -> int:
    raise _Invalid


def _decoded(name: str) -> str:
    """Decodes Punycode with `_` instead of `-`."""
    plain, separator, rest = name.rpartition("_")
    return (plain + ("-" if separator else "") + rest).encode().decode("punycode")

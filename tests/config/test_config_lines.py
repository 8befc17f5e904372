"""Positions of keys, for messages that an editor can jump to."""

from __future__ import annotations

from emulator.config.lines import key_lines

TEXT = '''\
# comment = 1
top = 1

[a.b]
c = """
x = 1
]"""
d.e = [ "[[", # ]
  { f = 1 },
]
"g h" = 'x'

[[r]]
p = 1
[[r]]
p = { q = 2 }
[r.s]
t = 1
[a . "k.l"]
m=1'''


def test_every_kind_of_key() -> None:
    lines = key_lines(TEXT)
    assert lines[("top",)] == 2
    assert lines[("a", "b")] == 4
    assert lines[("a", "b", "c")] == 5
    assert lines[("a", "b", "d", "e")] == 8
    assert lines[("a", "b", "g h")] == 11
    assert lines[("r", 0, "p")] == 14
    assert lines[("r", 1, "p")] == 16
    assert lines[("r", 1, "s", "t")] == 18
    assert lines[("a", "k.l", "m")] == 20
    assert ("x",) not in lines


def test_any_text_ends() -> None:
    for text in ("", "[", "=", '"', "a = [", '"""', "a.", "[[x", "\r\n[a]\r\nb = 1\r\n"):
        key_lines(text)
    assert key_lines("\r\n[a]\r\nb = 1\r\n")[("a", "b")] == 3

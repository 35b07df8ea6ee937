"""Text of strangers, shown so that it can neither steer nor mislead: pure.

Markup is the templates' business (they escape everything). Here it is what is invisible or turns
the direction of text: such characters are shown as what they are.
"""

from __future__ import annotations

import re

_HIDDEN = re.compile(
    "["
    "\x00-\x08\x0b-\x1f\x7f-\x9f"  # controls, but for tab and newline
    "\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb"  # bidi, zero width
    "\ud800-\udfff"  # half of a pair: no encoding has it
    "\U000e0000-\U000e007f"  # tags
    "]"
)


def harmless(value: object) -> object:
    """Return text with its hidden characters made visible; anything else as it is.

    What a template made itself (it has `__html__`) is left alone.
    """
    if not isinstance(value, str) or hasattr(value, "__html__"):
        return value
    return _HIDDEN.sub(_shown, value)


def _shown(match: re.Match[str]) -> str:
    code = ord(match[0])
    if code < 0x20:
        return chr(0x2400 + code)  # the control pictures
    return "␡" if code == 0x7F else f"[U+{code:04X}]"

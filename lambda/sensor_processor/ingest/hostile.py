"""Text that no device has a reason to send: control, invisible and bidirectional characters, raw or escaped."""

from __future__ import annotations

import re

from .poison import PoisonReading

_INVISIBLE = (
    "\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f"
    "\ufeff\uffa0\ufff0-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
"""Unicode's Default_Ignorable_Code_Point, the separators of lines and paragraphs, and interlinear annotation.
https://www.unicode.org/Public/UCD/latest/ucd/DerivedCoreProperties.txt"""

_HOSTILE = re.compile(f"[\x00\x7f-\x9f{_INVISIBLE}]")
_HOSTILE_ESCAPE = re.compile(
    r"(?<!\\)(?:\\\\)*(\\(?:[bf]|u(?:000[0-8bcef]|001[0-9a-f]|007f|00[89][0-9a-f]|00ad|034f|061c|115f|1160|17b[45]"
    r"|180[b-f]|200[b-f]|202[89a-e]|206[0-9a-f]|3164|fe0[0-9a-f]|feff|ffa0|fff[0-9ab]"
    r"|d82f\\udca[0-3]|d834\\udd7[3-9a]|db4[0-3]\\ud[c-f][0-9a-f]{2})))",
    re.IGNORECASE,
)
"""Escaped tabs and line ends are text; raw control characters below U+0020 are no JSON, and `shapes` names them."""


def check_text(payload: bytes) -> None:
    """Check that the bytes are UTF-8 without such characters. Raises PoisonReading."""
    # msgspec skips over fields it does not know without looking at their encoding, so text is checked first.
    if b"\\" not in payload and payload.isascii() and b"\x7f" not in payload:
        return
    try:
        text = payload.decode()
    except UnicodeDecodeError as error:
        is_utf16 = payload[:2] in (b"\xff\xfe", b"\xfe\xff")
        raise PoisonReading("utf8", f"{error}{'; this looks like UTF-16: send UTF-8' if is_utf16 else ''}") from error
    if found := _HOSTILE.search(text):
        what, at = f"U+{ord(found[0]):04X}", found.start()
    elif found := _HOSTILE_ESCAPE.search(text):
        what, at = found[1], found.start(1)
    else:
        return
    detail = f"the payload holds the control, invisible or bidirectional character {what}"
    raise PoisonReading("hostile_text", f"{detail} (byte {len(text[:at].encode())})")

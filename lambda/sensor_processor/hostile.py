"""Text that no device has a reason to send: control, invisible and bidirectional characters, raw or escaped."""

from __future__ import annotations

import re

from sensor_processor.poison import PoisonReading

_HOSTILE = re.compile("[\x00\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]")
_HOSTILE_ESCAPE = re.compile(
    r"(?<!\\)(?:\\\\)*\\u(?:0000|007f|008|009|061c|200[b-f]|202[89a-e]|206[0-9]|feff)", re.IGNORECASE
)


def check_text(payload: bytes) -> None:
    """That the bytes are UTF-8 without such characters. Raises PoisonReading."""
    # msgspec skips over fields it does not know without looking at their encoding, so text is checked first.
    if b"\\" not in payload and payload.isascii() and b"\x7f" not in payload:
        return
    try:
        text = payload.decode()
    except UnicodeDecodeError as error:
        raise PoisonReading("utf8", str(error)) from error
    if _HOSTILE.search(text) or _HOSTILE_ESCAPE.search(text):
        raise PoisonReading("hostile_text", "the payload holds NUL, control or bidirectional characters")

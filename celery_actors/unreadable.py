"""What reading JSON may raise where anybody who can write to the store may have written it."""

from __future__ import annotations

import msgspec

__all__ = ["UNREADABLE"]

#: Wrong JSON or another shape; a string that is not UTF-8; brackets within brackets, thousands of.
UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)

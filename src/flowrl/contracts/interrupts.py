"""Interrupts by the user, and how they differ from what other code raises, such as SystemExit in a sampler."""

from __future__ import annotations

import dis
import signal
from contextlib import suppress
from types import TracebackType
from typing import Any

from flowrl.contracts.errors import stop_behind


def raise_interrupt(error: BaseException) -> None:
    """Raise the interrupt by the user that caused `error`, if one did.

    Where this returns, the code that raised `error` is at fault, whatever its type.
    """
    if is_interrupt(error):
        raise stop_behind(error) or error from None


def is_interrupt(error: BaseException) -> bool:
    """Return whether a stop signal of this process caused `error`: Stopped, also where other code has replaced it by
    its own error, or a KeyboardInterrupt that no `raise` statement raised."""
    if stop_behind(error) is not None:
        return True
    if not isinstance(error, KeyboardInterrupt):
        return False
    handler: Any = signal.getsignal(signal.SIGINT)
    by_handler = getattr(handler, "__code__", None)
    last: TracebackType | None = None
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code is by_handler:
            return True
        last, trace = trace, trace.tb_next
    if last is None:
        return True
    with suppress(IndexError):
        return dis.opname[last.tb_frame.f_code.co_code[last.tb_lasti]] != "RAISE_VARARGS"
    return True

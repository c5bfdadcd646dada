"""Ctrl-C that cannot get lost."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType


@contextlib.contextmanager
def ctrl_c(*, at_once: bool) -> Iterator[Callable[[], None]]:
    """Note when somebody presses Ctrl-C.

    Python raises `KeyboardInterrupt` wherever the main thread happens to be. Within a finaliser or
    a callback it is printed and ignored, and everything goes on. So what it interrupts has to ask
    from time to time.

    Parameters
    ----------
    at_once : bool
        Whether `KeyboardInterrupt` is raised where the main thread is, too; if not, only the second
        time.

    Yields
    ------
    callable
        Raises `KeyboardInterrupt` if Ctrl-C was pressed. It is also called at the end.
    """
    pressed = []

    def note(number: int, frame: FrameType | None) -> None:
        pressed.append(number)
        if at_once or len(pressed) > 1:
            raise KeyboardInterrupt

    def check() -> None:
        if pressed:
            raise KeyboardInterrupt

    mine = threading.current_thread() is threading.main_thread()
    if not mine or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield check  # somebody else decides what Ctrl-C does
        return
    signal.signal(signal.SIGINT, note)
    try:
        yield check
        check()
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)

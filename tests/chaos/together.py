"""Work side by side that Ctrl-C does not wait for."""

from __future__ import annotations

import threading
from typing import Callable, Optional, Sequence

#: Between two looks whether a thread has ended, in seconds; an interruption is noticed as late.
LOOK_EVERY = 0.2


class Together:
    """Threads that end with the program; the first failure is raised by `join`."""

    def __init__(self, work: Sequence[Callable[[], object]]):
        self._failure: Optional[BaseException] = None
        self._threads = [threading.Thread(target=self._run, args=(one,), daemon=True) for one in work]
        for thread in self._threads:
            thread.start()

    def _run(self, one: Callable[[], object]) -> None:
        try:
            one()
        except BaseException as failure:  # Whatever it is, it is raised where somebody waits.
            self._failure = self._failure or failure

    def over(self) -> bool:
        """Whether all have ended."""
        return not any(thread.is_alive() for thread in self._threads)

    def join(self) -> None:
        """Waits for all of them, or until one has failed."""
        for thread in self._threads:
            while thread.is_alive() and self._failure is None:
                thread.join(LOOK_EVERY)
        if self._failure is not None:
            raise self._failure


def together(work: Sequence[Callable[[], object]]) -> None:
    """Does all of it at once and waits."""
    Together(work).join()

"""The stories: each a function with a sentence for a name, run by itself or with all others."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable, Optional

from answers import Answers
from harness import Called, Sandbox
from region import OUR_KEY, Region
from subject import World


class Stage:
    """What stories share: one sandbox, made when first asked for, and the duty to end all processes."""

    def __init__(self, pointsman: Path, directory: Path):
        self.pointsman, self.directory = pointsman, directory
        self.answers = Answers(pointsman)
        self._lock = threading.Lock()
        self._worlds: list[World] = []
        self._sandboxes: list[Sandbox] = []
        self._shared: Optional[tuple[Sandbox, Region]] = None

    def sandbox(self, name: str, leak_per_mille: int = 0) -> World:
        """A sandbox of its own with an installation whose daemon does not run yet."""
        sandbox = Sandbox(self.pointsman, self.directory, name, leak_per_mille)
        with self._lock:
            self._sandboxes.append(sandbox)
        world = World.create(self.pointsman, self.directory, sandbox, Region(sandbox.endpoint), name, self.answers)
        return self._keep(world)

    def running(self, name: str) -> World:
        """An installation with its own tables in the shared sandbox, its daemon running.

        One for each story: a daemon keeps to AWS's request rates, which polls of 300 ms soon use up.
        """
        world = self.installation(name)
        world.daemon.start()
        return world

    def installation(self, name: str) -> World:
        """An installation with its own tables in the shared sandbox; its daemon does not run yet."""
        sandbox, region = self._common()
        return self._keep(World.create(self.pointsman, self.directory, sandbox, region, name, self.answers))

    def _common(self) -> tuple[Sandbox, Region]:
        with self._lock:
            if self._shared is None:
                sandbox = Sandbox(self.pointsman, self.directory)
                self._sandboxes.append(sandbox)
                self._shared = sandbox, Region(sandbox.endpoint)
            return self._shared

    def _keep(self, world: World) -> World:
        with self._lock:
            self._worlds.append(world)
        return world

    def called_by_daemons(self) -> set[Called]:
        """What daemons called in all sandboxes; everyone else here uses our own key."""
        with self._lock:
            sandboxes = list(self._sandboxes)
        called = set().union(*(sandbox.calls.called() for sandbox in sandboxes))
        return {call for call in called if call.access_key != OUR_KEY}

    def clear(self) -> None:
        """Ends every process that was started here."""
        with self._lock:
            worlds, sandboxes = list(self._worlds), list(self._sandboxes)
        for world in worlds:
            world.daemon.end()
        for sandbox in sandboxes:
            sandbox.end()


@dataclass
class Story:
    """A story, by its function's name."""

    name: str
    sentence: str
    tell: Callable[[Stage], str]


@dataclass
class Stories:
    """All stories, in the order of their modules."""

    known: list[Story] = field(default_factory=list)


ALL = Stories()


def story(sentence: str) -> Callable[[Callable[[Stage], str]], Callable[[Stage], str]]:
    """Registers a function as a story. It returns a few words about what was measured."""

    def register(tell: Callable[[Stage], str]) -> Callable[[Stage], str]:
        ALL.known.append(Story(tell.__name__, sentence, tell))
        return tell

    return register

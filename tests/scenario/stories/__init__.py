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
    """What makes the stories' installations, and ends all processes.

    Each installation has a sandbox, so an account, of its own: AWS's request rates are per account, and a story's
    daemon would spend another's.
    """

    def __init__(self, pointsman: Path, directory: Path, answers: Optional[Answers] = None):
        self.pointsman, self.directory = pointsman, directory
        self.answers = answers or Answers(pointsman)
        self._lock = threading.Lock()
        self._worlds: list[World] = []
        self._sandboxes: list[Sandbox] = []
        self._scenes: list[Stage] = []

    def scene(self) -> "Stage":
        """A stage for one story; what it starts is ended with it, or with this stage."""
        scene = Stage(self.pointsman, self.directory, self.answers)
        with self._lock:
            self._scenes.append(scene)
        return scene

    def sandbox(self, name: str, leak_per_mille: int = 0) -> World:
        """A sandbox of its own with an installation whose daemon does not run yet."""
        sandbox = Sandbox(self.pointsman, self.directory, name, leak_per_mille)
        with self._lock:
            self._sandboxes.append(sandbox)
        world = World.create(self.pointsman, self.directory, sandbox, Region(sandbox.endpoint), name, self.answers)
        return self._keep(world)

    def running(self, name: str) -> World:
        """An installation in a sandbox of its own, its daemon running."""
        world = self.installation(name)
        world.daemon.start()
        return world

    def installation(self, name: str) -> World:
        """An installation in a sandbox of its own; its daemon does not run yet."""
        return self.sandbox(name)

    def _keep(self, world: World) -> World:
        with self._lock:
            self._worlds.append(world)
        return world

    def called_by_daemons(self) -> set[Called]:
        """What daemons called in all sandboxes; everyone else here uses our own key."""
        with self._lock:
            sandboxes, scenes = list(self._sandboxes), list(self._scenes)
        called = set().union(*(sandbox.calls.called() for sandbox in sandboxes))
        called |= set().union(*(scene.called_by_daemons() for scene in scenes))
        return {call for call in called if call.access_key != OUR_KEY}

    def clear(self) -> None:
        """Ends every process that was started here."""
        with self._lock:
            worlds, sandboxes, scenes = list(self._worlds), list(self._sandboxes), list(self._scenes)
        for scene in scenes:
            scene.clear()
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

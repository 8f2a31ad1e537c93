"""Environments: state that belongs to one rollout, with public methods as its tools.

An environment is any object. What is looked for, all of it optional except that there is something to call:

* ``reset(**row)``: called before each rollout with the data set's row. May return an observation (text, or a
  list of content parts), which is appended to the last message of the prompt, or a full message list, which
  replaces it.
* every other public method is a tool, except the names in ``RESERVED``;
* ``allowed_tools()``: names of the tools of this example, called after ``reset``;
* ``reply(message)``: called when the model answered without a call. Messages it returns (say, a user's next
  turn) are appended and the model goes on; None ends the rollout;
* ``reward()`` (or TRL's ``get_reward()``): the rollout's reward, also async;
* ``close()``: called once its rewards were computed.

So the objects that TRL's ``environment_factory`` makes work as they are. Objects without ``close`` are used
again for later rollouts, as TRL does it (they may be dear to build); objects with ``close`` are made anew
for each rollout.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from .executor import Toolbox

__all__ = ["RESERVED", "Environment", "EnvironmentFactory", "EnvironmentPool", "Lease", "apply_observation"]

RESERVED = frozenset({"reset", "reward", "get_reward", "close", "reply", "allowed_tools"})
"""Public method names that are not tools."""

EnvironmentFactory = Callable[[], Any]


@runtime_checkable
class Environment(Protocol):
    """The least an environment has; see the module's text for the rest."""

    def reset(self, **row: Any) -> Any:
        """Start a new rollout."""


def tool_methods(environment: Any) -> list[Callable[..., Any]]:
    """The bound public methods of an environment that are tools, in the order in which they are defined."""
    found: dict[str, Callable[..., Any]] = {}
    # Looked up on the classes: reading an instance's attributes would run its properties. Base classes
    # first, so that inherited tools come before a subclass's own.
    for cls in reversed(type(environment).__mro__):
        for name, member in vars(cls).items():
            if name.startswith("_") or name in RESERVED:
                continue
            if isinstance(member, (staticmethod, classmethod)) or inspect.isfunction(member):
                found[name] = getattr(environment, name)
            else:
                found.pop(name, None)
    return list(found.values())


@dataclass(slots=True)
class Lease:
    """An environment lent to one rollout, with the tools of that rollout (shared ones included)."""

    environment: Any
    toolbox: Toolbox
    name: str | None = None

    async def reward(self) -> float | None:
        """What the environment says about the rollout; None if it says nothing."""
        for method in ("reward", "get_reward"):
            function = getattr(self.environment, method, None)
            if callable(function):
                value = function()
                if inspect.isawaitable(value):
                    value = await value
                return None if value is None else float(value)
        return None


class EnvironmentPool:
    """Makes and lends environments.

    Args:
        factory: Called without arguments for a new environment; a mapping of factories is chosen from by the
        row's
            ``environment`` field. None: rollouts have shared tools only.
        shared: Tools that every rollout has.
        timeouts: Seconds per tool name, for methods.
    """

    def __init__(
        self,
        factory: EnvironmentFactory | Mapping[str, EnvironmentFactory] | None,
        shared: Toolbox | None = None,
        *,
        timeouts: Mapping[str, float] | None = None,
    ) -> None:
        self.factory = factory
        self.shared = shared or Toolbox()
        self.timeouts = dict(timeouts or {})
        self._free: dict[str | None, list[Any]] = {}

    @property
    def has_environments(self) -> bool:
        """Whether rollouts have environments at all."""
        return self.factory is not None

    def probe(self) -> dict[str | None, Toolbox]:
        """The tools of every kind of environment, for checks before training; the probes go back to the
        pool.
        """
        if self.factory is None:
            return {None: self.shared}
        names: list[str | None] = list(self.factory) if isinstance(self.factory, Mapping) else [None]
        out: dict[str | None, Toolbox] = {}
        for name in names:
            instance = self._take(name)
            out[name] = self.shared | self._own_tools(instance)
            self._put(name, instance)
        return out

    def instances(self) -> list[Any]:
        """One environment of every kind, to look at; they stay in the pool."""
        if not any(self._free.values()):
            self.probe()
        return [free[-1] for free in self._free.values() if free]

    def lend(self, row: Mapping[str, Any]) -> tuple[Lease, Any]:
        """An environment reset for this row, and what ``reset`` returned."""
        if self.factory is None:
            return Lease(None, self._selected(self.shared, row)), None
        name: str | None = None
        fields = dict(row)
        if isinstance(self.factory, Mapping):
            name = fields.pop("environment", None)
            if name not in self.factory:
                raise ValueError(f"a row has environment={name!r}; give each row one of: {', '.join(self.factory)}")
        instance = self._take(name)
        observation = instance.reset(**fields)
        if inspect.isawaitable(observation):
            raise TypeError(
                f"{type(instance).__name__}.reset is async; make it a plain method (it runs before any tool)"
            )
        toolbox = self.shared | self._own_tools(instance)
        allowed = getattr(instance, "allowed_tools", None)
        if callable(allowed):
            toolbox = toolbox.only(allowed())
        return Lease(instance, self._selected(toolbox, row), name), observation

    def give_back(self, lease: Lease) -> None:
        """Close the environment, or keep it for the next rollout if it can't be closed."""
        if lease.environment is None:
            return
        if callable(getattr(lease.environment, "close", None)):
            lease.environment.close()
        else:
            self._put(lease.name, lease.environment)

    def _own_tools(self, instance: Any) -> Toolbox:
        return Toolbox(tool_methods(instance), timeouts=self.timeouts, owner=instance)

    @staticmethod
    def _selected(toolbox: Toolbox, row: Mapping[str, Any]) -> Toolbox:
        """Rows may name the tools of their example in a ``tools`` field (a list of names)."""
        names = row.get("tools")
        if isinstance(names, Sequence) and not isinstance(names, str) and all(isinstance(n, str) for n in names):
            return toolbox.only(names)
        return toolbox

    def _take(self, name: str | None) -> Any:
        free = self._free.get(name)
        if free:
            return free.pop()
        assert self.factory is not None
        make = self.factory[name] if isinstance(self.factory, Mapping) and name is not None else self.factory
        if not callable(make):
            raise TypeError("environments must come from a factory: pass a class or a function without arguments")
        instance = make()
        if not callable(getattr(instance, "reset", None)):
            raise TypeError(
                f"{type(instance).__name__} has no reset method; an environment needs one (it may do nothing)"
            )
        return instance

    def _put(self, name: str | None, instance: Any) -> None:
        self._free.setdefault(name, []).append(instance)


def apply_observation(prompt: Sequence[Mapping[str, Any]], observation: Any) -> list[dict[str, Any]]:
    """The prompt with what ``reset`` returned: nothing, text or parts for the last message, or new
    messages.
    """
    messages = [dict(message) for message in prompt]
    if observation is None:
        return messages
    if (
        isinstance(observation, list)
        and observation
        and all(isinstance(m, Mapping) and "role" in m for m in observation)
    ):
        return [dict(message) for message in observation]
    if not isinstance(observation, (str, list)):
        raise TypeError(f"reset returned {type(observation).__name__}; return None, text, content parts or messages")
    if not messages:
        return [{"role": "user", "content": observation}]
    last = messages[-1]
    content = last.get("content") or ""
    if isinstance(content, str) and isinstance(observation, str):
        last["content"] = content + observation
    else:
        before = [{"type": "text", "text": content}] if isinstance(content, str) else list(content)
        after = [{"type": "text", "text": observation}] if isinstance(observation, str) else observation
        last["content"] = before + after
    return messages

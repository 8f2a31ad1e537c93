"""Environments: state that belongs to one rollout, with public methods as its tools.

An environment is any object. What is looked for, all of it optional except ``reset``:

* ``reset(**row)``: called before each rollout with the data set's row. May return an observation (text, or a
  list of content parts), which is appended to the last message of the prompt, or a full message list, which
  replaces it.
* every other public method is a tool, except the hooks below;
* ``allowed_tools()``: names of the tools of this example, called after ``reset``;
* ``reply(message)``: called when the model answered without a call. Messages it returns (say, a user's next
  turn) are appended and the model goes on; None ends the rollout;
* ``done``: true ends the rollout after the calls of a turn;
* ``reward()`` (or TRL's ``get_reward()``): the rollout's reward;
* ``close()``: called once its rewards were computed.

Each of them may be async, runs in the executor beside those of the other rollouts, has its time limit, and may fail:
the rollout then ends as ``environment_error`` and is not trained on.

A method with a hook's name is a hook only if it can be called as one (``reply`` with one argument called ``message``,
the others with none); otherwise it is a tool: ``close(door: str)`` is one. An attribute ``tool_names`` of the class
says outright which methods are tools, whatever they are called.

So the objects that TRL's ``environment_factory`` makes work as they are. Objects without ``close`` are used
again for later rollouts, as TRL does it (they may be dear to build); objects with ``close`` are made anew
for each rollout, and so are those with a call that was given up, since it may still be at work on them.
"""

from __future__ import annotations

import contextlib
import inspect
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from .executor import Toolbox

__all__ = ["HOOKS", "Environment", "EnvironmentFactory", "EnvironmentPool", "Lease", "apply_observation", "hook"]

logger = logging.getLogger(__name__)

HOOKS: dict[str, tuple[str, ...]] = {
    "reward": (),
    "get_reward": (),
    "close": (),
    "allowed_tools": (),
    "reply": ("message",),
}
"""Names of methods that the loop calls, with the arguments that it gives them."""

_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)

EnvironmentFactory = Callable[[], Any]


@runtime_checkable
class Environment(Protocol):
    """The least an environment has; see the module's text for the rest."""

    def reset(self, **row: Any) -> Any:
        """Start a new rollout."""


def hook(environment: Any, name: str) -> Callable[..., Any] | None:
    """The environment's method of that name if the loop calls it (and so no model does)."""
    cls = type(environment)
    if name in getattr(cls, "tool_names", ()):
        return None
    function = inspect.getattr_static(cls, name, None)
    if not isinstance(function, (staticmethod, classmethod)) and not inspect.isfunction(function):
        return None
    method: Callable[..., Any] = getattr(environment, name)
    if name == "reset":
        return method
    parameters = [
        p for p in inspect.signature(method).parameters.values() if p.default is p.empty and p.kind not in _VARIADIC
    ]
    return method if tuple(p.name.lstrip("_") for p in parameters) == HOOKS[name] else None


def reward_of(environment: Any) -> Callable[..., Any] | None:
    """The environment's ``reward`` or ``get_reward``; None if it has neither."""
    return hook(environment, "reward") or hook(environment, "get_reward")


def tool_methods(environment: Any) -> list[Callable[..., Any]]:
    """The bound public methods of an environment that are tools, in the order in which they are defined."""
    chosen = getattr(type(environment), "tool_names", None)
    if chosen is not None:
        return [getattr(environment, name) for name in chosen]
    found: dict[str, Callable[..., Any]] = {}
    # Looked up on the classes: reading an instance's attributes would run its properties. Base classes
    # first, so that inherited tools come before a subclass's own.
    for cls in reversed(type(environment).__mro__):
        for name, member in vars(cls).items():
            if name.startswith("_") or name == "reset" or (name in HOOKS and hook(environment, name) is not None):
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


class EnvironmentPool:
    """Makes and lends environments.

    Args:
        factory: Called without arguments for a new environment; a mapping of factories is chosen from by the row's
            ``environment`` field. None: rollouts have shared tools only.
        shared: Tools that every rollout has.
        timeouts: Seconds per tool name, for methods.
        injected: Values of parameters that no model sees, by name, for methods.
    """

    def __init__(
        self,
        factory: EnvironmentFactory | Mapping[str, EnvironmentFactory] | None,
        shared: Toolbox | None = None,
        *,
        timeouts: Mapping[str, float] | None = None,
        injected: Mapping[str, Any] | None = None,
    ) -> None:
        self.factories: Mapping[Any, EnvironmentFactory] = (
            factory if isinstance(factory, Mapping) else {None: factory} if factory is not None else {}
        )
        for make in self.factories.values():
            if not callable(make):
                raise TypeError(
                    "environments must come from a factory: pass a class or a function without arguments, or a "
                    f"mapping of them by name, not {make!r}"
                )
        self.factory = factory
        self.shared = shared or Toolbox()
        self.timeouts = dict(timeouts or {})
        self.injected = dict(injected or {})
        self._free: dict[str | None, list[Any]] = {}

    @property
    def has_environments(self) -> bool:
        """Whether rollouts have environments at all."""
        return self.factory is not None

    def probe(self) -> dict[str | None, Toolbox]:
        """The tools of every kind of environment, for checks before training; the probes go back to the pool."""
        if self.factory is None:
            return {None: self.shared}
        out: dict[str | None, Toolbox] = {}
        for name in self.factories:
            instance = self.take(name)
            out[name] = self.tools_of(instance)
            odd = [tool for tool in out[name].names if tool in HOOKS] if not hasattr(instance, "tool_names") else []
            for tool in odd:
                logger.warning(
                    "%s.%s is a tool, since its arguments aren't those of the hook, (%s); "
                    "say tool_names = [...] in the class if that is meant",
                    type(instance).__name__,
                    tool,
                    ", ".join(HOOKS[tool]),
                )
            self._free.setdefault(name, []).append(instance)
        return out

    def instances(self) -> list[Any]:
        """One environment of every kind, to look at; they stay in the pool."""
        if not any(self._free.values()):
            self.probe()
        return [free[-1] for free in self._free.values() if free]

    def route(self, row: Mapping[str, Any]) -> tuple[str | None, dict[str, Any]]:
        """Which environment a row wants, and the fields for its ``reset``. Raises ``ValueError`` for an unknown one."""
        fields = dict(row)
        if not isinstance(self.factory, Mapping):
            return None, fields
        name = fields.pop("environment", None)
        if name not in self.factory:
            raise ValueError(
                f"Example has `environment={name!r}`, which is not among the environments passed to "
                f"`environment_factory`. Expected one of: {list(self.factory)}."
            )
        return name, fields

    def take(self, name: str | None) -> Any:
        """An environment that isn't reset yet, or None if rollouts have none."""
        if self.factory is None:
            return None
        with contextlib.suppress(KeyError, IndexError):
            return self._free[name].pop()
        instance = self.factories[name]()
        if not callable(getattr(instance, "reset", None)):
            raise ValueError(
                "Each environment instance returned by `environment_factory` must define a callable `reset`."
                f" {type(instance).__name__} has none; it may do nothing."
            )
        return instance

    def tools_of(self, instance: Any) -> Toolbox:
        """Shared tools, and the environment's own."""
        if instance is None:
            return self.shared
        own = Toolbox(tool_methods(instance), timeouts=self.timeouts, owner=instance, injected=self.injected)
        return self.shared | own

    def keep(self, lease: Lease) -> bool:
        """Take an environment back for the next rollout; false if it has to be closed instead."""
        if lease.environment is None or hook(lease.environment, "close") is not None:
            return False
        self._free.setdefault(lease.name, []).append(lease.environment)
        return True


def selected(toolbox: Toolbox, row: Mapping[str, Any]) -> Toolbox:
    """Rows may say in a ``tools`` field which tools their example has: names, or schemas that are shown instead.

    Raises ``ValueError`` for a tool that has no code, ``TypeError`` for a field that is neither.
    """
    wanted = row.get("tools")
    if isinstance(wanted, str):
        try:
            wanted = json.loads(wanted)
        except ValueError:
            raise TypeError(f"a row's `tools` is text that isn't JSON: {wanted[:80]!r}") from None
    if wanted is None:
        return toolbox
    if not isinstance(wanted, Sequence) or not all(isinstance(entry, (str, Mapping)) for entry in wanted):
        raise TypeError(f"a row's `tools` must list names or schemas, got {str(wanted)[:80]}")
    return toolbox.only(wanted)


def apply_observation(prompt: Sequence[Mapping[str, Any]], observation: Any) -> list[dict[str, Any]]:
    """The prompt with what ``reset`` returned: nothing, text or parts for the last message, or new messages.

    Parts of text become text, which every template can show; parts of other kinds are refused with a ``TypeError``.
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
    text = observation if isinstance(observation, str) else text_of_parts(observation)
    if not messages:
        return [{"role": "user", "content": text}]
    last = messages[-1]
    content = last.get("content") or ""
    last["content"] = content + text if isinstance(content, str) else [*content, {"type": "text", "text": text}]
    return messages


def text_of_parts(parts: Sequence[Any]) -> str:
    """The text of content parts. Raises ``TypeError`` for images, sound and what isn't a part."""
    out = []
    for part in parts:
        if not isinstance(part, Mapping) or not isinstance(part.get("text"), str):
            kind = part.get("type") if isinstance(part, Mapping) else type(part).__name__
            raise TypeError(f"multi-turn rollouts carry text only: a content part of type {kind!r} can't be shown")
        out.append(part["text"])
    return "".join(out)


def refuse_media(messages: Sequence[Mapping[str, Any]]) -> None:
    """Raise ``TypeError`` if a message holds an image or sound."""
    for message in messages:
        if isinstance(message.get("content"), list):
            text_of_parts(message["content"])

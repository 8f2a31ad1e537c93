"""JSON wrappers: the paths at which `{"name": ..., "arguments": ...}` keeps a call's name, arguments and id."""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import chain
from typing import Any

from toolparse.picture import Wrapper

_BLANK = r"[ \t\r\n]*"
#: Keys that say what an object is, or which: they are no arguments, and nothing is lost with them.
_LABELS = frozenset({"type", "id", "index", "call_id", "tool_call_id", "object"})
#: What models write for the key of the arguments, or of the name, whatever their family's picture shows.
_SLIPS = {
    "arguments": ("arguments", "parameters", "args", "input"),
    "name": ("name", "tool", "function", "tool_name", "function_name"),
}


class WrapperPaths:
    """The paths at which a wrapper keeps name, arguments and id; several wrappers may be merged."""

    def __init__(self, wrappers: tuple[Wrapper, ...], synonyms: Mapping[str, str]) -> None:
        self.roles: dict[tuple[str, ...], str] = {}
        for wrapper in wrappers:
            for role, path in (("name", wrapper.name), ("arguments", wrapper.arguments), ("id", wrapper.id)):
                if path is not None:
                    self.roles.setdefault(path, role)
        self.keyed = any(wrapper.name_is_key for wrapper in wrappers)
        shown = set(chain(*self.roles))
        own = shown | set(synonyms)
        #: paths at which another key than the picture's holds name or arguments, with the picture's
        self.slips: dict[tuple[str, ...], tuple[str, str]] = {}
        for path, role in self.roles.items():
            for key in _SLIPS.get(role, ()):
                # A picture's own key may hold a name where the picture has keys below it.
                if key not in own or (role == "name" and (*path[:-1], key) not in self.roles and key not in synonyms):
                    self.slips.setdefault((*path[:-1], key), (role, path[-1]))
        self.prefixes = {path[:n] for path in self.roles for n in range(1, len(path))}
        self.depth = max((len(path) for path in self.roles), default=1)
        self.synonyms = {read: meant for read, meant in synonyms.items() if read not in shown}
        #: how a key begins, and how much is at least missing of it, its quote, the colon and a value
        self.starts: dict[str, int] = {}
        keys = () if self.keyed else {*own, *(path[-1] for path in self.slips)}
        for key in sorted(keys, key=lambda key: (-len(key), key)):
            self.starts.update((key[:n], len(key) - n + 3) for n in range(len(key) + 1))
        #: the same as a tree: a key leads to a role or to the keys below it
        self.tree = self._tree()
        #: the keys of name and arguments of a flat wrapper; an object with just these has nothing else to find
        self.pair: tuple[str, str] | None = None
        for wrapper in wrappers[:1]:
            if wrapper.name is not None and wrapper.arguments is not None and not self.keyed:
                (first, *more), (second, *others) = wrapper.name, wrapper.arguments
                self.pair = None if more or others else (first, second)
        self._opening: tuple[Any, Any] | None = None

    def opening(self) -> tuple[Any, Any] | None:
        """How a flat wrapper mostly begins: up to the end of the name, and on to the arguments. Only streams ask."""
        if self.pair is not None and self._opening is None:
            blank, (first, second) = _BLANK, self.pair
            same = (key for key, meant in self.synonyms.items() if meant == second)
            keys = "|".join(re.escape(key) for key in (second, *same))
            self._opening = (
                re.compile(rf'{blank}\{{{blank}"{re.escape(first)}"{blank}:{blank}"([^"\\\x00-\x1f]+)"'),
                re.compile(rf'{blank},{blank}"(?:{keys})"{blank}:{blank}\{{'),
            )
        return self._opening

    def _tree(self) -> dict[str, Any]:
        tree: dict[str, Any] = {}
        for path, role in self.roles.items():
            node = tree
            for key in path[:-1]:
                node = node.setdefault(key, {})
            node[path[-1]] = role
        self._add_synonyms(tree)
        return tree

    def _add_synonyms(self, node: dict[str, Any]) -> None:
        for below in list(node.values()):
            if isinstance(below, dict):
                self._add_synonyms(below)
        for read, meant in self.synonyms.items():
            if meant in node:
                node[read] = node[meant]

    def claims(self, path: tuple[str, ...]) -> bool:
        """Whether a key at this path is nothing to wonder at: one of the picture's, or a label."""
        parent = path[:-1]
        return path[-1] in _LABELS or path in self.prefixes or (bool(parent) and parent not in self.prefixes)

    def first_keys(self) -> tuple[str, ...]:
        """The keys with which a wrapper can begin, as far as they are known."""
        keys = [path[0] for path in self.roles]
        return tuple(dict.fromkeys([*keys, *self.synonyms]))

    def slipped_keys(self) -> tuple[str, ...]:
        """The keys with which a wrapper can begin that is not quite the picture's."""
        return tuple(dict.fromkeys(path[0] for path in self.slips if len(path) == 1))

    def find(self, value: dict[str, Any]) -> tuple[str, str | None, dict[str, Any]] | None:
        """Name, id and arguments in an object; None when it has not just what the wrapper's picture shows."""
        pair = self.pair
        if pair is not None and len(value) == 2:
            name, arguments = value.get(pair[0]), value.get(pair[1])
            return (name, None, arguments) if type(name) is str and type(arguments) is dict else None
        found: dict[str, Any] = {}
        if self.keyed:
            if len(value) != 1 or self.roles or self.synonyms:
                return None
            ((found["name"], found["arguments"]),) = value.items()
        elif not _collect(value, self.tree, found):
            return None
        name, arguments, id = found.get("name"), found.get("arguments"), found.get("id")
        if type(name) is not str or type(arguments) is not dict:
            return None
        return name, None if id is None else str(id), arguments


def _collect(value: dict[str, Any], tree: dict[str, Any], found: dict[str, Any]) -> bool:
    """What stands at the watched paths; False when a role is filled twice, or a key is none of the picture's."""
    for key, item in value.items():
        role = tree.get(key)
        if role is None:
            if key not in _LABELS:
                return False
            continue
        if type(role) is str:
            if role in found:
                return False
            found[role] = item
        elif type(item) is dict and not _collect(item, role, found):
            return False
    return True

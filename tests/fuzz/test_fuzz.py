"""A short run of the fuzzer with fixed seeds; `make fuzz` is the long one."""

from __future__ import annotations

import os
from functools import cache

import pytest

from tests.fuzz.executions import Broken, execute, reduced, sources

SEEDS = {"laws": 400, "ci": 40}.get(os.environ.get("HYPOTHESIS_PROFILE", ""), 8)

pytestmark = pytest.mark.law


@cache
def broken() -> tuple[Broken, ...]:
    found = (execute(name, seed) for name in sources() for seed in range(SEEDS))
    return tuple(one for one in found if one is not None)


@pytest.mark.parametrize("law", ["raises", "tiles", "chunking", "events"])
def test_no_law_breaks(law: str) -> None:
    found = [one for one in broken() if one.law == law]
    assert not found, (len(found), reduced(found[0]))


def test_an_execution_is_its_seed() -> None:
    assert execute("hermes", 3) == execute("hermes", 3)

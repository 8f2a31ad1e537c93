"""Compiles the reader, its scanners and what they call by mypyc, where that can be done.

The sources are the same either way: what is compiled is taken by Python instead of the `.py` beside it, and a compiled
module of another version or platform has another name and is not looked at. Without a C compiler, or with
`TOOLPARSE_PURE=1`, nothing is compiled, and the wheel holds the sources alone.

An editable install gets the compiled modules beside their sources; `make compile` renews them when a source changes.
"""

from __future__ import annotations

import atexit
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

#: What is compiled. Structs and dataclasses stay interpreted; docs/decisions/0008 says why, and what mypyc forbids.
_COMPILED = {
    "codecs": "elements json literals matching scanner tagged unescaped values wrapper",
    "reader": "broken calls finding pieces plain reader states tables trial turn window",
}
MODULES = tuple(f"toolparse/{folder}/{name}.py" for folder, names in _COMPILED.items() for name in names.split())

_SETUP = """
import sys
from mypyc.build import mypycify
from setuptools import setup
# What is imported and not compiled may need what a build has not: its errors are not ours to tell. Without the
# installed packages, a full environment compiles the same as an isolated build, in less than a tenth of the time.
options = ["--config-file=", "--no-site-packages", "--strict", "--ignore-missing-imports", "--follow-imports=silent"]
options += ["--no-warn-unused-ignores", "--no-warn-return-any"]
setup(
    name="toolparse",
    packages=[],
    ext_modules=mypycify(
        [*options, *sys.argv.pop().split(",")], opt_level="3", debug_level="0", group_name="toolparse"
    ),
)
"""


def compile_modules(root: Path) -> list[Path]:
    """The compiled modules, in a new folder; their places in it are those beside the sources.

    Raises RuntimeError, with what the compiler said, where that can't be done.
    """
    target = Path(tempfile.mkdtemp(prefix="toolparse-"))
    atexit.register(shutil.rmtree, target, ignore_errors=True)  # the wheel takes its files from there
    command = [sys.executable, "-c", _SETUP, "-q", "build_ext", f"--build-lib={target}", f"--build-temp={target}/temp"]
    environment = {**os.environ, "MYPY_CACHE_DIR": str(target / "mypy")}
    build = root / "build"
    kept = build.exists()
    command.append(",".join(MODULES))
    run = subprocess.run(command, check=False, cwd=root, env=environment, capture_output=True, text=True)
    if not kept:
        shutil.rmtree(build, ignore_errors=True)
    if run.returncode:
        raise RuntimeError((run.stderr or run.stdout).strip())
    suffix = sysconfig.get_config_var("EXT_SUFFIX") or ".so"
    return [path for path in target.rglob(f"*{suffix}") if "temp" not in path.relative_to(target).parts]


def place_of(module: Path) -> Path:
    """Where a compiled module belongs, from the project's root."""
    parts = module.parts
    return Path(*parts[parts.index("toolparse") :]) if "toolparse" in parts else Path(module.name)


def compile_in_place(root: Path) -> None:
    """Puts the compiled modules beside their sources."""
    for module in compile_modules(root):
        place = root / place_of(module)
        place.unlink(missing_ok=True)  # a process that has the old one loaded keeps it
        shutil.copy(module, place)


class CompileHook(BuildHookInterface[Any]):
    """The build hook."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile for a wheel, or in place for an editable install; say in one line where it is not done."""
        if self.target_name != "wheel" or os.environ.get("TOOLPARSE_PURE", "0") not in ("", "0"):
            return
        root = Path(self.root)
        try:
            if version == "editable":
                compile_in_place(root)
                return
            modules = compile_modules(root)
        except (ImportError, OSError, RuntimeError) as error:
            first = str(error).splitlines()[-1:] or [type(error).__name__]
            self.app.display_info(f"toolparse is built without compiled modules, which works and is slower: {first[0]}")
            return
        build_data["pure_python"] = False
        build_data["infer_tag"] = True
        build_data["force_include"].update({str(module): str(place_of(module)) for module in modules})


if __name__ == "__main__":
    compile_in_place(Path(__file__).resolve().parent)

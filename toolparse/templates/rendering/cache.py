"""What is kept on disk between runs: data, never code, in a folder that is the user's alone.

Whoever can write into the cache could choose how a model's output is read, so nothing is trusted by its place:

* the folder is named by an absolute path, belongs to the user and to nobody else (mode 0700; one that others may write
  to is not used), and so does every file; links are not followed, and only regular files are opened, without waiting;
* what is read is bounded, fits the digest before it (damage), and is validated by whoever asked for it (malice);
* files are written beside and moved in one step, so that readers see the old one or the new one;
* the folder is bounded: the oldest files go first.

Where any of this does not hold nothing is kept and nothing is read; a cache never is a reason to fail.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import secrets
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

#: Of one entry, in bytes: a verdict has some ten thousand.
MAX_ENTRY = 1 << 20
#: Of the whole folder: bytes, files.
MAX_BYTES = 32 << 20
MAX_FILES = 2048
_WRITES_PER_LOOK = 32  # at how large the folder is
_DIGEST = 32
_NAME = re.compile(r"[0-9a-f]{2,128}")

_DIR_FD = os.open in os.supports_dir_fd and os.rename in os.supports_dir_fd
_FLAGS = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
_writes = 0


def cache_folder() -> Path | None:
    """Where things are kept; None when switched off (`TOOLPARSE_CACHE=off`) or named by a path that is not absolute."""
    chosen = os.environ.get("TOOLPARSE_CACHE", "")
    if chosen.lower() in ("off", "0", "no", "none"):
        return None
    if chosen:
        folder = Path(chosen)
    else:
        try:
            folder = _usual() / "toolparse"
        except RuntimeError:  # no home
            return None
    return folder if folder.is_absolute() else None


def _usual() -> Path:
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")


def read_cache(kind: str, key: str) -> bytes | None:
    """What was kept under a key (hexadecimal), or None: absent, damaged, too large, or not the user's own."""
    try:
        with _folder(kind, make=False) as folder:
            data = _read(folder, _checked(key))
    except (OSError, ValueError):
        return None
    body = data[_DIGEST:]
    return body if data[:_DIGEST] == hashlib.sha256(body).digest() else None


def write_cache(kind: str, key: str, body: bytes) -> None:
    """Keep something under a key (hexadecimal); silently not, where nothing can be kept safely."""
    global _writes
    if len(body) + _DIGEST > MAX_ENTRY:
        return
    with contextlib.suppress(OSError, ValueError), _folder(kind, make=True) as folder:
        _write(folder, _checked(key), hashlib.sha256(body).digest() + body)
        if _writes % _WRITES_PER_LOOK == 0:
            _evict(folder)
        _writes += 1


def _checked(key: str) -> str:
    if _NAME.fullmatch(key) is None:
        raise ValueError(f"{key!r} is no key")
    return key


class _Folder:
    """A folder that was looked at: by its descriptor where the system has such calls, else by its path."""

    def __init__(self, path: str, fd: int | None) -> None:
        self.path = path
        self.fd = fd

    def name(self, name: str) -> str:
        return name if self.fd is not None else os.path.join(self.path, name)

    def names(self) -> list[str]:
        return os.listdir(self.path if self.fd is None else self.fd)


@contextlib.contextmanager
def _folder(kind: str, *, make: bool) -> Iterator[_Folder]:
    """The folder of a kind, its own and its parent's owner and mode asked. Raises OSError."""
    root = cache_folder()
    if root is None:
        raise FileNotFoundError("nothing is kept")
    if make:
        _make(root)
    if not _DIR_FD:  # Windows: no such descriptors, and folders of the user's profile are the user's own
        path = root / kind
        if make:
            path.mkdir(mode=0o700, exist_ok=True)
        yield _Folder(str(path), None)
        return
    outer = os.open(root, os.O_RDONLY | os.O_DIRECTORY | _FLAGS)
    try:
        _own(os.fstat(outer))
        if make:
            with contextlib.suppress(FileExistsError):
                os.mkdir(kind, 0o700, dir_fd=outer)
        inner = os.open(kind, os.O_RDONLY | os.O_DIRECTORY | _FLAGS, dir_fd=outer)
    finally:
        os.close(outer)
    try:
        _own(os.fstat(inner))
        yield _Folder(str(root / kind), inner)
    finally:
        os.close(inner)


def _make(root: Path) -> None:
    """The folder, and what is missing above it, for the user alone whatever the umask."""
    missing = []
    at = root
    while not at.exists() and at != at.parent:
        missing.append(at)
        at = at.parent
    for folder in reversed(missing):
        with contextlib.suppress(FileExistsError):
            folder.mkdir(mode=0o700)


def _own(status: os.stat_result) -> None:
    """Refuse what belongs to others or what others may write."""
    if hasattr(os, "getuid") and status.st_uid != os.getuid():
        raise PermissionError("it belongs to another user")
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and os.name == "posix":
        raise PermissionError("others may write to it")


def _read(folder: _Folder, name: str) -> bytes:
    fd = os.open(folder.name(name), os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | _FLAGS, dir_fd=folder.fd)
    with os.fdopen(fd, "rb") as file:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_ENTRY:
            raise OSError("no regular file of the size of an entry")
        _own(status)
        return file.read(MAX_ENTRY)


def _write(folder: _Folder, name: str, data: bytes) -> None:
    new = f".new-{secrets.token_hex(8)}"
    fd = os.open(folder.name(new), os.O_WRONLY | os.O_CREAT | os.O_EXCL | _FLAGS, 0o600, dir_fd=folder.fd)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(data)
        os.replace(folder.name(new), folder.name(name), src_dir_fd=folder.fd, dst_dir_fd=folder.fd)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(folder.name(new), dir_fd=folder.fd)
        raise


def _evict(folder: _Folder) -> None:
    """Take the oldest files out until three quarters of what is allowed are left."""
    kept: list[tuple[float, int, str]] = []
    for name in folder.names():
        with contextlib.suppress(OSError):  # another process may evict as well
            status = os.stat(folder.name(name), dir_fd=folder.fd, follow_symlinks=False)
            kept.append((status.st_mtime, status.st_size, name))
    size, count = sum(entry[1] for entry in kept), len(kept)
    if size <= MAX_BYTES and count <= MAX_FILES:
        return
    for _, bytes_, name in sorted(kept):
        if size <= MAX_BYTES * 3 // 4 and count <= MAX_FILES * 3 // 4:
            return
        with contextlib.suppress(OSError):
            os.unlink(folder.name(name), dir_fd=folder.fd)
        size, count = size - bytes_, count - 1

"""The folder that keeps the stand-in libraries: it is the user's alone, and what is in it is checked before use.

A library that is preloaded runs with all the rights of the user. So the folder must belong to this user, and nobody
else may be able to write to it or to put another in its place.
"""

from __future__ import annotations

import fcntl
import grp
import hashlib
import os
import pwd
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec
from platformdirs import user_cache_path

from attnprof.emulation.toolkit import EmulationError

BUILDING = "building-"
_MANIFEST = "manifest.json"
_UNUSED_SECONDS = 90 * 24 * 3600.0  # after which the libraries of another torch or version are removed
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
_OTHERS_ENTER = stat.S_IXGRP | stat.S_IXOTH
_ELSEWHERE = "set XDG_CACHE_HOME to a folder of your own"
# Words of the system for a folder that does not serve, and what helps; they are also in a compiler's messages.
_REMEDIES = (
    ("No space left on device", "make room there, or set XDG_CACHE_HOME to a folder that has room"),
    ("Disk quota exceeded", "make room there, or set XDG_CACHE_HOME to a folder that has room"),
    ("Read-only file system", "set XDG_CACHE_HOME to a folder that can be written"),
    ("Permission denied", "make it writable, or set XDG_CACHE_HOME to a folder that is"),
    ("Not a directory", _ELSEWHERE),
    ("File exists", _ELSEWHERE),
)


class _File(msgspec.Struct, frozen=True):
    """A library as it was when it had been built."""

    bytes: int
    sha256: str


def remedy(words: str) -> str:
    """Return what to do about a system's message on a folder or disk; "" if that is not what it is about."""
    return next((action for known, action in _REMEDIES if known in words), "")


def private_folder() -> Path:
    """Return the folder for the libraries, which nobody else can write to; make it if it is not there.

    Raises:
        EmulationError: it cannot be made, or others can change it.
    """
    folder = user_cache_path("attnprof") / "emulation"
    if not folder.is_absolute():  # a user without an entry in the password file and without HOME
        raise EmulationError(f"the emulated device needs a cache folder, and this user has no home: {_ELSEWHERE}")
    if any(character in str(folder) for character in " :;\t\n"):  # LD_PRELOAD separates by these, without escapes
        raise EmulationError(
            f"the emulated device cannot be kept in {str(folder)!r}, whose name has a space or a colon: set "
            f"XDG_CACHE_HOME to a folder without"
        )
    try:
        _make(folder)
        folder = folder.resolve()
        why = _open_to_others(folder)
    except OSError as error:
        raise cannot_build(folder, error) from None
    if why:
        raise EmulationError(f"the emulated device is not kept in {folder}, since {why}: {_ELSEWHERE}")
    return folder


def built(name: str, what: str, build: Callable[[Path], Iterable[str]], notify: Callable[[str], None]) -> Path:
    """Return a folder of libraries; build them if this is the first time, or if they are damaged.

    Args:
        name: the folder's name, which tells what the libraries are built from.
        what: the libraries in words, for `notify`.
        build: builds them in an empty folder and returns the names of the files to keep.
        notify: called with a line of text before the build.

    Raises:
        EmulationError: the cache folder cannot be written, others can write to it, or the compiler fails.
    """
    cache = private_folder()
    folder = cache / name
    try:
        if not folder.is_dir() or damage(folder):
            with locked(cache, notify):
                _build_if_needed(folder, what, build, notify)
        mark_used(folder)
    except OSError as error:
        raise cannot_build(cache, error) from None
    return folder


def _build_if_needed(
    folder: Path, what: str, build: Callable[[Path], Iterable[str]], notify: Callable[[str], None]
) -> None:
    """Build what is missing or damaged, unless another process just did; the cache folder is locked."""
    if folder.exists():
        why = damage(folder)
        if not why:
            return
        notify(f"the emulated device in {folder} is damaged ({why}): building it again")
        shutil.rmtree(folder) if folder.is_dir() else folder.unlink()
    else:
        notify(f"building {what}")
    clean(folder.parent, keep=folder)
    # The folder gets its final name when it is complete.
    aside = Path(tempfile.mkdtemp(prefix=BUILDING, dir=folder.parent))
    try:
        write_manifest(aside, build(aside))
        aside.rename(folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def cannot_build(folder: Path, error: OSError) -> EmulationError:
    """Return the error of a folder that cannot be written."""
    words = error.strerror or str(error)
    return EmulationError(f"the emulated device cannot be built in {folder}: {words}; {remedy(words) or _ELSEWHERE}")


def damage(folder: Path) -> str:
    """Return what is wrong with the libraries in a folder; "" if they are as they were built.

    Raises:
        OSError: the folder cannot be read.
    """
    try:
        expected = msgspec.json.decode((folder / _MANIFEST).read_bytes(), type=dict[str, _File])
    except (FileNotFoundError, NotADirectoryError):
        return f"it has no {_MANIFEST}"
    except (msgspec.DecodeError, UnicodeDecodeError):
        return f"{_MANIFEST} is damaged"
    for name, file in expected.items():
        try:
            found = (folder / name).lstat()
        except FileNotFoundError:
            return f"{name} is missing"
        own = stat.S_ISREG(found.st_mode) and found.st_uid == os.geteuid()
        if not own or found.st_size != file.bytes or _digest(folder / name) != file.sha256:
            return f"{name} has changed"
    return ""


def write_manifest(folder: Path, names: Iterable[str]) -> None:
    """Note the sizes and contents of the libraries in a folder."""
    files = {name: _File((folder / name).stat().st_size, _digest(folder / name)) for name in names}
    (folder / _MANIFEST).write_bytes(msgspec.json.encode(files))


@contextmanager
def locked(folder: Path, notify: Callable[[str], None]) -> Iterator[None]:
    """Let one process build at a time; the system releases the lock if that process dies.

    Args:
        folder: what is locked.
        notify: called with a line of text if another process builds, before waiting for it.
    """
    with (folder / "lock").open("w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            notify("another process is building the emulated device; waiting for it")
            fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def clean(folder: Path, keep: Path) -> None:
    """Remove what builds that were killed have left, and libraries that have not been used for months.

    Args:
        folder: the folder of `private_folder`, which is locked.
        keep: the libraries in use.
    """
    for path in folder.iterdir():
        with suppress(OSError):
            unused = path != keep and path.is_dir() and time.time() - path.stat().st_mtime > _UNUSED_SECONDS
            if path.name.startswith(BUILDING) or unused:
                shutil.rmtree(path)


def mark_used(folder: Path) -> None:
    """Note that the libraries in a folder are in use."""
    with suppress(OSError):
        os.utime(folder)


def _make(folder: Path) -> None:
    """Make a folder and its parents, for this user alone."""
    for path in [*reversed(folder.parents), folder]:
        if not path.is_dir():
            with suppress(FileExistsError):  # another process was faster, or a file is in the way, which shows next
                path.mkdir(mode=0o700)


def _open_to_others(folder: Path) -> str:
    """Return why others could change what is in a folder or put another in its place; "" if they cannot."""
    reachable = not any(_is_closed(path) for path in folder.parents)
    for path in [folder, *folder.parents]:
        found = path.stat()
        mine, mode = found.st_uid == os.geteuid(), found.st_mode
        if not mine and (path == folder or found.st_uid != 0):
            return f"{path} belongs to {_user(found.st_uid)}"
        sticky = mode & stat.S_ISVTX and path != folder  # only the owner of an entry can replace it
        if mode & _OTHERS_WRITE and reachable and not sticky and not _only_my_group(found):
            return f"others can write to {path}"
    return ""


def _is_closed(path: Path) -> bool:
    """Return whether only this user can enter a folder, so that nobody else reaches what is in it."""
    found = path.stat()
    return found.st_uid == os.geteuid() and not found.st_mode & _OTHERS_ENTER


def _only_my_group(found: os.stat_result) -> bool:
    """Return whether only a group may write that has no member but this user, as many systems give to each user."""
    if found.st_mode & stat.S_IWOTH:
        return False
    with suppress(KeyError):
        user, group = pwd.getpwuid(os.geteuid()), grp.getgrgid(found.st_gid)
        return group.gr_gid == user.pw_gid and group.gr_name == user.pw_name and set(group.gr_mem) <= {user.pw_name}
    return False


def _user(number: int) -> str:
    with suppress(KeyError):
        return f"the user {pwd.getpwuid(number).pw_name}"
    return f"the user with the number {number}"


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()

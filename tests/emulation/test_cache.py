"""The folder of the stand-in libraries: whose it is, whether they are whole, and what is told if it does not serve."""

import errno
import fcntl
import os
import tempfile
import threading
import time
from pathlib import Path

import pytest

from attnprof.emulation import cache
from attnprof.emulation.build import library_paths
from attnprof.emulation.cache import clean, damage, locked, private_folder, write_manifest
from attnprof.emulation.toolkit import EmulationError, find_toolkit


@pytest.fixture
def home(tmp_path, monkeypatch):
    """The cache folder's parent, as XDG_CACHE_HOME names it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def open_home(monkeypatch):
    """Set a cache folder in a place that others can enter, unlike pytest's own folders."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        monkeypatch.setenv("XDG_CACHE_HOME", str(Path(folder) / "cache"))
        (Path(folder) / "cache").mkdir(mode=0o755)
        yield Path(folder) / "cache"


@pytest.fixture
def libraries(tmp_path):
    folder = tmp_path / "torch-1"
    folder.mkdir()
    for name in ("libcuda.so.1", "libcublas.so.13"):
        (folder / name).write_bytes(name.encode() * 100)
    write_manifest(folder, ["libcuda.so.1", "libcublas.so.13"])
    return folder


def test_a_new_folder_is_closed_to_others(home):
    folder = private_folder()
    assert folder == home / "attnprof" / "emulation"
    assert [path.stat().st_mode & 0o777 for path in (home, home / "attnprof", folder)] == [0o700] * 3


def test_a_folder_that_others_can_write_to_is_refused(open_home):
    home, folder = open_home, private_folder()
    (home / "attnprof").chmod(0o755)
    for path, mode, word in [
        (folder, 0o777, "others can write to"), (folder, 0o1777, "others can write to"),
        (home / "attnprof", 0o757, "others can write to"),
    ]:  # fmt: skip
        path.chmod(mode)
        with pytest.raises(EmulationError, match=f"since {word} {path}: set XDG_CACHE_HOME") as caught:
            private_folder()
        assert "\n" not in str(caught.value)
        path.chmod(0o755)
    # In a sticky folder, as /tmp is, only the owner of an entry can replace it.
    home.chmod(0o1777)
    assert private_folder() == folder
    # Nobody enters, so it does not matter what is further inside.
    (home / "attnprof").chmod(0o777)
    home.chmod(0o700)
    assert private_folder() == folder


def test_a_folder_of_another_user_is_refused(home, monkeypatch):
    folder = private_folder()
    monkeypatch.setattr(cache.os, "geteuid", lambda: folder.stat().st_uid + 12345)
    with pytest.raises(EmulationError, match=f"since {folder} belongs to the user .*: set XDG_CACHE_HOME"):
        private_folder()


def test_the_group_of_this_user_alone_is_nobody_else(open_home, monkeypatch):
    folder = private_folder()
    (open_home / "attnprof").chmod(0o755)
    found = folder.stat()
    folder.chmod(0o775)

    class Entry:
        pw_gid = gr_gid = found.st_gid
        pw_name = gr_name = "me"
        gr_mem = ()

    monkeypatch.setattr(cache.pwd, "getpwuid", lambda _: Entry)
    monkeypatch.setattr(cache.grp, "getgrgid", lambda _: Entry)
    assert private_folder() == folder
    Entry.gr_mem = ("me", "another")
    with pytest.raises(EmulationError, match="others can write"):
        private_folder()


@pytest.mark.parametrize("name", ["a b", "a:b"])
def test_a_name_that_cannot_be_preloaded_is_told(name, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / name))
    with pytest.raises(EmulationError, match="has a space or a colon: set XDG_CACHE_HOME"):
        private_folder()


def test_a_home_that_is_no_folder_is_told(tmp_path, monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    (tmp_path / "file").touch()
    monkeypatch.setenv("HOME", str(tmp_path / "file"))
    with pytest.raises(EmulationError, match="Not a directory; set XDG_CACHE_HOME to a folder of your own"):
        private_folder()
    monkeypatch.setattr(cache, "user_cache_path", lambda _: Path("~/.cache/attnprof"))
    with pytest.raises(EmulationError, match="this user has no home: set XDG_CACHE_HOME"):
        private_folder()


@pytest.mark.parametrize(
    ("harm", "what"),
    [
        (lambda folder: (folder / "libcuda.so.1").unlink(), "libcuda.so.1 is missing"),
        (lambda folder: os.truncate(folder / "libcuda.so.1", 10), "libcuda.so.1 has changed"),
        (lambda folder: (folder / "libcublas.so.13").write_bytes(b"x" * 1500), "libcublas.so.13 has changed"),
        (lambda folder: (folder / "manifest.json").unlink(), "it has no manifest.json"),
        (lambda folder: (folder / "manifest.json").write_text("{"), "manifest.json is damaged"),
        (lambda folder: (folder / "manifest.json").write_text('{"a": 1}'), "manifest.json is damaged"),
    ],
)  # fmt: skip
def test_damage_is_noticed(libraries, harm, what):
    assert damage(libraries) == ""
    harm(libraries)
    assert damage(libraries) == what


def test_a_link_in_place_of_a_library_is_damage(libraries, tmp_path):
    library = libraries / "libcuda.so.1"
    library.rename(tmp_path / "elsewhere.so")
    library.symlink_to(tmp_path / "elsewhere.so")
    assert damage(libraries) == "libcuda.so.1 has changed"


def test_what_killed_builds_left_and_what_nobody_uses_is_removed(libraries, tmp_path):
    for name in ("building-abc", "torch-old", "torch-recent"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "lib.so").touch()
    os.utime(tmp_path / "torch-old", (0, 0))
    os.utime(libraries, (0, 0))
    clean(tmp_path, keep=libraries)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["torch-1", "torch-recent"]


def test_who_waits_for_another_build_is_told(tmp_path):
    told = []
    with (tmp_path / "lock").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        threading.Timer(0.3, lambda: fcntl.flock(other, fcntl.LOCK_UN)).start()
        begun = time.monotonic()
        with locked(tmp_path, told.append):
            assert time.monotonic() - begun > 0.2
    assert told == ["another process is building the emulated device; waiting for it"]


@pytest.fixture
def toolkit():
    try:
        return find_toolkit()
    except EmulationError as error:
        pytest.skip(str(error))


def test_damaged_libraries_are_built_again(home, toolkit):
    told = []
    paths = library_paths(toolkit, told.append)
    os.truncate(paths[1], 100)
    (private_folder() / "building-left").mkdir()
    assert library_paths(toolkit, told.append) == paths
    folder = paths[0].parent
    assert told == [
        f"building the emulated device for torch {toolkit.torch} (once, some seconds)",
        f"the emulated device in {folder} is damaged ({paths[1].name} has changed): building it again",
    ]
    assert (damage(folder), sorted(path.name for path in folder.parent.iterdir())) == ("", ["lock", folder.name])
    assert library_paths(toolkit, told.append) == paths
    assert len(told) == 2


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.ENOSPC, "make room there, or set XDG_CACHE_HOME"),
        (errno.EDQUOT, "make room there, or set XDG_CACHE_HOME"),
        (errno.EROFS, "set XDG_CACHE_HOME to a folder that can be written"),
        (errno.EACCES, "make it writable, or set XDG_CACHE_HOME"),
    ],
)
def test_a_disk_that_does_not_take_it_is_told_with_the_remedy(home, toolkit, monkeypatch, tmp_path, number, remedy):
    def refused(**_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(cache.tempfile, "mkdtemp", refused)
    with pytest.raises(EmulationError, match=f"cannot be built in .*: {os.strerror(number)}; {remedy}"):
        library_paths(toolkit)
    monkeypatch.undo()
    # The compiler is the first that a full disk stops.
    monkeypatch.setenv("XDG_CACHE_HOME", str(home))
    compiler = tmp_path / "cc"
    compiler.write_text(f"#!/bin/sh\necho 'fatal error: when writing output: {os.strerror(number)}' >&2\nexit 1\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("CC", str(compiler))
    with pytest.raises(EmulationError, match=f"cannot be compiled: .*{os.strerror(number)}; {remedy}") as caught:
        library_paths(find_toolkit())
    assert "install gcc" not in str(caught.value)
    assert not list(home.rglob("building-*"))


def test_a_compiler_that_is_killed_is_told(home, toolkit, monkeypatch, tmp_path):
    compiler = tmp_path / "cc"
    compiler.write_text("#!/bin/sh\nkill -9 $$\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("CC", str(compiler))
    with pytest.raises(EmulationError, match="cc: ended by signal 9; end other programs if the machine is out of mem"):
        library_paths(find_toolkit())

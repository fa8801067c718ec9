"""The C sources of the emulated device, checked as a compiler sees them."""

import subprocess
from pathlib import Path

import pytest

from attnprof import emulation
from attnprof.emulation.toolkit import EmulationError, find_toolkit

NATIVE = Path(emulation.__file__).with_name("native")
# A stand-in has the parameters that the real function has, but reads only some of them.
WARNINGS = ("-Wall", "-Wextra", "-Werror", "-Wno-unused-parameter")


@pytest.fixture(scope="module")
def compiler():
    """The C compiler's command, with the headers that the installed torch brings."""
    try:
        toolkit = find_toolkit()
    except EmulationError as error:
        pytest.skip(str(error))
    folders = (NATIVE, NATIVE / "include", *toolkit.includes)
    return [*toolkit.compiler, *(f"-I{folder}" for folder in folders)]


@pytest.mark.parametrize("source", sorted(path.name for path in NATIVE.glob("*.c")))
def test_a_source_compiles_without_a_warning(compiler, source):
    command = [*compiler, "-O1", "-fPIC", "-pthread", *WARNINGS, "-c", NATIVE / source, "-o", "/dev/null"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

"""Programs that make a call of the system fail in the middle of a sweep, for `scripted.py`."""

_TIMES = """\
import errno, os
real, count = {call}, []
def failing(*args, **options):
    count.append(1)
    if len(count) {when}:
        raise OSError(errno.{error}, os.strerror(errno.{error}))
    return real(*args, **options)
{call} = failing
"""
FAULTS = {
    "fsync once": _TIMES.format(call="os.fsync", when="== 5", error="EIO"),
    "fsync from then on": _TIMES.format(call="os.fsync", when=">= 5", error="ENOSPC"),
    "fsync at first": _TIMES.format(call="os.fsync", when=">= 1", error="EDQUOT"),
    "half a write": """\
import errno, os, scripted
measure, count = scripted.ScriptedDevice.measure, []
def limited(*args, **options):
    count.append(1)
    if len(count) == 7:
        import resource
        from pathlib import Path
        import sys
        size = Path(sys.argv[sys.argv.index("--out") + 1]).stat().st_size
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 300, size + 300))
    return measure(*args, **options)
scripted.ScriptedDevice.measure = limited
""",
}

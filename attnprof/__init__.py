"""attnprof: what 2-D self-attention costs on your GPU, and which variant to use instead."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from attnprof.api import sweep
    from attnprof.attention import SelfAttention2d
    from attnprof.patching import patch, unpatch

from attnprof.version import __version__

__all__ = ["SelfAttention2d", "__version__", "patch", "sweep", "unpatch"]


def __getattr__(name: str) -> Any:
    # Late, so that the command line answers `--help` and reports without importing torch or pandas.
    if name == "SelfAttention2d":
        from attnprof.attention import SelfAttention2d

        return SelfAttention2d
    if name == "sweep":
        from attnprof.api import sweep

        return sweep
    if name in ("patch", "unpatch"):
        from attnprof import patching

        return getattr(patching, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

"""attnprof: what 2-D self-attention costs on your GPU, and which variant to use instead.

Measure with `sweep`, `limits`, `recommend`, `profile_model` and `run_program`; use what was found with
`SelfAttention2d`, `patch` and `unpatch`; look up the cards that can be emulated with `cards` and `find_card`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from attnprof.version import __version__

if TYPE_CHECKING:
    from attnprof.api import cards, find_card, limits, profile_model, recommend, run_program, sweep
    from attnprof.attention import SelfAttention2d
    from attnprof.cases.cards import Card
    from attnprof.errors import AttnprofError
    from attnprof.patching import PatchReport, patch, unpatch
    from attnprof.studies.model import ModelProfile
    from attnprof.studies.program import ProgramRun
    from attnprof.studies.recommend.recommendation import Recommendation

__all__ = [
    "AttnprofError",
    "Card",
    "ModelProfile",
    "PatchReport",
    "ProgramRun",
    "Recommendation",
    "SelfAttention2d",
    "__version__",
    "cards",
    "find_card",
    "limits",
    "patch",
    "profile_model",
    "recommend",
    "run_program",
    "sweep",
    "unpatch",
]

# Each name is imported when it is first used, so that the command line answers `--help` without torch or pandas.
_HOMES = {
    "AttnprofError": "errors",
    "Card": "cases.cards",
    "ModelProfile": "studies.model",
    "PatchReport": "patching",
    "ProgramRun": "studies.program",
    "Recommendation": "studies.recommend.recommendation",
    "SelfAttention2d": "attention",
    "cards": "api",
    "find_card": "api",
    "limits": "api",
    "patch": "patching",
    "profile_model": "api",
    "recommend": "api",
    "run_program": "api",
    "sweep": "api",
    "unpatch": "patching",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"attnprof.{_HOMES[name]}"), name)
    return value


def __dir__() -> list[str]:
    return __all__

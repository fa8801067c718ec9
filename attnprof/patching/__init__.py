"""Swapping the attention inside a user's own model, in place: `patch`, `unpatch`, and what they report.

`apply` walks through the model. `anatomy` lists what each module's parts could compute, as `formula`s. `recognise` runs
the block on stand-in parameters (`rehearsal`, `trial_run`) and compares it with each formula (`comparison`, `proof`).
`swaps` decides what becomes of the block, `patched_block` is what it becomes, and `patch_report` describes the changes.
"""

from attnprof.patching.apply import PatchError, patch, unpatch
from attnprof.patching.patch_report import Change, LeftAlone, PatchReport

__all__ = ["Change", "LeftAlone", "PatchError", "PatchReport", "patch", "unpatch"]

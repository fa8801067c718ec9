"""Swapping the attention inside a user's own model, in place: `patch`, `unpatch`, and what they report."""

from attnprof.patching.apply import PatchError, patch, unpatch
from attnprof.patching.patch_report import Change, LeftAlone, PatchReport

__all__ = ["Change", "LeftAlone", "PatchError", "PatchReport", "patch", "unpatch"]

"""`attnprof model`: a user's whole model, as it is and patched."""

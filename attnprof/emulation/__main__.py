"""`python -m attnprof.emulation t4 COMMAND...`: run a command with an emulated card in place of any other."""

from __future__ import annotations

import os
import sys

from attnprof.cases.cards import parse_cards
from attnprof.emulation import emulation_environment
from attnprof.errors import AttnprofError


def main() -> None:
    """Replace this process by the command, with the emulated card in its environment."""
    if len(sys.argv) < 3:
        sys.exit("usage: python -m attnprof.emulation GPU COMMAND...")
    try:
        [card] = parse_cards(sys.argv[1])
        environ = emulation_environment(card, lambda text: print(text, file=sys.stderr, flush=True), values=True)
    except AttnprofError as error:
        sys.exit(str(error))
    except ValueError:
        sys.exit(f"{sys.argv[1]}: give the name of one card, as t4")
    try:
        os.execvpe(sys.argv[2], sys.argv[2:], {**os.environ, **environ})
    except OSError as error:
        sys.exit(f"cannot run {sys.argv[2]}: {error.strerror}")


if __name__ == "__main__":
    main()

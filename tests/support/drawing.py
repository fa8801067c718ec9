"""A page as a terminal shows it."""

import io

from rich.console import Console


def drawn(page, width=80):
    """Return the page's table as text, without spaces at the ends of lines."""
    console = Console(width=width, file=io.StringIO(), force_terminal=False, highlight=False)
    console.print(page.table(), crop=False)
    return "".join(f"{line.rstrip()}\n" for line in console.file.getvalue().splitlines())

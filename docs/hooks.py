"""Builds what the site does not keep as text: links out of `docs`, and the pages made from the code.

mkdocs calls the `on_...` functions (hooks in mkdocs.yml). A page that is made from the code has a marker,
`<!-- generated: NAME -->`, and `GENERATED` names the function that writes what stands in its place.
"""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent)]
from generated import cli_reference, column_tables, record_fields, schema_versions  # type: ignore[import-not-found]  # noqa: E402

ROOT = Path(__file__).parent.parent
GENERATED: dict[str, Callable[[], str]] = {
    "commands": cli_reference,
    "columns": column_tables,
    "record": record_fields,
    "schema": schema_versions,
}
# Files of the repository that are pages or downloads of the site too, at the same path.
MOUNTED = ("CONTRIBUTING.md", "CHANGELOG.md", "results/**/*.md", "results/**/*.csv", "results/**/*.png")
_LINK = re.compile(r"(?<!!)\[([^\]]*)\]\(([^)\s]+)\)")
_FENCE = re.compile(r"(^ *```.*?^ *```$)", re.MULTILINE | re.DOTALL)
_log = logging.getLogger("mkdocs.hooks.attnprof")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the mounted files of the repository."""
    for pattern in MOUNTED:
        for path in sorted(ROOT.glob(pattern)):
            files.append(File.generated(config, path.relative_to(ROOT).as_posix(), abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Write the generated parts, and turn links to files of the repository into links of the site."""
    for name, write in GENERATED.items():
        marker = f"<!-- generated: {name} -->"
        if marker in markdown:
            markdown = markdown.replace(marker, write())
    source = page.file.src_uri
    folder = (ROOT if _is_mounted(source) else ROOT / "docs") / Path(source).parent
    parts = _FENCE.split(markdown)  # every other part is a block of code
    parts[::2] = [_LINK.sub(lambda link: _site_link(link, folder, source, files), part) for part in parts[::2]]
    return "".join(parts)


def _is_mounted(source: str) -> bool:
    return not (ROOT / "docs" / source).exists()


def _site_link(link: re.Match[str], folder: Path, source: str, files: Files) -> str:
    text, target = link.groups()
    parts = urlsplit(target)
    if parts.scheme or parts.netloc or not parts.path:
        return link.group()
    path = Path(os.path.normpath(folder / parts.path))
    if not path.exists():
        _log.warning("%s links to %s, which does not exist", source, target)
        return link.group()
    here = path.relative_to(ROOT).as_posix()
    site = here.removeprefix("docs/") if here.startswith("docs/") else here
    site = {"README.md": "index.md", "results": "results/README.md"}.get(site, site)
    if files.get_file_from_path(site) is None or site == "docs":
        return text if text.startswith("`") else f"{text} (`{here}` in the repository)"
    relative = os.path.relpath(site, Path(source).parent)
    fragment = f"#{parts.fragment}" if parts.fragment else ""
    return f"[{text}]({relative}{fragment})"

# ruff: noqa: INP001 - tools are no package
"""What mkdocs.yml cannot say of the site: a hook of MkDocs, which calls the functions `on_…`.

Links in the repository are those of its files, so that they work where the files are read. Here they become links of
the site: pages outside docs/ are taken in, folders become their index, and what is no page (source code, units) becomes
plain text. A link that leads to nothing is a warning, which ends a strict build.
"""

from __future__ import annotations

import logging
import posixpath
import re
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
LOG = logging.getLogger("mkdocs.hooks.site")
TAKEN_IN = {
    "kubernetes/README.md": "how-to/kubernetes.md",
    "prometheus/README.md": "how-to/prometheus.md",
    "grafana/README.md": "how-to/grafana.md",
    "keepalived/README.md": "reference/keepalived.md",
    "CHANGELOG.md": "changelog.md",
    "SECURITY.md": "security/policy.md",
}
"""File of the repository → page of the site; those that are not there are left out."""
ALIASES = {
    "README.md": "index.md",
    "docs/adr": "adr/index.md",
    "docs": "index.md",
    "docs/runbooks": "runbooks/index.md",
}
INDEXES = ("index.md", "README.md")
LINK = re.compile(r"(?<!!)\[(?P<text>[^\]\n]*(?:\n[^\]\n]*)?)\]\((?P<target>[^)\s#:]+)(?P<anchor>#[^)\s]*)?\)")
FENCE = re.compile(r"(^```.*?^```[ ]*$)", re.MULTILINE | re.DOTALL)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Take in pages from outside docs/, make the list of decisions, and fill in the patterns of the navigation."""
    for source, page in TAKEN_IN.items():
        if (ROOT / source).is_file():
            files.append(File.generated(config, page, content=(ROOT / source).read_text()))
    files.append(File.generated(config, "adr/index.md", content=_decisions()))
    pages = sorted(file.src_uri for file in files.documentation_pages())
    if config.nav is not None:
        config.nav = _filled(config.nav, pages, set(_named(config.nav)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:  # noqa: ARG001 - MkDocs'
    """Turn links of the repository into links of the site, but in fenced blocks."""
    here = page.file.src_uri
    sources = {value: key for key, value in TAKEN_IN.items()}
    place = sources.get(here, f"docs/{here}")

    def replaced(match: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(place), match["target"]))
        found = _page_of(target, files)
        if found is not None:
            return (
                f"[{match['text']}]({posixpath.relpath(found, posixpath.dirname(here) or '.')}{match['anchor'] or ''})"
            )
        if (ROOT / target).exists() and (not target.startswith("docs/") or (ROOT / target).is_dir()):
            return f"{match['text']}" if match["text"].startswith("`") else f"`{target}`"
        LOG.warning("%s links to %s, which is not there", place, match["target"])
        return match[0]

    parts = FENCE.split(markdown)
    return "".join(part if part.startswith("```") else LINK.sub(replaced, part) for part in parts)


def _page_of(target: str, files: Files) -> str | None:
    """The file of the site that stands for a path of the repository."""
    folders = {posixpath.dirname(file): page for file, page in TAKEN_IN.items() if "/" in file}
    found = {**TAKEN_IN, **folders, **ALIASES}.get(target)
    if found is None and target.startswith("docs/"):
        found = target.removeprefix("docs/")
    if found is None:
        return None
    several = (found, f"{found}/index.md", f"{found}/README.md")
    return next((one for one in several if files.get_file_from_path(one) is not None), None)


def _decisions() -> str:
    """The page that lists the decisions."""
    rows = []
    for file in sorted((ROOT / "docs/adr").glob("[0-9]*.md")):
        title = file.read_text().partition("\n")[0].removeprefix("# ")
        number, _, rest = title.partition(". ")
        rows.append(f"| {number} | [{rest}]({file.name}) |\n")
    return "# Decisions\n\nWhat was decided, why, and what else was looked at.\n\n| | |\n| --- | --- |\n" + "".join(
        rows
    )


def _named(nav: Any) -> list[str]:
    """Every page that stands in the navigation by its own name."""
    if isinstance(nav, str):
        return [] if "*" in nav else [nav]
    return [name for item in (nav.values() if isinstance(nav, dict) else nav) for name in _named(item)]


def _filled(nav: Any, pages: list[str], named: set[str]) -> Any:
    """The same with pages for patterns. A section without a page is left out."""
    if isinstance(nav, dict):
        filled = {title: _filled(item, pages, named) for title, item in nav.items()}
        return {title: item for title, item in filled.items() if item}
    if isinstance(nav, list):
        found: list[Any] = []
        for item in nav:
            one = _filled(item, pages, named)
            found += one if isinstance(one, list) else [one] if one else []
        return found
    return _matching(nav, pages, named) if "*" in nav else nav


def _matching(pattern: str, pages: list[str], named: set[str]) -> list[str]:
    """Pages right in the pattern's folder that have no place of their own; its index first."""
    folder = posixpath.dirname(pattern)
    found = [page for page in pages if posixpath.dirname(page) == folder and fnmatchcase(page, pattern)]
    return sorted({*found} - named, key=lambda page: (posixpath.basename(page) not in INDEXES, page))

"""MkDocs hooks: pages that stand outside docs/, and links to files of the repository, resolve in the site too."""

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

REPOSITORY = Path(__file__).resolve().parents[1]
DOCS = REPOSITORY / "docs"
# Pages that GitHub readers find at the top of the repository.
PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "datasets/README.md": "datasets.md",
    **{
        path.relative_to(REPOSITORY).as_posix(): f"examples/{path.parent.name}{path.name.removeprefix('README')}"
        for path in sorted((REPOSITORY / "examples").glob("*/README*.md"))
    },
}
LANGUAGES = {".py": "python", ".txt": "text", ".sh": "bash", ".yaml": "yaml", ".toml": "toml"}
LINK = re.compile(r"(?<=\]\()(?!https?:|mailto:|#)(?P<path>[^)#\s]+)(?=[)#])|(?<=src=\")(?!https?:)(?P<image>[^\"]+)")


def on_files(files: Files, config: Any) -> Files:
    """Add the pages of the top folder, and a page with the source of each repository file that a page links to."""
    for source, page in PAGES.items():
        files.append(File.generated(config, page, content=(REPOSITORY / source).read_text()))
    for path in sorted(_linked_sources(files)):
        code = (REPOSITORY / path).read_text()
        content = f"# `{path}`\n\n````{LANGUAGES[Path(path).suffix]}\n{code}````\n"
        files.append(File.generated(config, _source_page(path), content=content))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Rewrite links, which are relative to the repository, to the pages of the site."""
    uri = page.file.src_uri
    if uri.startswith("source/"):
        return markdown
    markdown = re.sub(r"^```text \w+$", "```text", markdown, flags=re.MULTILINE)  # a second word is for the tests alone
    folder = posixpath.dirname(_repository_path(uri))
    return LINK.sub(lambda match: _site_link(match.group(0), folder, uri), markdown)


def _linked_sources(files: Files) -> set[str]:
    linked = set()
    for file in files.documentation_pages():
        path = _repository_path(file.src_uri)
        for match in LINK.finditer((REPOSITORY / path).read_text()):
            target = posixpath.normpath(posixpath.join(posixpath.dirname(path), match.group(0)))
            if Path(target).suffix in LANGUAGES and (REPOSITORY / target).is_file():
                linked.add(target)
    return linked


def _repository_path(uri: str) -> str:
    """The path in the repository of a page of the site."""
    return next((source for source, page in PAGES.items() if page == uri), f"docs/{uri}")


def _source_page(path: str) -> str:
    return f"source/{path}.md"


def _site_link(link: str, folder: str, uri: str) -> str:
    target = posixpath.normpath(posixpath.join(folder, link))
    if target == "docs/README.md":
        page = "index.md"  # the site's navigation is its index
    elif target in PAGES:
        page = PAGES[target]
    elif target.startswith("docs/"):
        page = target.removeprefix("docs/")
    elif Path(target).suffix in LANGUAGES and (REPOSITORY / target).is_file():
        page = _source_page(target)
    else:
        return link  # reported by the strict build as a link that leads nowhere
    return posixpath.relpath(page, posixpath.dirname(uri) or ".")

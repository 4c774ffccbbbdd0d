"""MkDocs hook: adds the pages of the site that are made of other files.

`settings.md` is the output of `sycophancy settings --markdown`, so it lists the settings of the
installed code. The changelog and the notes for contributors are the files at the top of the
repository, with their links pointing to pages of the site.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
PAGES = {
    "changelog.md": "CHANGELOG.md",
    "contributing.md": "CONTRIBUTING.md",
    "security.md": "SECURITY.md",
}


def settings() -> str:
    """The reference of all settings, in Markdown."""
    command = [sys.executable, "-m", "sycophancy", "settings", "--markdown"]
    done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    return done.stdout


def of_the_repository(name: str) -> str:
    """A file at the top of the repository; links into `docs/` become links to pages."""
    text = (ROOT / name).read_text(encoding="utf-8")
    return re.sub(r"\]\((?:\./)?docs/", "](", text)


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Adds the generated pages to the files of the site."""
    pages = {"settings.md": settings()}
    pages |= {page: of_the_repository(name) for page, name in PAGES.items()}
    for page, text in pages.items():
        files.append(File.generated(config, page, content=text))
    return files

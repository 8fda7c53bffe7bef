"""Pages of the site that stand elsewhere in the repository: a hook of mkdocs."""

from __future__ import annotations

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

PAGES = {
    "README.md": "index.md",
    "CHANGELOG.md": "changes.md",
    "CONTRIBUTING.md": "contributing.md",
}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """The pages with the links that they need inside of the site."""
    root = Path(config.config_file_path).parent
    for name, target in PAGES.items():
        text = (
            (root / name)
            .read_text()
            .replace("](docs/", "](")
            .replace("[Apache-2.0](LICENSE)", "Apache-2.0")
        )
        links = {re.escape(f"]({old})"): f"]({new})" for old, new in PAGES.items()}
        for old, new in links.items():
            text = re.sub(old, new, text)
        files.append(File.generated(config, target, content=text))
    return files

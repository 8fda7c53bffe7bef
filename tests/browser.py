"""A real browser without a window or a network; tests that need one skip where there is none."""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
LOOK_INSIDE = """<!doctype html>
<iframe id="page" width="{width}" height="3000" src="{page}"></iframe><pre id="found"></pre>
<script>
window.onload = () => {{
  const inside = page.contentDocument, root = inside.documentElement;
  found.textContent = JSON.stringify({{
    text: inside.body.innerText,
    overflow: root.scrollWidth - root.clientWidth,
    images: inside.images.length,
    broken: [...inside.images].filter((image) => !image.naturalWidth).length,
    curves: inside.querySelectorAll("polyline").length,
    letters: [...inside.querySelectorAll("svg text")].map(
      (text) => text.getBoundingClientRect().height),
    tags: [...new Set([...inside.querySelectorAll("*")].map((one) => one.localName))],
  }});
}};
</script>
"""


def look(page: Path, width: int = 1280) -> tuple[dict[str, Any], list[str]]:
    """What the page is like in a window of so many pixels, and all that its console says."""
    wrapper = page.with_name(f"look-{width}.html")
    wrapper.write_text(LOOK_INSIDE.format(width=width, page=page.name))
    options = ["--allow-file-access-from-files", "--enable-logging=stderr", "--v=0"]
    done = _browse(wrapper, *options, "--virtual-time-budget=3000", "--dump-dom")
    text = done.stdout.partition('id="found">')[2].partition("</pre>")[0]
    assert text, f"the browser did not show the page: {done.stderr[-2000:]}"
    for sign, code in (("<", "&lt;"), (">", "&gt;"), ("&", "&amp;")):
        text = text.replace(code, sign)
    return json.loads(text), [line for line in done.stderr.splitlines() if "CONSOLE" in line]


def screenshot(page: Path, to: Path, width: int = 1280, height: int = 2000) -> Path:
    """A PNG file of the top of the page."""
    _browse(page, "--hide-scrollbars", f"--window-size={width},{height}", f"--screenshot={to}")
    return to


def _browse(page: Path, *options: str) -> subprocess.CompletedProcess[str]:
    names = (os.environ.get("RAWDIFF_TEST_BROWSER", ""), *NAMES)
    browser = next((found for name in names if name and (found := shutil.which(name))), None)
    if browser is None:
        pytest.skip(f"no browser: none of {', '.join(NAMES)} is installed")
    command = [
        browser, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
        "--host-resolver-rules=MAP * ~NOTFOUND", f"--user-data-dir={page.parent / 'profile'}",
    ]  # fmt: skip
    return subprocess.run(
        [*command, *options, page.resolve().as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )

"""Draws docs/report.png: a pull request's report as GitHub shows it, in a headless browser.

Run it by `tools/picture.py REPORT.md MERMAID.JS PICTURE.png`. MERMAID.JS is dist/mermaid.min.js of the npm
package `mermaid`, which only this picture needs, because GitHub draws Mermaid itself.
"""

import subprocess
import sys
import tempfile
from html import escape
from pathlib import Path
from typing import Any

from markdown_it import MarkdownIt
from PIL import Image, ImageChops

STYLE = """
body {font: 14px/1.5 -apple-system, 'Segoe UI', 'Noto Sans', Helvetica, Arial, sans-serif, 'Noto Color Emoji';
  color: #1f2328; max-width: 860px; margin: 24px auto; padding: 24px; border: 1px solid #d1d9e0;
  border-radius: 6px}
h2, h3 {border-bottom: 1px solid #d1d9e0b3; padding-bottom: .3em}
table {border-collapse: collapse} td, th {border: 1px solid #d1d9e0; padding: 4px 12px}
tr:nth-child(2n) {background: #f6f8fa} sub {color: #59636e}
code {background: #818b981f; padding: .2em .4em; border-radius: 6px; font-size: 85%}
pre {background: #f6f8fa; padding: 12px; overflow: hidden; font-size: 85%}
pre code {background: none; padding: 0}
.mermaid {margin: 4px 0 12px}
"""


def fence(_: Any, tokens: Any, position: int, *__: Any) -> str:
    """Return the HTML of a fenced block; the page draws a Mermaid block and shows any other as text."""
    token = tokens[position]
    inner = escape(token.content)
    drawn = token.info == "mermaid"
    return f'<pre class="mermaid">{inner}</pre>' if drawn else f"<pre><code>{inner}</code></pre>"


def main(report: str, mermaid: str, picture: str) -> None:
    """Write the report as an HTML page, and let Chromium take a screenshot of it."""
    markdown = MarkdownIt("commonmark", {"html": True}).enable("table")
    markdown.add_render_rule("fence", fence)
    body = markdown.render(Path(report).read_text(encoding="utf-8"))
    source = Path(mermaid).resolve().as_uri()
    script = f'<script src="{source}"></script><script>mermaid.initialize({{}})</script>'
    with tempfile.TemporaryDirectory() as scratch:
        page = Path(scratch) / "report.html"
        head = f"<!doctype html><meta charset=utf-8><style>{STYLE}</style>"
        page.write_text(head + body + script, encoding="utf-8")
        flags = ("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars")
        waits = ("--virtual-time-budget=20000", f"--user-data-dir={scratch}/profile")
        size = ("--window-size=960,6000", f"--screenshot={Path(picture).resolve()}")
        command = ["chromium", *flags, *waits, *size, page.as_uri()]
        subprocess.run(command, check=True, capture_output=True, timeout=120)
    crop(Path(picture))


def crop(picture: Path) -> None:
    """Cut off the empty space below the report, because Chromium's window has a fixed height."""
    with Image.open(picture) as drawn:
        image = drawn.convert("RGB")
    _, _, _, bottom = ImageChops.invert(image).getbbox() or (0, 0, 0, image.height)
    image.crop((0, 0, image.width, min(bottom + 24, image.height))).save(picture, optimize=True)


if __name__ == "__main__":
    main(*sys.argv[1:])

"""What a page holds, and what a browser makes of it."""

from __future__ import annotations

import json
import subprocess
from html.parser import HTMLParser
from pathlib import Path

from .conftest import chromium


class Page(HTMLParser):
    """A page's tags with their attributes, and its visible text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += f" {data}"

    def dots(self) -> list[str]:
        """The classes of the front's marks, without those of its key."""
        titled = [
            str(attributes.get("class"))
            for (tag, attributes), (inner, _) in zip(self.tags, self.tags[1:], strict=False)
            if tag in ("circle", "path") and inner == "title"
        ]
        return [classes for classes in titled if classes.startswith("dot ")]


def browse(page: Path, folder: Path) -> tuple[str, list[str], list[str]]:
    """The rendered page, the URLs that it asked for, and what it wrote to the console."""
    browser = chromium()
    assert browser is not None
    log = folder / "net.json"
    done = subprocess.run(
        [
            browser,
            *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync"),
            *("--disable-background-networking", "--disable-component-update"),
            "--host-resolver-rules=MAP * ~NOTFOUND",
            f"--user-data-dir={folder / 'profile'}",
            f"--log-net-log={log}",
            "--enable-logging=stderr",
            "--dump-dom",
            page.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    events = json.loads(log.read_text())["events"]
    requests = {
        event["params"]["url"]
        for event in events
        # "not an origin": the browser's own errands
        if event.get("params", {}).get("initiator", "not an origin") != "not an origin"
        and "url" in event["params"]
    }
    console = [line for line in done.stderr.splitlines() if ":CONSOLE:" in line]
    return done.stdout, sorted(requests), console

"""The page in a real browser, at desktop and phone width. Skipped where no Chromium is found.

Screenshots stay in pytest's folder for the test, `--basetemp` says where that is.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from diet_ray.report.page import write_report
from tests.report.small_set import small_set

BROWSER = next(
    filter(None, map(shutil.which, ("chromium-headless-shell", "chromium", "google-chrome"))), None
)
MEASURE = """<script>
const root = document.documentElement, found = [];
for (const text of document.querySelectorAll("svg text")) {
  const box = text.getBoundingClientRect();
  if (!box.width || text.closest(".scroll")) continue;
  const size = box.height;
  if (box.left < 0 || box.right > root.clientWidth + 1) found.push("cut: " + text.textContent);
  if (size < 9) found.push(size.toFixed(1) + " px: " + text.textContent);
}
for (const part of document.querySelectorAll("main *")) {
  if (part.closest("svg, details, .scroll")) continue;
  if (part.getBoundingClientRect().right > root.clientWidth + 1)
    found.push("too wide: " + part.tagName + " " + part.className);
}
if (root.scrollWidth > root.clientWidth) found.push("the page scrolls sideways");
document.title = "MEASURED" + JSON.stringify({width: root.clientWidth, found: found});
</script>"""

pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed")


@pytest.fixture
def report(consistency: dict[str, Any], manifest: dict[str, Any], tmp_path: Path) -> Path:
    earlier = [{**consistency, "num_rows_full": 20_000, "kendall_tau": 0.5}]
    return write_report(
        consistency,
        tmp_path / "report.html",
        manifest,
        {"seed": 7},
        dataset=small_set(),
        earlier=earlier,
    )


def browse(page: Path, *options: str) -> str:
    command = [
        str(BROWSER),
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--hide-scrollbars",
        f"--user-data-dir={page.parent / 'profile'}",
        *options,
        page.as_uri(),
    ]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=300).stdout


@pytest.mark.parametrize("width", [1280, 390])
def test_nothing_is_cut_or_too_small(report: Path, width: int) -> None:
    screenshot = report.with_name(f"report-{width}.png")
    browse(report, f"--window-size={width},9000", f"--screenshot={screenshot}")
    assert screenshot.stat().st_size > 100_000

    measured = report.with_name("measured.html")
    html = report.read_text()
    # The page itself forbids scripts.
    html = re.sub(r"<meta http-equiv[^>]*>", "", html).replace("</body>", f"{MEASURE}</body>")
    measured.write_text(html)
    dom = browse(measured, f"--window-size={width},900", "--dump-dom")
    title = re.search(r"MEASURED(.*)</title>", dom)
    assert title is not None
    assert json.loads(title[1]) == {"width": width, "found": []}


def test_the_browser_requests_the_page_alone(report: Path) -> None:
    log = report.with_name("net.json")
    browse(report, f"--log-net-log={log}", "--dump-dom")
    urls = set(re.findall(r'"url":"([^"]+)"', log.read_text()))
    assert {u for u in urls if u.startswith("http")} == set()

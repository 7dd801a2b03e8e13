"""The HTML report: complete, self-contained, escaped, well-formed, and the same every time."""

from __future__ import annotations

import re
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from diet_ray.errors import OutputError
from diet_ray.report import format as fmt
from diet_ray.report.figures import flatten
from diet_ray.report.page import render, write_report
from tests.report.conftest import make_manifest
from tests.report.small_set import MARKUP, small_set

VOID = {"meta", "br", "hr", "img", "link", "input"}


class Page(HTMLParser):
    """Checks nesting; collects ids, references, text and what would be fetched."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.ids: list[str] = []
        self.references: list[str] = []
        self.tags: Counter[str] = Counter()
        self.fragments: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == [], f"left open: {self.open}"
        self.text = " ".join(" ".join(self.fragments).replace("\xa0", " ").split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        if tag not in VOID:
            self.open.append(tag)
        self.note(attrs)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.note(attrs)

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open[-1] == tag, f"</{tag}> inside <{self.open[-1]}>"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.fragments.append(data)

    def note(self, attrs: list[tuple[str, str | None]]) -> None:
        for name, item in attrs:
            if name == "id":
                self.ids.append(item or "")
            if name in ("src", "href", "srcset", "data", "action", "poster", "xlink:href"):
                self.references.append(item or "")
            self.references += re.findall(r"url\(([^)]*)\)", item or "")


@pytest.fixture
def page(consistency: dict[str, Any], manifest: dict[str, Any]) -> Page:
    return Page(render(consistency, manifest, {"seed": 7}))


def test_every_key_and_value_is_on_the_page(page: Page, consistency: dict[str, Any]) -> None:
    for key, text in flatten(consistency):
        assert f"{key} {text}" in page.text, key
    for key in consistency:
        assert key in page.text


def test_every_section_is_there(page: Page) -> None:
    headings = (
        "Agreement with full training",
        "The two rankings",
        "Pairs that flipped",
        "Costs",
        "Against the baselines",
        "Where on the curve",
        "The memory, stage by stage",
        "Configuration and versions",
    )
    positions = [page.text.index(h) for h in headings]
    assert positions == sorted(positions)
    assert "seed: 7" in page.text
    assert re.search(r"ray \d+\.\d+", page.text)


def test_figures_stand_beside_ceiling_and_cost(page: Page) -> None:
    assert "Kendall’s tau-b 0.61 0.44 to 0.75 0.59 0.72" in page.text
    assert "equal amortised a sub-sampled stream" in page.text
    assert "0.57 90 % 0.00040 12 % 22 s" in page.text
    assert "Speed-up of a search, distillation included 5.2 ×" in page.text
    assert "dcnv2-16 cross 2 0.7028 ± 0.0006 0.5810 42 s ↓3 5 0.6540 ± 0.0012" in page.text
    assert "55 pairs are resolved" in page.text
    assert "dcnv2-16 autoint-16 0.0066 −0.0020" in page.text


def test_the_noise_of_the_distilled_runs_is_told(page: Page) -> None:
    assert (
        "Noise of the distilled runs: seed SD 0.0012; differences below 0.0020 AUC are not "
        "resolved: 7 of 66 pairs." in page.text
    )


def test_nothing_is_fetched(consistency: dict[str, Any], manifest: dict[str, Any]) -> None:
    html = render(consistency, manifest)
    page = Page(html)
    assert all(r.startswith("#") for r in page.references)
    assert not {"script", "link", "img", "iframe", "object", "embed"} & set(page.tags)
    assert "@import" not in html
    assert "@font-face" not in html
    assert "//" not in html
    # A browser holds the page to it, whatever else may get in.
    assert "default-src 'none'" in html[: html.index("<style>")]


def test_every_reference_inside_the_page_has_one_target(page: Page) -> None:
    assert page.references
    repeated = [i for i, n in Counter(page.ids).items() if n > 1]
    assert repeated == []
    assert {r.removeprefix("#") for r in page.references} <= set(page.ids)


def test_the_memory_is_shown(consistency: dict[str, Any], manifest: dict[str, Any]) -> None:
    html = render(consistency, manifest, dataset=small_set())
    page = Page(html)
    assert "5 slots in 1,234 bytes (1,200 slots, 34 vocabularies)" in page.text
    assert "user categorical 2 4 60 %" in page.text
    assert "watched history of item 2 2 –" in page.text
    assert f"2 more, {MARKUP}" in page.text
    assert "has 50 % of all influence" in page.text
    assert MARKUP not in html
    assert "The memory has grown since" in page.text
    for name in ("born-slots", "born-weight", "born-labels", "soft-labels", "weights", "influence"):
        assert f'id="{name}-' in html
    now = render({**consistency, "num_rows_full": 100}, dataset=small_set())
    assert "The memory has grown since" not in now
    repeated = [i for i, n in Counter(page.ids).items() if n > 1]
    assert repeated == []


def test_tau_is_drawn_beside_its_ceiling_while_the_log_grew(consistency: dict[str, Any]) -> None:
    earlier = {**consistency, "num_rows_full": 20_000, "kendall_tau": 0.5}
    html = render(consistency, earlier=[earlier])
    (drawn, *_) = [s for s in re.findall(r"<svg .*?</svg>", html, re.DOTALL) if "growth-" in s]
    assert ">distilled</text>" in drawn
    assert ">ceiling</text>" in drawn
    assert "While the log grew" not in render(consistency, earlier=[consistency])


def test_what_a_comparison_kept_is_shown_again(consistency: dict[str, Any]) -> None:
    kept = {"settings": {"distill": {"seed": 9}}, "versions": {"ray": "1.2.3"}}
    page = Page(render(consistency | kept))
    assert "distill: seed: 9" in page.text
    assert "ray 1.2.3" in page.text
    assert "Versions of the software that wrote this page" not in page.text


def test_plots_come_in_two_widths_and_in_the_colours_of_the_page(
    consistency: dict[str, Any], manifest: dict[str, Any]
) -> None:
    html = render(consistency, manifest)
    svgs = re.findall(r"<svg .*?</svg>", html, flags=re.DOTALL)
    plots = [s for s in svgs if "<text" in s]
    assert len(plots) == 3 * 2 + 4
    for svg in plots:
        assert re.findall(r"#[0-9a-f]{6}\b", svg) == []
        assert "font-family" not in svg
        assert "viewBox" in svg.split(">")[0]
        assert not re.search(r"\s(width|height)=", svg.split(">")[0])
    css = html[: html.index("</style>")]
    used = set(re.findall(r"var\((--[\w-]+)\)", html))
    for block in (css.split("@media")[0], css.split("prefers-color-scheme: dark")[1]):
        assert used <= set(re.findall(r"(--[\w-]+):", block))
    # Wide: by name; narrow: by the place in the table.
    assert "dcnv2-16" in plots[0]
    assert "dcnv2-16" not in plots[1]


def test_families_differ_by_shape_not_by_colour_alone(consistency: dict[str, Any]) -> None:
    from diet_ray.report.plots import _FAMILIES, _MARKERS

    assert len(set(_MARKERS)) >= len(_FAMILIES)
    html = render(consistency)
    for family in ("cross", "deep + factorised", "product, attention", "behaviour sequence"):
        assert html.count(f">{family}</text>") == 2


def test_null_figures_are_dashes_with_reasons(consistency: dict[str, Any]) -> None:
    def nulled(item: Any) -> Any:
        if isinstance(item, dict):
            return {k: nulled(v) for k, v in item.items()}
        if isinstance(item, list):
            return [nulled(v) for v in item] if item and isinstance(item[0], dict) else []
        return item if isinstance(item, str | bool) else None

    page = Page(render(nulled(consistency), {"stages": []}))
    assert "Kendall’s tau-b every candidate is tied, or there are fewer than two" in page.text
    assert "ceiling: needs full runs with two seeds or more" in page.text
    assert "All full runs – not timed" in page.text
    assert "– Which pairs are resolved can’t be told" in page.text
    assert "No plot: fewer than two candidates" in page.text
    assert "The memory, stage by stage" not in page.text
    visible = page.text.replace("None of the", "")
    assert not re.search(r"\b(None|nan|null|undefined)\b", visible)


def test_a_run_stands_on_the_published_curve(consistency: dict[str, Any]) -> None:
    html = render(consistency)
    drawn = [s for s in re.findall(r"<svg .*?</svg>", html, flags=re.DOTALL) if "curve-" in s]
    assert len(drawn) == 2
    for svg in drawn:
        # At equal cost only: the amortised ones and the prior have costs of their own.
        for name in ("this run", "random soft", "recent", "early stop", "random hard"):
            assert f">{name}</text>" in svg
        assert "halving" not in svg
        assert ">1/60</text>" in svg
    assert "At 1/60 of the rows visited, this run puts 92.0 %" in Page(html).text


@pytest.mark.parametrize(
    ("key", "why"),
    [
        ("resolved_pair_accuracy", "no pair of candidates is resolved"),
        ("row_visit_fraction", "not computed"),
    ],
)
def test_a_run_without_a_place_on_the_curve_says_why(
    consistency: dict[str, Any], key: str, why: str
) -> None:
    html = render(consistency | {key: None})
    assert "curve-wide" not in html
    assert f"Where on the curve No plot: {why}." in Page(html).text


def test_an_empty_mapping_still_makes_a_page() -> None:
    page = Page(render({}))
    assert "unnamed log" in page.text
    assert fmt.MISSING in page.text


def test_no_resolved_pair_and_no_flip_are_different_news(consistency: dict[str, Any]) -> None:
    assert "No pair is resolved" in Page(render(consistency | {"num_resolved_pairs": 0})).text
    for c in consistency["candidates"]:
        c["distilled"] = c["full"]
    assert "None of the 55 resolved pairs" in Page(render(consistency)).text


def test_text_is_escaped_everywhere(consistency: dict[str, Any]) -> None:
    evil = "<script>alert('x')</script>&\"$a$"
    consistency["dataset"] = evil
    consistency["candidates"][0] |= {"name": evil, "error": evil}
    consistency["baselines"][evil] = dict(consistency["baselines"]["recent"])
    consistency[evil] = evil
    html = render(consistency, {"stages": [{"stage": 0, evil: evil}]}, {evil: evil})
    page = Page(html)
    assert page.tags["script"] == 0
    assert page.text.count("<script>alert('x')</script>&\"$a$") > 6


def test_two_hundred_candidates_stay_small(consistency: dict[str, Any]) -> None:
    many = [
        {**c, "name": f"{c['name']}-{i}", "full": {**c["full"], "auc": [0.6 + i * 1e-4, 0.6]}}
        for i, c in enumerate(consistency["candidates"] * 17)
    ][:200]
    html = render(consistency | {"candidates": many}, make_manifest(), dataset=small_set())
    assert len(html.encode()) < 5_000_000
    assert Page(html).text.count("finalmlp-16-") >= 17


def test_the_same_input_gives_the_same_bytes(
    consistency: dict[str, Any], manifest: dict[str, Any], tmp_path: Path
) -> None:
    first = write_report(consistency, tmp_path / "a" / "report.html", manifest)
    second = write_report(consistency, str(tmp_path / "b.html"), manifest)
    assert first == tmp_path / "a" / "report.html"
    assert first.read_bytes() == second.read_bytes()


def test_a_path_that_cannot_be_written_is_named(
    consistency: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"file/report\.html: can't be written"):
        write_report(consistency, tmp_path / "file" / "report.html")


def test_uncosted_baselines_are_named_not_drawn(consistency: dict[str, Any]) -> None:
    del consistency["baselines"]["recent"]["row_visit_fraction"]
    html = render(consistency)
    assert "Not drawn, for want of a recorded cost: recent." in Page(html).text
    assert ">recent</text>" not in html
    assert ">halving</text>" in html

"""`docs/results.md` and its plots, from what `benchmarks/ranking.py` measured."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from diet_ray.report import format as fmt

BEGIN, END = "<!-- measured: {} -->", "<!-- end -->"


def write_results(logs: dict[str, Any], over: dict[str, Any], text: Path, plots: Path) -> None:
    """Replaces the parts of `text` between the marks by tables, and draws a plot a log.

    `over` holds what is said of several logs together.
    """
    content = text.read_text(encoding="utf-8")
    parts = {
        "headline": headline(logs),
        "curve": curve(logs),
        "baselines": baselines(logs),
        "ablation": ablation(logs),
        "families": families(logs),
        "recipes": recipes(logs, over),
        "anchors": anchors(logs),
        "resolution": resolution(over),
        "stream": stream(logs),
        "crossover": crossovers(logs),
        "controls": controls(logs),
    }
    for name, table in parts.items():
        begin = BEGIN.format(name)
        if begin not in content:
            continue
        before, rest = content.split(begin, 1)
        after = rest.split(END, 1)[1]
        content = f"{before}{begin}\n\n{table}\n\n{END}{after}"
    text.write_text(content, encoding="utf-8")
    plots.mkdir(parents=True, exist_ok=True)
    for name, found in logs.items():
        scatter(name, found, plots / f"{name}.svg")


def _table(heads: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    lines += ["| " + " | ".join(_cell(c) for c in row) + " |" for row in rows]
    return "\n".join(lines) if rows else "Not measured yet."


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def _span(low: float | None, high: float | None) -> str:
    return "–" if low is None or high is None else f"{low:+.3f} to {high:+.3f}"


def headline(logs: dict[str, Any]) -> str:
    heads = ("log", "rows", "bytes", "row visits", "tau", "ceiling", "of it", "resolved", "ceiling")
    heads += ("of it", "top-1 regret", "seed SD", "best baseline", "gain in resolved pairs, 95 %")
    heads += ("best without proxies", "gain, 95 %")
    rows = [
        (
            name,
            f"{100 * p['row_fraction']:.2f} %",
            f"{100 * p['byte_fraction']:.2f} %",
            fmt.fraction(p["row_visit_fraction"]),
            p["kendall_tau"],
            p["kendall_tau_ceiling"],
            _of_ceiling(p, "kendall_tau"),
            p["resolved_pair_accuracy"],
            p["resolved_pair_accuracy_ceiling"],
            _of_ceiling(p, "resolved_pair_accuracy"),
            f"{p['top1_regret']:.4f}",
            f"{p['seed_sd']:.4f}",
            p["best_baseline"],
            _span(p["gain_low"], p["gain_high"]),
            p["best_baseline_without_proxies"],
            _span(p["gain_low_without_proxies"], p["gain_high_without_proxies"]),
        )
        for name, p in logs.items()
    ]
    return _table(heads, rows)


def _of_ceiling(point: dict[str, Any], name: str) -> str:
    """A figure over its ceiling, both against means of all full seeds but one."""
    return f"{100 * point[f'{name}_matched'] / point[f'{name}_ceiling']:.0f} %"


def curve(logs: dict[str, Any]) -> str:
    sizes = sorted({p["fraction"] for found in logs.values() for p in found["curve"]})
    rows = []
    for name, found in logs.items():
        by_size = {p["fraction"]: p for p in found["curve"]}
        cells = []
        for size in sizes:
            p = by_size.get(size)
            cells.append(
                None
                if p is None
                else f"{p['kendall_tau']:.2f} / {p['resolved_pair_accuracy']:.3f}{_times(p)}"
            )
        rows.append((name, *cells))
    return _table(("log", *(fmt.fraction(s) for s in sizes)), rows)


def _times(point: dict[str, Any]) -> str:
    """How many times less CPU time than full runs, where it is known."""
    if not point.get("full_seconds"):
        return ""
    return f" ({point['full_seconds'] / point['distilled_seconds']:.0f} ×)"


def baselines(logs: dict[str, Any]) -> str:
    names = sorted({n for f in logs.values() for p in f["curve"] for n in p["baselines"]})
    rows = []
    for log, found in logs.items():
        for p in found["curve"]:
            cells = [p["baselines"].get(n, {}).get("resolved_pair_accuracy") for n in names]
            size = fmt.fraction(p["row_visit_fraction"])
            gain = _span(p["gain_low"], p["gain_high"])
            rows.append((log, size, p["resolved_pair_accuracy"], *cells, gain))
    return _table(("log", "visits", "distilled", *names, "gain over the best, 95 %"), rows)


def ablation(logs: dict[str, Any]) -> str:
    measured = {n: f["ablation"] for n, f in logs.items() if f.get("ablation")}
    names = next(iter(measured.values()), {})
    rows = []
    for change in names:
        cells = []
        for found in measured.values():
            f = found[change]
            cell = f"{f['resolved_pair_accuracy']:.3f}"
            if change != "default":
                lost = (-f["default_gain_high"], -f["default_gain_low"])
                cell += f" ({_span(*lost)})"
            cells.append(cell)
        mean = float(np.mean([f[change]["resolved_pair_accuracy"] for f in measured.values()]))
        rows.append((change, *cells, mean))
    return _table(("change", *measured, "mean"), rows)


def families(logs: dict[str, Any]) -> str:
    rows = []
    for name, found in logs.items():
        parts = found.get("ablation")
        if not parts:
            continue
        for family, all_three in parts["default"]["other_families"].items():
            alone = parts[f"proxy {family} alone"]["other_families"][family]
            rows.append((name, family, alone, all_three, f"{alone - all_three:+.3f}"))
    heads = ("log", "the one proxy", "candidates of other families", "three proxies", "difference")
    return _table(heads, rows)


def recipes(logs: dict[str, Any], over: dict[str, Any]) -> str:
    labels = over.get("recipe_labels", [])
    chosen = over.get("left_out_choice", {})
    rows = [
        (
            name,
            *found["recipes"],
            labels[chosen[name]] if name in chosen else None,
            found["recipes"][chosen[name]] if name in chosen else None,
        )
        for name, found in logs.items()
        if found.get("recipes")
    ]
    return _table(("log", *labels, "chosen on the other logs", "its resolved pairs"), rows)


def anchors(logs: dict[str, Any]) -> str:
    rows = [
        (name, a["num_anchors"], f"{a['gain']:+.3f}", _span(a["gain_low"], a["gain_high"]))
        for name, f in logs.items()
        for a in f.get("anchors", [])
    ]
    return _table(("log", "anchors", "mean gain in resolved pairs", "95 % of draws"), rows)


def resolution(over: dict[str, Any]) -> str:
    rows = [
        (
            f"{r['threshold_sds']:g}",
            f"{100 * r['share_of_pairs']:.0f} %",
            r["in_order"],
            r["in_order_worst"],
        )
        for r in over.get("resolution", [])
    ]
    return _table(("standard errors", "pairs beyond", "in the full order", "worst log"), rows)


def stream(logs: dict[str, Any]) -> str:
    rows = [
        (
            name,
            budget,
            r["stage"],
            r["slots"],
            fmt.fraction(r["row_fraction"]),
            r["kendall_tau"],
            r["kendall_tau_ceiling"],
            r["resolved_pair_accuracy"],
            r["resolved_pair_accuracy_ceiling"],
            f"{r['least_represented_stage']:.2f}",
        )
        for name, found in logs.items()
        for budget, rows in (found.get("stream") or {}).items()
        for r in rows
    ]
    heads = ("log", "budget", "after stage", "slots", "row visits", "tau", "ceiling", "resolved")
    return _table((*heads, "ceiling", "least represented stage"), rows)


def crossovers(logs: dict[str, Any]) -> str:
    def number(found: dict[str, Any]) -> str:
        if found["candidates"] is None:
            return "not measured" if found["at_most"] else "none up to 1000"
        return f"{found['candidates']}{' or fewer' if found['at_most'] else ''}"

    rows = [
        (
            name,
            fmt.fraction(c["fraction"]),
            unit,
            f"{c[by]['passes']:.1f}",
            number(c[by]["subsample"]),
            number(c[by]["halving"]),
        )
        for name, found in logs.items()
        if (c := found.get("crossover"))
        for unit, by in (("row visits", "by_visits"), ("CPU time", "by_cpu_time"))
    ]
    heads = ("log", "set", "counted in", "passes of a distillation")
    return _table((*heads, "beats sub-sampling from", "halving from"), rows)


def controls(logs: dict[str, Any]) -> str:
    rows = [
        (
            n,
            f["controls"]["kendall_tau"],
            f["controls"]["resolved_pair_accuracy"],
            f"{f['controls']['favour_of_proxy_families']:+.1f}",
        )
        for n, f in logs.items()
    ]
    heads = ("log", "tau, full results shuffled", "resolved pairs, shuffled")
    return _table((*heads, "places gained by the proxies' families"), rows)


def scatter(name: str, found: dict[str, Any], path: Path) -> None:
    """Full against distilled AUC of every candidate, with the full runs' seed SD."""
    full, distilled = np.array(found["full_auc"]), np.array(found["auc"])
    figure, axes = plt.subplots(figsize=(5, 4.2), layout="constrained")
    axes.errorbar(
        distilled.mean(axis=1),
        full.mean(axis=1),
        yerr=full.std(axis=1, ddof=1),
        fmt="o",
        markersize=3.5,
        linewidth=0.7,
        color="#1f5f8b",
    )
    low = np.quantile(distilled.mean(axis=1), 0.02)
    axes.set_xlim(left=low - 0.1 * (distilled.max() - low))
    axes.set_xlabel(f"AUC after a distilled run ({fmt.fraction(found['row_visit_fraction'])})")
    axes.set_ylabel("AUC after a full run, mean and SD of its seeds")
    axes.set_title(
        f"{name}: tau {found['kendall_tau']:.2f} (ceiling {found['kendall_tau_ceiling']:.2f})"
    )
    matplotlib.rcParams["svg.hashsalt"] = name
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)

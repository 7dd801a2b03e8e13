"""Search and consistency for a run folder: from files to files, with tables and a report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.table import Table

from diet_ray.config import to_mapping
from diet_ray.data.log import PreparedLog
from diet_ray.distillation.run import RunFolder, load_proxies, load_run_config
from diet_ray.documents import load_json
from diet_ray.errors import ConfigError
from diet_ray.memory.dataset import DistilledDataset
from diet_ray.models.catalogue import Candidate
from diet_ray.progress import Progress
from diet_ray.report import format as fmt
from diet_ray.report.growth import keep_earlier, load_earlier
from diet_ray.report.noise import noise
from diet_ray.report.page import write_report
from diet_ray.report.tables import print_summary
from diet_ray.report.versions import installed_versions
from diet_ray.search.anchors import Calibration, calibrate, recipe_choices
from diet_ray.search.consistency import ConsistencyConfig, compare
from diet_ray.search.consistency_report import ConsistencyReport, write
from diet_ray.search.distilled_set import DistilledSet
from diet_ray.search.evaluation import EvaluationRows
from diet_ray.search.evaluation import evaluation_rows as take_evaluation_rows
from diet_ray.search.proposals import Proposals
from diet_ray.search.run_set import DistilledRows
from diet_ray.search.runs import FullRunConfig, TrainingRows
from diet_ray.search.same_features import require_same_features
from diet_ray.search.sampling_error import difference_error, rows_for_error
from diet_ray.search.trials import SearchConfig, SearchResult, search, write_ranking
from diet_ray.search.workers import WorkersConfig
from diet_ray.training.full_runs import FullRuns, train_full


def search_run(
    path: Path,
    candidates: Sequence[Candidate] | Proposals,
    config: SearchConfig,
    workers: WorkersConfig,
    out: Path,
    evaluation_rows: int,
    console: Console,
    anchors: Mapping[str, float] | None = None,
    num_confirmed: int = 0,
    evaluation_error: float | None = None,
) -> SearchResult:
    """Ranks candidates on a run's distilled dataset; results in `out`, the table on `console`.

    With `anchors`, full AUCs of some of the candidates by name, the recipe is calibrated on them.
    The `num_confirmed` best are then trained on the full log with as many seeds. `evaluation_error`
    bounds the standard error of a difference of AUCs, and replaces `evaluation_rows`.
    """
    run = RunFolder(path)
    dataset = DistilledDataset.load(run.distilled)
    log = PreparedLog.open(str(run.log))
    require_same_features(dataset.features, log.features)
    if evaluation_error is not None:
        evaluation_rows = _rows_enough(run, log, evaluation_rows, evaluation_error, console)
    rows = DistilledRows(
        train=TrainingRows.of(dataset),
        features=log.features,
        recipe=dataset.recipe,
        evaluation=take_evaluation_rows(log, evaluation_rows),
    )
    calibrated = None
    if anchors is not None and not isinstance(candidates, Proposals):
        found = _calibrate(anchors, candidates, rows, config, workers)
        console.print(_recipe_line(found), soft_wrap=True)
        rows = replace(rows, recipe=found.recipe)
        calibrated = to_mapping(found) | {"recipe": to_mapping(found.recipe)}
    num_candidates = (
        candidates.num_samples if isinstance(candidates, Proposals) else len(candidates)
    )
    with Progress(num_candidates, "search", unit="candidates") as progress:
        result = search(candidates, rows, config, workers, out, lambda trial: progress.advance(1))
    write_ranking(result, out, calibrated)
    console.print(_ranking(result))
    console.print(noise(result.resolution), soft_wrap=True)
    if num_confirmed:
        best = [trial.trained for trial in result.ranking[:num_confirmed]]
        full = _confirm(best, log, rows.evaluation, config, workers, out)
        write_ranking(result, out, calibrated, full)
        console.print(_confirmed(best, full))
    return result


def compare_run(
    path: Path,
    candidates: Sequence[Candidate],
    config: ConsistencyConfig,
    out: Path,
    console: Console,
) -> ConsistencyReport:
    """Compares both arms for a run; writes consistency.json and report.html into `out`.

    A comparison of the run before it grew stays, in `out/earlier`, and the report shows it.
    """
    run = RunFolder(path)
    dataset = DistilledDataset.load(run.distilled)
    log = PreparedLog.open(str(run.log))
    manifest = load_json(run.distilled / "manifest.json")
    distilled = DistilledSet(
        train=TrainingRows.of(dataset),
        features=dataset.features,
        recipe=dataset.recipe,
        num_bytes=dataset.manifest.num_bytes.total,
        distill_seconds=float(dataset.manifest.details["distill_seconds"]),
    )
    with Progress(None, "consistency", unit="runs") as progress:
        finished: dict[str, int] = {}

        def on_runs(what: str, done: int, total: int) -> None:
            progress.advance(done - finished.get(what, 0), now=f"{what} {done}/{total}")
            finished[what] = done

        report = compare(
            distilled,
            log,
            candidates,
            config,
            out,
            dataset=path.name,
            proxy=load_proxies(run).predict,
            progress=on_runs,
        )
    report["settings"] = {
        "distill": to_mapping(load_run_config(run)),
        "consistency": to_mapping(config),
        "recipe": to_mapping(dataset.recipe),
    }
    report["versions"] = installed_versions()
    file = out / "consistency.json"
    keep_earlier(file, report["num_rows_full"])
    write(report, file)
    page = write_report(
        report, out / "report.html", manifest, dataset=dataset, earlier=load_earlier(file)
    )
    print_summary(report, console)
    console.print(f"Report: {page}", soft_wrap=True)
    return report


def _rows_enough(
    run: RunFolder, log: PreparedLog, num_pilot_rows: int, bound: float, console: Console
) -> int:
    """Evaluation rows, both slices, that keep the error of a difference of AUCs within a bound.

    As far as the run's proxies differ, on some rows: models that are trained on the whole log.
    """
    proxies = load_proxies(run).all
    if len(proxies) < 2:
        raise ConfigError("--evaluation-error: takes a run of two proxies or more")
    pilot = take_evaluation_rows(log, num_pilot_rows).ranking_alone()
    label = pilot.batch.label.double().numpy()
    scores = [proxy.predict(pilot.batch).double().numpy() for proxy in proxies]
    error = difference_error(label, scores)
    wanted = 2 * rows_for_error(error, len(pilot), bound)
    found = min(wanted, log.num_test_rows)
    line = f"Evaluation: {fmt.count(found)} rows, half of them to rank on"
    if found < wanted:
        error *= (len(pilot) / (found / 2)) ** 0.5
        line += (
            f": all that the test part has; its error of a difference is "
            f"{fmt.significant(error)} AUC, above the {fmt.significant(bound)} asked for"
        )
    console.print(line, soft_wrap=True)
    return found


def _calibrate(
    anchors: Mapping[str, float],
    candidates: Sequence[Candidate],
    rows: DistilledRows,
    config: SearchConfig,
    workers: WorkersConfig,
) -> Calibration:
    num_runs = len(anchors) * len(recipe_choices(rows.recipe)) * len(config.seeds)
    with Progress(num_runs, "calibrate", unit="runs") as progress:
        return calibrate(anchors, candidates, rows, config, workers, progress.advance)


def _confirm(
    best: Sequence[Candidate],
    log: PreparedLog,
    rows: EvaluationRows,
    config: SearchConfig,
    workers: WorkersConfig,
    out: Path,
) -> FullRuns:
    with Progress(len(best) * len(config.seeds), "confirm", unit="runs") as progress:
        full = train_full(
            best,
            config.seeds,
            log,
            rows,
            FullRunConfig(),
            out,
            workers,
            lambda _: progress.advance(1),
        )
        progress.advance(full.num_reused)
    return full


def _recipe_line(found: Calibration) -> str:
    """Which recipe the search goes on with, and what speaks for it."""
    num_anchors = len(found.anchors)
    left_out = fmt.decimal(found.left_out_agreement, 2)
    shipped = f"shipped recipe {fmt.decimal(found.shipped_agreement, 2)}"
    if not found.helps:
        return (
            f"Recipe: as shipped; calibration on {num_anchors} anchors isn't shown to help: pairs "
            f"in the full order, left out, {left_out}, {shipped}"
        )
    if found.chosen == found.choices[0]:
        recipe = "as shipped"
    else:
        drift = f"drift {found.chosen.dense_drift:g}" if found.chosen.dense_drift else "no drift"
        recipe = f"steps {found.chosen.steps_per_step:.3g}, {drift}"
    return (
        f"Recipe: {recipe}, chosen on {num_anchors} anchors; pairs in the full order "
        f"{fmt.decimal(max(found.agreements), 2)} (left out {left_out}), {shipped}"
    )


def _ranking(result: SearchResult) -> Table:
    table = Table(title="Candidates by AUC on the ranking slice")
    for heading in ("", "candidate", "AUC", "places", "seconds"):
        table.add_column(heading, justify="left" if heading == "candidate" else "right")
    found = result.resolution
    places = [fmt.MISSING] * len(result.ranking) if found is None else map(_span, found.places)
    for rank, (trial, place) in enumerate(zip(result.ranking, places, strict=True), 1):
        seconds = f"{sum(r.seconds for r in trial.runs):.2f}"
        table.add_row(str(rank), trial.candidate.name, f"{trial.mean_auc:.4f}", place, seconds)
    for trial in result.trials:
        if trial.error is not None:
            table.add_row(fmt.MISSING, trial.candidate.name, "failed", "", trial.error)
    return table


def _confirmed(best: Sequence[Candidate], full: FullRuns) -> Table:
    """The best of the search, in the order of their full runs."""
    table = Table(title="Confirmed: AUC of full training on the same rows")
    for heading in ("", "candidate", "AUC", "in the search"):
        table.add_column(heading, justify="left" if heading == "candidate" else "right")
    aucs = {c.name: full.mean_auc(c.name) for c in best}
    order = sorted(range(len(best)), key=lambda i: -(aucs[best[i].name] or 0.0))
    for rank, i in enumerate(order, 1):
        name, auc = best[i].name, aucs[best[i].name]
        if auc is None:
            table.add_row(fmt.MISSING, name, "failed", full.failures[name])
        else:
            table.add_row(str(rank), name, f"{auc:.4f}", str(i + 1))
    return table


def _span(places: tuple[int, int]) -> str:
    """`1-4`, or `3` where only one place is left."""
    best, worst = places
    return str(best) if best == worst else f"{best}-{worst}"

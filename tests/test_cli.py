"""The commands as a user types them, on a small real log; and what they say to bad input."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset as pds
import pyarrow.parquet as pq
import pytest
import yaml

from diet_ray import DistilledDataset
from diet_ray.cli import main
from diet_ray.config import from_mapping, to_mapping
from diet_ray.data.log import PreparedLog
from diet_ray.distillation.proxy import Proxies, Proxy
from diet_ray.distillation.run import RunFolder, load_proxies
from diet_ray.influence import closed_forms
from diet_ray.models.catalogue import Candidate
from diet_ray.models.layers import Output
from diet_ray.scoring.checkpoint import Checkpoint
from diet_ray.search import comparison
from diet_ray.search.anchors import Calibration, calibrate
from diet_ray.search.evaluation import evaluate, evaluation_rows
from diet_ray.search.runs import TrainingRows, distilled_run
from diet_ray.search.space import candidates_from
from diet_ray.training.recipe import Recipe
from tests.kuairand import SETTINGS, write_config, write_log

CANDIDATES = [
    {"architecture": "lr", "batch_size": 128},
    {"architecture": "fm", "embedding_size": 4, "batch_size": 128},
    {"architecture": "dnn", "embedding_size": 4, "hidden_sizes": [8], "batch_size": 128},
]
KEYS = """
dataset, num_rows_full, num_rows_distilled, row_fraction, byte_fraction, num_candidates,
kendall_tau, kendall_tau_ceiling, spearman_rho, spearman_rho_ceiling,
resolved_pair_accuracy, resolved_pair_accuracy_ceiling, num_resolved_pairs, top1_regret,
top3_overlap, seed_sd, row_visit_fraction, iteration_speedup, amortised_speedup, full_seconds,
distilled_seconds, distill_seconds, candidates, baselines
""".replace(",", " ").split()
BASELINES = {
    "random_hard",
    "random_soft",
    "recent",
    "early_stop",
    "equal_amortised",
    "halving",
    "prior",
}


def diet(*arguments: str | Path) -> int:
    """Exit code of a command."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["diet", *map(str, arguments)])
        try:
            main()
        except SystemExit as e:
            return int(e.code or 0)
    return 0


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, ray_cluster: None) -> Path:
    """A distilled run of 4,000 rows."""
    folder = tmp_path_factory.mktemp("run")
    write_log(folder / "log.parquet")
    assert diet("distill", "--config", write_config(folder), "--out", folder / "run") == 0
    return folder / "run"


@pytest.fixture
def candidates(tmp_path: Path) -> Path:
    path = tmp_path / "candidates.yaml"
    path.write_text(yaml.safe_dump({"candidates": CANDIDATES}))
    return path


@pytest.fixture
def named(tmp_path: Path) -> Path:
    """The same under their architectures' names."""
    path = tmp_path / "named.yaml"
    content = [c | {"name": c["architecture"]} for c in CANDIDATES]
    path.write_text(yaml.safe_dump({"candidates": content}))
    return path


def test_distilled_dataset(run: Path) -> None:
    dataset = DistilledDataset.load(run / "distilled")
    assert dataset.num_slots == 160
    assert dataset.weights.sum().item() == pytest.approx(3200)
    manifest = json.loads((run / "distilled" / "manifest.json").read_text())
    assert [s["rows"] for s in manifest["stages"]] == [1000, 1000, 1000, 200]
    assert [p["architecture"] for p in manifest["proxies"]] == ["dnn"]
    # Any Parquet reader opens it, and its rows are rows of the log.
    slots = pq.read_table(run / "distilled" / "memory.parquet")
    assert max(slots["_row"].to_pylist()) < 3200
    users = set(pq.read_table(run.parent / "log.parquet")["user_id"].to_pylist())
    decoded = dataset.to_pandas(decode=True)
    known = {int(u) for u in decoded["user_id"] if u is not None and u == u}
    assert known <= users
    assert known


def test_a_terminated_run_stops_cleanly_and_goes_on_to_the_same_bits(
    run: Path, tmp_path: Path
) -> None:
    write_log(tmp_path / "log.parquet")
    command = ["distill", "--config", write_config(tmp_path), "--out", tmp_path / "run"]
    environment = {k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"}
    program = "import diet_ray.cli; diet_ray.cli.main()"
    with subprocess.Popen(
        [sys.executable, "-c", program, *command],
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    ) as process:
        assert process.stderr is not None
        lines = []
        for line in process.stderr:
            lines.append(line)
            if "stage 1 of 4" in line:
                process.send_signal(signal.SIGTERM)
                break
        lines += process.stderr.readlines()
    assert process.returncode == 128 + signal.SIGTERM, lines
    assert not any("Traceback" in line or "SIGTERM" in line for line in lines)
    assert not (tmp_path / "run" / "distilled").exists()
    assert diet(*command) == 0
    memories = [(r / "distilled" / "memory.parquet").read_bytes() for r in (run, tmp_path / "run")]
    assert memories[0] == memories[1]


def test_search_prints_a_ranking(
    run: Path, candidates: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "found"
    arguments = ("search", run, "--candidates", candidates, "--seeds", "1", "--out", out)
    assert diet(*arguments, "--scheduler", "asha") == 0
    printed = capsys.readouterr().out
    assert all(c["architecture"] in printed for c in CANDIDATES)
    assert "Noise: no estimate" in printed
    lines = (out / "trials.jsonl").read_text().splitlines()
    assert len(lines) == len(CANDIDATES)


def test_search_says_which_differences_are_noise(
    run: Path, candidates: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ("search", run, "--candidates", candidates, "--out", tmp_path / "found")
    assert diet(*command, "--confirm", "--top", "2") == 0
    kept = json.loads((tmp_path / "found" / "ranking.json").read_text())
    printed = capsys.readouterr().out
    confirmed = printed[printed.index("Confirmed") :]
    for place, row in enumerate(kept["ranking"]):
        assert (row["full_auc"] is not None) == (place < 2)
        if place < 2:
            assert f"{row['full_auc']:.4f}" in confirmed
    assert "places" in printed
    assert f"not resolved: {kept['num_unresolved_pairs']} of 3 pairs" in printed


def test_search_takes_as_many_rows_as_an_error_wants(
    run: Path,
    candidates: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    command = ("search", run, "--candidates", candidates, "--seeds", "1", "--out", tmp_path / "out")
    line = refused(capsys, *command, "--evaluation-error", "0.05")
    assert line == "diet: --evaluation-error: takes a run of two proxies or more"

    def two(folder: RunFolder) -> Proxies:
        found = load_proxies(folder)
        other = Candidate(name="other", architecture="lr")
        found.all.append(Proxy(other, found.lead.model.features, seed=1))
        return found

    monkeypatch.setattr(comparison, "load_proxies", two)
    assert diet(*command, "--evaluation-error", "0.0001") == 0
    printed = capsys.readouterr().out
    num_test_rows = PreparedLog.open(str(run / "log")).num_test_rows
    assert f"Evaluation: {num_test_rows:,} rows" in printed
    assert "above the 0.0001" in printed


def test_search_goes_on_with_the_recipe_that_anchors_speak_for(
    run: Path,
    named: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def shorter_steps(*arguments: Any) -> Calibration:
        """What the anchors say, made to speak for the last choice."""
        found = calibrate(*arguments)
        return replace(found, chosen=found.choices[-1], left_out_agreement=1.0, gain_error=0.0)

    monkeypatch.setattr(comparison, "calibrate", shorter_steps)
    full = tmp_path / "full.yaml"
    full.write_text("anchors: {lr: 0.61, fm: [0.61, 0.63], dnn: 0.63}")
    out = tmp_path / "found"
    arguments = ("search", run, "--candidates", named, "--seeds", "1", "--out", out)
    assert diet(*arguments, "--anchors", full) == 0
    kept = json.loads((out / "ranking.json").read_text())
    calibration = kept["calibration"]
    assert calibration["anchors"] == ["lr", "fm", "dnn"]
    dataset = DistilledDataset.load(run / "distilled")
    assert calibration["choices"][0] == to_mapping(dataset.recipe)
    assert len(calibration["agreements"]) == len(calibration["choices"]) == 4
    printed = capsys.readouterr().out
    steps = dataset.recipe.steps_per_step / 2
    assert f"Recipe: steps {steps:.3g}, no drift, chosen on 3 anchors" in printed
    assert f"shipped recipe {calibration['shipped_agreement']:.2f}" in printed

    log = PreparedLog.open(str(run / "log"))
    rows = evaluation_rows(log, 20_000)
    train = TrainingRows(dataset.batch(), dataset.targets(), dataset.weights.float())
    recipe = from_mapping(Recipe, calibration["recipe"], "recipe")
    assert recipe.steps_per_step == dataset.recipe.steps_per_step / 2
    for row in kept["ranking"]:
        candidate = from_mapping(Candidate, row["candidate"], "candidate")
        alone = distilled_run(candidate, train, log.features, recipe, rows, seed=0)
        assert row["mean_auc"] == pytest.approx(alone.evaluation.auc, abs=1e-3)
        assert row["full_auc"] is None


def test_anchors_must_be_candidates(
    run: Path, named: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    full = tmp_path / "full.yaml"
    full.write_text("anchors: {lr: 0.61, fm: 0.62, dnnn: 0.63}")
    out = tmp_path / "found"
    arguments = ("search", run, "--candidates", named, "--anchors", full, "--out", out)
    line = refused(capsys, *arguments)
    assert all(word in line for word in ("full.yaml", "`dnnn`", "`dnn`")), line
    assert not out.exists()


def test_consistency_writes_every_key_and_a_report(
    run: Path, candidates: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "consistency"
    assert diet("consistency", run, "--candidates", candidates, "--out", out) == 0
    report = json.loads((out / "consistency.json").read_text())
    assert set(KEYS) <= set(report)
    assert set(report["baselines"]) == BASELINES
    assert report["num_rows_full"] == 3200
    assert report["row_fraction"] == pytest.approx(0.05)
    for candidate in report["candidates"]:
        assert len(candidate["full"]["auc"]) == len(candidate["distilled"]["auc"]) == 2
        assert candidate["full"]["auc"] != candidate["distilled"]["auc"]
    assert "report.html" in capsys.readouterr().out
    page = (out / "report.html").read_text()
    assert page.lower().startswith("<!doctype html>")
    assert "The most influential rows" in page
    assert report["settings"]["distill"] == json.loads((run / "distill.json").read_text())
    assert "python" in report["versions"]
    # What lies on disk gives the same page again.
    again = tmp_path / "again.html"
    assert diet("report", out / "consistency.json", "--run", run, "--out", again) == 0
    assert again.read_text() == page


def test_score_writes_a_row_for_every_row_of_a_runs_log(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ("score", run, "--out", tmp_path / "scores", "--top", "3")
    assert diet(*command) == 0
    scored = tmp_path / "scores" / "scored"
    table = pds.dataset(scored / "scores", partitioning="hive").to_table()
    assert table["_row"].to_pylist() == list(range(4000))
    assert {"loss", "full", "validation", "leverage"} < set(table.column_names)
    summary = json.loads((scored / "summary.json").read_text())
    raw = pq.read_table(run.parent / "log.parquet").to_pylist()
    for rows in summary["lists"].values():
        assert len(rows) == 3
        for row in rows:
            assert row["label"] == raw[row["row"]]["long_view"]
            value = row["fields"]["user_id"]
            assert value is None or value == str(raw[row["row"]]["user_id"])
    printed = capsys.readouterr().out
    assert "Most harmful, by validation" in printed
    assert f"4,000 rows in {scored / 'scores'}" in printed
    # What is done isn't done again, and says the same.
    assert diet(*command, "--scorers", "1") == 0
    assert capsys.readouterr().out == printed
    line = refused(capsys, *command, "--scores", "loss")
    assert all(w in line for w in (str(scored), "holds scores of another config", "--out")), line


def test_score_trains_along_the_log_of_a_configuration(
    tmp_path: Path, ray_cluster: None, capsys: pytest.CaptureFixture[str]
) -> None:
    write_log(tmp_path / "log.parquet", num_rows=2000)
    config, out = write_config(tmp_path), tmp_path / "out"
    # No batch is whole, so that nothing is compiled.
    command = ("score", config, "--out", out, "--scores", "loss,adam_self_influence", "--compile")
    assert diet(*command, "--train", "2", "--candidate", "fm") == 0
    assert json.loads((out / "scored" / "score.json").read_text())["config"]["compile"] is True
    assert len(list((out / "checkpoints").iterdir())) == 2
    table = pds.dataset(out / "scored" / "scores").to_table()
    assert len(table) == 2000
    assert "Most influential, by adam_self_influence" in capsys.readouterr().out
    checkpoint = next((out / "checkpoints").iterdir())
    line = refused(capsys, *command, "--checkpoint", checkpoint, "--candidate", "dnn")
    assert all(w in line for w in (str(checkpoint), "holds candidate fm(", "not dnn(")), line
    write_config(tmp_path, stages=SETTINGS["stages"] | {"shard_rows": 400})
    line = refused(capsys, *command)
    assert f"{out}: holds a log of another source, schema, stages, intake or seed" in line


def test_score_warns_on_one_line_of_what_no_closed_form_covers(
    run: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delitem(closed_forms._CLOSED_FORMS, Output)
    assert diet("score", run, "--scores", "full", "--out", tmp_path / "scores") == 0
    error = capsys.readouterr().err
    (line,) = [line for line in error.splitlines() if "closed form" in line]
    assert line.startswith("diet: warning: DNN: no closed form covers output.weight, output.bias;")
    assert "UserWarning" not in error
    assert "stacklevel" not in error


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--scores", "loss,fulll"), ["scores[1]: 'fulll'", "did you mean `full`?"]),
        (("--scores", "loss,loss"), ["scores: at least one, and every name once"]),
        (("--precision", "float8"), ["precision: 'float8'", "did you mean `float"]),
        (("--candidate", "depfm", "--train", "1"), ["`depfm`", "did you mean `deepfm`?"]),
        (("--candidate", "fm"), ["a candidate alone has no weights", "--train N"]),
        (("--train", "9"), ["9 checkpoints: the log has 4 training stages"]),
        (("--checkpoint", "missing.pt"), ["missing.pt: no such file"]),
        (("--validation-rows", "-1"), ["--validation-rows"]),
    ],
)
def test_bad_options_of_score(
    arguments: tuple[str, ...],
    words: list[str],
    run: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert diet("score", run, "--out", tmp_path / "scores", *arguments) == 2
    error = capsys.readouterr().err
    assert all(word in error for word in words), error
    assert "Traceback" not in error
    assert not (tmp_path / "scores").exists()


def test_train_writes_figures_and_weights_that_score_reads(
    run: Path, tmp_path: Path, candidates: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ("train", run, "--candidates", candidates, "--evaluation-rows", "400")
    names = [c.name for c in candidates_from(CANDIDATES, "")]
    assert f"--candidate: name one of {', '.join(names)}" in refused(capsys, *command)
    command = (*command, "--candidate", names[-1], "--out", tmp_path / "out")
    assert diet(*command, "--epochs", "2", "--validation-share", "0.2", "--patience", "2") == 0
    said = capsys.readouterr().out
    figures = json.loads((tmp_path / "out" / "train.json").read_text())
    # Test rows, and those held out, are not trained on.
    assert figures["num_rows"] == 2 * (3200 - 640)
    assert figures["num_evaluation_rows"] == 400
    assert figures["best_epoch"] == 1 + int(np.argmax(figures["validation_auc"]))
    assert f"AUC {figures['evaluation']['auc']:.4f}" in said
    assert f"Weights: {tmp_path / 'out' / 'model.safetensors'}" in said
    log = PreparedLog.open(str(run / "log"))
    checkpoint = Checkpoint.load(tmp_path / "out" / "model.safetensors", log.features)
    assert checkpoint.candidate.name == names[-1]
    model = checkpoint.model(log.features)
    evaluation = evaluate(model, evaluation_rows(log, 400))
    assert evaluation.auc == figures["evaluation"]["auc"]
    assert checkpoint.moments_for(model) is not None
    line = refused(capsys, *command, "--seed", "1")
    assert "holds a training run of another seed and epochs" in line
    line = refused(capsys, "train", run / "log", "--candidate", "dnn")
    assert "--out" in line
    assert "log.json" in refused(capsys, "train", tmp_path, "--candidate", "dnn")


def test_show(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert diet("show", run, "--rows", "3") == 0
    assert "160 slots for 3,200 rows" in capsys.readouterr().out


def test_update_adds_a_day_and_equals_one_longer_run(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """3,000 rows and then 1,000 more give the bits of 4,000 at once."""
    stages = SETTINGS["stages"] | {"test_fraction": 0.0}
    memories = []
    for name, first_rows in (("whole", 4000), ("grown", 3000)):
        folder = tmp_path / name
        folder.mkdir()
        write_log(folder / "log.parquet", num_rows=first_rows)
        config = write_config(folder, stages=stages)
        assert diet("distill", "--config", config, "--out", folder / "run") == 0
        if first_rows < 4000:
            day = write_log(folder / "day.parquet", first_row=3000, num_rows=1000)
            assert diet("update", folder / "run", "--log", day) == 0
            # The same rows again are older than the last one.
            assert diet("update", folder / "run", "--log", day) == 2
        memories.append((folder / "run" / "distilled" / "memory.parquet").read_bytes())
    assert memories[0] == memories[1]
    assert DistilledDataset.load(tmp_path / "grown" / "run" / "distilled").num_slots == 200


def refused(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    """The one line that a command says before it exits with 2."""
    capsys.readouterr()
    assert diet(*arguments) == 2
    lines = [
        line
        for line in capsys.readouterr().err.splitlines()
        if line.startswith("diet: ") or "Traceback" in line
    ]
    assert len(lines) == 1
    assert lines[0].startswith("diet: ")
    return lines[0]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"sorce": {}}, ["distill.yaml", "`sorce`", "`source`"]),
        ({"seed": "one"}, ["distill.yaml: seed", "whole number", "'one'"]),
        ({"budget": {"fraction": 0.001}}, ["2 slots for 1600 rows", "strata", "fraction"]),
        ({"influence": {"num_scorers": 100}}, ["influence scoring needs 3 CPUs", "cluster has 2"]),
        ({"proxies": [{"name": "p", "architecture": "dcnv"}]}, ["`dcnv`", "did you mean `dcn"]),
        ({"source": {"paths": ["missing.parquet"]}}, ["missing.parquet", "no such file"]),
        ({"schema": "other.yaml"}, ["other.yaml", "no such file"]),
    ],
)
def test_bad_configuration(
    changes: dict[str, Any],
    words: list[str],
    tmp_path: Path,
    ray_cluster: None,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_log(tmp_path / "log.parquet", num_rows=2000)
    config = write_config(tmp_path, **changes)
    line = refused(capsys, "distill", "--config", config, "--out", tmp_path / "run")
    assert all(word in line for word in words), line
    # A cluster may grow: what was prepared is not done again.
    assert (tmp_path / "run" / "log").exists() == ("cluster has 2" in words[-1])
    assert not (tmp_path / "run" / "distilled").exists()


def test_an_effort_replaces_the_budget(
    tmp_path: Path, ray_cluster: None, capsys: pytest.CaptureFixture[str]
) -> None:
    write_log(tmp_path / "log.parquet", num_rows=2000)
    config = write_config(tmp_path, budget={"slots": 50, "boundary_factor": 1.5})
    command = ("distill", "--config", config, "--out", tmp_path / "run")
    assert "--effort: effort: 'hard' is none of low" in refused(
        capsys, *command, "--effort", "hard"
    )
    assert not (tmp_path / "run").exists()
    assert diet(*command, "--effort", "high") == 0
    dataset = DistilledDataset.load(tmp_path / "run" / "distilled")
    assert dataset.num_slots == round(1600 / 15)
    settings = json.loads((tmp_path / "run" / "distill.json").read_text())
    assert settings["budget"] == {
        "effort": "high",
        "fraction": None,
        "slots": None,
        "boundary_factor": 1.5,
    }


def test_bad_log_leaves_nothing(
    tmp_path: Path, ray_cluster: None, capsys: pytest.CaptureFixture[str]
) -> None:
    table = pq.read_table(write_log(tmp_path / "log.parquet", num_rows=2000))
    labels = table["long_view"].to_pylist()
    labels[1234] = 7
    index = table.schema.get_field_index("long_view")
    pq.write_table(table.set_column(index, "long_view", pa.array(labels)), tmp_path / "log.parquet")
    config = write_config(tmp_path)
    line = refused(capsys, "distill", "--config", config, "--out", tmp_path / "run")
    assert all(w in line for w in ("log.parquet", "row 1235", "`long_view`", "7")), line
    assert not (tmp_path / "run").exists()


def test_existing_output(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = run.parent / "distill.yaml"
    assert "distilled already" in refused(capsys, "distill", "--config", config, "--out", run)
    other = write_config(tmp_path, seed=5)
    write_log(tmp_path / "log.parquet")
    line = refused(capsys, "distill", "--config", other, "--out", run)
    assert "`seed`" in line or "`source" in line
    (tmp_path / "mine.txt").write_text("kept")
    line = refused(capsys, "distill", "--config", other, "--out", tmp_path)
    assert "no run of diet" in line
    assert (tmp_path / "mine.txt").read_text() == "kept"


def test_a_set_of_another_schema(
    run: Path, tmp_path: Path, candidates: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A run whose log was prepared under another schema than its distilled set."""
    other = tmp_path / "other"
    other.mkdir()
    for name in ("distilled", "memory", "distill.json"):
        (other / name).symlink_to(run / name)
    log = json.loads((run / "log" / "log.json").read_text())
    fields = log["schema"]["fields"]
    log["schema"]["fields"] = [f for f in fields if f["name"] != "hourmin"]
    (other / "log").mkdir()
    (other / "log" / "log.json").write_text(json.dumps(log))
    line = refused(capsys, "search", other, "--candidates", candidates)
    assert "`hourmin`" in line


def test_not_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "manifest.json" in refused(capsys, "show", tmp_path)
    assert "distill.json" in refused(capsys, "update", tmp_path)
    assert "distill.json" in refused(capsys, "score", tmp_path)


def test_unknown_architecture_in_a_search(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "candidates.yaml"
    path.write_text("candidates: [{architecture: deepfn}]")
    line = refused(capsys, "search", run, "--candidates", path)
    assert "`deepfm`" in line

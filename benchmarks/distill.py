"""Cost and memory of distilling a synthetic log, against one plain training pass of the proxy.

    python benchmarks/distill.py --rows 5000000 20000000

Prints JSON: for each length the peak proportional memory (PSS) of this process and all its
descendants, Ray's own and the object store included, the seconds of each part, and
`cost_ratio` = (preparing + distilling) / plain pass; then the growth of the peak from the first
length to the last.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.processes import PeakMemory

OBJECT_STORE_BYTES = 1024**3


def plain_pass_s(run: Path) -> float:
    """Seconds to stream the prepared log through the proxy's training once, on one thread."""
    import torch

    from diet_ray.data.log import PreparedLog
    from diet_ray.distillation.run import RunFolder, load_run_config
    from diet_ray.models.catalogue import build
    from diet_ray.training.loop import fit

    torch.set_num_threads(1)
    config = load_run_config(RunFolder(run))
    log = PreparedLog.open(str(RunFolder(run).log))
    begin_s = time.perf_counter()
    model = build(config.lead, log.features, config.seed)
    fit(model, log.batches(log.train_stages), config.lead.optimizer, config.lead.batch_size)
    return time.perf_counter() - begin_s


def measure(num_rows: int, folder: Path, connection: object) -> None:
    """Runs in a process of its own, so that nothing of one length is left for the next."""
    import ray

    from diet_ray.cluster import connect
    from diet_ray.data.sources.config import SourceConfig
    from diet_ray.data.sources.synthetic import SyntheticConfig, write_synthetic
    from diet_ray.distillation.config import DistillConfig
    from diet_ray.distillation.run import RunFolder, distill

    log = folder / "log"
    begin_s = time.perf_counter()
    write_synthetic(SyntheticConfig(num_rows=num_rows, seed=0), log)
    generated_s = time.perf_counter() - begin_s
    schema = Path(__file__).parent.parent / "examples" / "synthetic" / "schema.yaml"
    config = DistillConfig(schema=schema, source=SourceConfig(paths=(str(log),)))
    run = folder / "run"

    def part() -> str:
        return "distill" if RunFolder(run).memory.exists() else "prepare"

    with PeakMemory(part) as memory:
        begin_s = time.perf_counter()
        connect(num_cpus=2, object_store_bytes=OBJECT_STORE_BYTES, include_dashboard=False)
        dataset = distill(config, run)
        total_s = time.perf_counter() - begin_s
    ray.shutdown()
    stages_s = float(dataset.manifest.details["distill_seconds"])
    plain_s = plain_pass_s(run)
    connection.send(  # type: ignore[attr-defined]
        {
            "num_rows": num_rows,
            "num_slots": dataset.num_slots,
            "num_stages": len(dataset.manifest.stages),
            "peak_pss_gib": max(memory.part_peak_bytes.values()) / 1024**3,
            "part_peak_pss_gib": {k: v / 1024**3 for k, v in memory.part_peak_bytes.items()},
            "generate_s": generated_s,
            "prepare_and_start_s": total_s - stages_s,
            "distill_s": stages_s,
            "plain_pass_s": plain_s,
            "cost_ratio": total_s / plain_s,
            "cost_ratio_without_prepare": stages_s / plain_s,
            "log_bytes": sum(f.stat().st_size for f in RunFolder(run).log.rglob("*.parquet")),
        }
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[5_000_000, 20_000_000])
    parser.add_argument("--folder", type=Path, help="where to work; default: a temporary one")
    arguments = parser.parse_args()
    lengths = []
    context = multiprocessing.get_context("spawn")
    for num_rows in arguments.rows:
        with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
            receiver, sender = context.Pipe(duplex=False)
            process = context.Process(target=measure, args=(num_rows, Path(folder), sender))
            process.start()
            sender.close()
            try:
                lengths.append(receiver.recv())
            except EOFError:
                raise SystemExit(f"{num_rows} rows: failed, see above") from None
            process.join()
            print(json.dumps(lengths[-1]), flush=True)
    growth = lengths[-1]["peak_pss_gib"] / lengths[0]["peak_pss_gib"]
    print(json.dumps({"lengths": lengths, "peak_growth": growth}, indent=1))


if __name__ == "__main__":
    main()

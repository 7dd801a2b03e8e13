"""`diet distill --dry-run`: what it would take."""

from __future__ import annotations

import os

from rich.console import Console

from diet_ray.distillation.config import DistillConfig
from diet_ray.report import format as fmt


def print_dry_run(config: DistillConfig, price_per_hour: float | None, console: Console) -> None:
    """Prints an estimate; nothing is started or written."""
    from diet_ray.distillation.dry_run import START_S, dry_run

    num_cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 2
    found = dry_run(config, num_cpus)
    lines = {
        "rows": f"{found.num_rows:,}, of them {found.num_train_rows:,} to distil",
        "stages": f"about {found.num_stages:,}",
        "slots": f"{found.num_slots:,}",
        "time": f"about {fmt.duration(found.total_s)}: preparing {fmt.duration(found.prepare_s)}, "
        f"distilling {fmt.duration(found.distill_s)}, starting {fmt.duration(START_S)}",
        "memory": f"about {found.memory_bytes / 1024**3:.1f} GiB in the driver, as much as its "
        "tables again in every scorer",
        "disk": f"about {found.disk_bytes / 1024**3:.2f} GiB",
    }
    if price_per_hour is not None:
        lines["cost"] = f"about {found.total_s / 3600 * price_per_hour:,.2f}"
    for name, text in lines.items():
        console.print(f"{name}: {text}", highlight=False, soft_wrap=True)
    console.print(
        f"Measured on the first rows, on this machine as it is now, for {num_cpus} CPUs. Take it "
        "for half to twice that.",
        soft_wrap=True,
    )

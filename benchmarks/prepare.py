"""Speed and memory of preparing raw files, in the formats of KuaiRand-27K and of UserBehavior.

    python benchmarks/prepare.py --json
    python benchmarks/prepare.py --rows 1000000 --parts userbehavior
    python benchmarks/prepare.py --folder FOLDER    # keeps the generated files there

Prints one JSON object; for each log: rows, bytes, `seconds`, `rows_per_s` by the clock on the wall,
`cpu_s` of all processes, `rows_per_cpu_s`, what `--cores` cores would do if they had nothing else
to do (`rows_per_s_of_idle_cores`), and `peak_bytes` of all processes together (PSS). UserBehavior
is also measured with a negative drawn for each event. `load_average` is the machine's after each
part: well above the cores' own work, the clock on the wall says little.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import shutil
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.preparing.raw_files import write_behavior, write_kuairand
from benchmarks.processes import PeakMemory, use_cores
from benchmarks.report import note, print_report
from diet_ray.data.raw.convert import convert
from diet_ray.data.raw.log import Options
from diet_ray.data.raw.tasks import local_tasks
from diet_ray.data.sources.public import known

PARTS = {
    "kuairand": ("kuairand", Options()),
    "userbehavior": ("taobao-behavior", Options(label="buy")),
    "userbehavior_negatives": ("taobao-behavior", Options(label="any", negatives=1)),
}


def main() -> None:
    arguments = parse()
    use_cores(arguments.cores)
    print_report(arguments, measure_part)


def measure_part(part: str, arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    name, options = PARTS[part]
    raw = folder / name
    if not raw.exists():
        note(f"writing {raw}")
        # In a process of its own, so that its memory isn't counted.
        writer = multiprocessing.get_context("spawn").Process(
            target=_write, args=(name, raw, arguments.rows)
        )
        writer.start()
        writer.join()
        if writer.exitcode:
            raise SystemExit(writer.exitcode)
    out = folder / f"{part}-prepared"
    shutil.rmtree(out, ignore_errors=True)
    adapter = known.ADAPTERS[name]
    cpu_s, begin_s = _cpu_s(), time.perf_counter()
    phase = ["read and sort"]
    with PeakMemory(lambda: phase[0]) as memory, local_tasks(arguments.cores) as tasks:
        files, _ = known.sort_files(adapter, known.starts_of(str(raw)))
        made = convert(
            lambda scratch: adapter.open(files, options, scratch),
            tasks,
            out,
            about="",
            on_progress=lambda what, *_: phase.__setitem__(0, what),
        )
    seconds = time.perf_counter() - begin_s
    cpu_s = _cpu_s() - cpu_s
    return {
        part: {
            "num_rows_read": made.num_read,
            "num_rows_written": made.num_rows,
            "raw_bytes": sum(p.stat().st_size for p in raw.iterdir()),
            "prepared_bytes": sum(p.stat().st_size for p in (out / "log").iterdir()),
            "dropped": made.dropped,
            "seconds": round(seconds, 2),
            "cpu_s": round(cpu_s, 2),
            "rows_per_s": round(made.num_read / seconds),
            "rows_per_cpu_s": round(made.num_read / cpu_s),
            "rows_per_s_of_idle_cores": round(arguments.cores * made.num_read / cpu_s),
            "num_cores": arguments.cores,
            "peak_bytes": max(memory.part_peak_bytes.values(), default=0),
            "peak_bytes_by_pass": memory.part_peak_bytes,
        }
    }


def _write(name: str, folder: Path, num_rows: int) -> None:
    unfinished = folder.with_name(f"{folder.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    if name == "kuairand":
        write_kuairand(unfinished, num_rows)
    else:
        write_behavior(unfinished / "UserBehavior.csv", num_rows)
    unfinished.rename(folder)


def _cpu_s() -> float:
    """Of this process and the children that have ended."""
    used = [resource.getrusage(w) for w in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in used)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), metavar="PART")
    parser.add_argument("--rows", type=int, default=10_000_000, help="of each generated log")
    parser.add_argument("--cores", type=int, default=2, help="and as many processes")
    parser.add_argument("--folder", type=Path, help="for generated files; default: a temporary one")
    parser.add_argument("--json", action="store_true", help="on one line")
    return parser.parse_args()


if __name__ == "__main__":
    main()

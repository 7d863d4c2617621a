"""Claim: the whole job, from images on disk to a model that answers, next to what people would pick for it.

Graftline, a plain torchvision script (all layers; the new layer alone), fastai, Hugging Face's Trainer and AutoGluon
MultiModal, each in an environment of its own, on the same folders, with the same weights, in turn on one machine, CPU
only. Then a hundredth of the training images comes in addition, and each does the job again. README.md beside this file
says how. Needs the folder of real data (GRAFTLINE_REALDATA, or ../shared/data), uv and a package index.

``--write`` puts a table for each set into docs/performance.md, every run's record into benchmarks/results/peers.jsonl.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import psutil

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from _bench import (  # noqa: E402 - it lies a folder up
    REALDATA,
    REPOSITORY,
    provenance,
    replace_section,
    report_of,
    run_stages,
    table,
    temporary_workspace,
)

from pipeline.evaluation.intervals import wilson  # noqa: E402

WEIGHTS = REALDATA / "weights" / "resnet18.safetensors"
RECORDS = REPOSITORY / "benchmarks" / "results" / "peers.jsonl"
DOCUMENT = REPOSITORY / "docs" / "performance.md"
SETS = ("rsscn7", "malaria", "cifar10")
DEFAULT_SETS = ("rsscn7", "malaria")
ADDED_SHARE = 0.01
"""Of the training images, held back from the first run and added for the second."""

WATCH_EVERY_S = 0.5


@dataclass(frozen=True)
class Peer:
    """A program beside this file, its environment (None: that of this process) and its options."""

    title: str
    program: str
    environment: str | None
    options: tuple[str, ...] = ()


GRAFTLINE = Peer("Graftline, probe", "graftline_run.py", None)
PEERS = {
    "torchvision": Peer("torchvision script", "torchvision_script.py", "torchvision_script"),
    "torchvision_frozen": Peer(
        "torchvision script, new layer alone", "torchvision_script.py", "torchvision_script", ("--frozen",)
    ),
    "fastai": Peer("fastai `fine_tune(4)`", "fastai_fine_tune.py", "fastai_fine_tune"),
    "hf_trainer": Peer("Hugging Face `Trainer`", "hf_trainer.py", "hf_trainer"),
    "autogluon": Peer("AutoGluon MultiModal", "autogluon_multimodal.py", "autogluon_multimodal"),
}


def main() -> None:
    options = _options()
    if not WEIGHTS.is_file():
        sys.exit(f"No real data in {REALDATA}; set GRAFTLINE_REALDATA.")
    chosen = {name: PEERS[name] for name in options.peers}
    for peer in chosen.values():
        _make_environment(options.envs, peer)
    work = Path(tempfile.mkdtemp(prefix="graftline-peers-"))
    try:
        records = []
        for record in _measured(options, chosen, work):
            records.append(record)
            with (options.envs / "last_records.jsonl").open("w" if len(records) == 1 else "a") as file:
                file.write(json.dumps(record) + "\n")  # an hour's work must survive what may stop the rest
    finally:
        shutil.rmtree(work)
    print(_report(records, options))
    if options.write:
        _write(records, options)


def _write(records: list[dict[str, Any]], options: argparse.Namespace) -> None:
    """What is told of sets that were not run stays as it was."""
    tables = {}
    for name in options.sets:  # before anything is written, which would make the commit in them one with changes
        of_set = argparse.Namespace(**{**vars(options), "sets": [name]})
        tables[name] = _report([record for record in records if record["set"] == name], of_set)
    others = [json.loads(line) for line in RECORDS.read_text(encoding="utf-8").splitlines()]
    kept = [record for record in others if record["set"] not in options.sets]
    RECORDS.write_text("".join(json.dumps(record) + "\n" for record in [*kept, *records]), encoding="utf-8")
    for name, text in tables.items():
        replace_section(DOCUMENT, f"peers {name}", text)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("sets", nargs="*", default=DEFAULT_SETS, help=f"of {', '.join(SETS)}, or `all`")
    parser.add_argument("--peers", nargs="*", default=list(PEERS), choices=PEERS, metavar="PEER", help=", ".join(PEERS))
    parser.add_argument("--images", type=int, default=500, help="of each set, evenly over its classes; 0: all it has")
    parser.add_argument("--budget-s", type=float, default=150, help="seconds after which a peer's training ends")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2, help="of each program")
    parser.add_argument("--first-only", action="store_true", help="leave the second run, with more images, out")
    parser.add_argument("--envs", type=Path, default=Path.home() / ".cache" / "graftline-peers", help="environments")
    parser.add_argument("--write", action="store_true", help="put table and records into the repository")
    options = parser.parse_args()
    if list(options.sets) == ["all"]:
        options.sets = SETS
    if unknown := set(options.sets) - set(SETS):
        parser.error(f"no data set {', '.join(sorted(unknown))}; there are {', '.join(SETS)}")
    if options.write and (
        untold := [name for name in options.sets if f"peers {name}: begin" not in DOCUMENT.read_text()]
    ):
        parser.error(f"{DOCUMENT.name} has no place for {', '.join(untold)}: <!-- peers {untold[0]}: begin -->")
    options.envs = options.envs.resolve()
    options.envs.mkdir(parents=True, exist_ok=True)
    return options


# -- environments ------------------------------------------------------------------------------------------------------


def _make_environment(envs: Path, peer: Peer) -> None:
    """A virtual environment of exactly the pinned packages; one that is there is kept while its pins are the same."""
    assert peer.environment is not None
    folder, pins = envs / peer.environment, HERE / "requirements" / f"{peer.environment}.txt"
    stamp = folder / "pins.sha256"
    digest = hashlib.sha256(pins.read_bytes()).hexdigest()
    if stamp.is_file() and stamp.read_text() == digest:
        return
    uv = shutil.which("uv") or shutil.which("uv", path=REPOSITORY / ".venv" / "uv" / "bin")
    if uv is None:
        sys.exit("uv makes the peers' environments and is not on the PATH; install it.")
    print(f"{peer.environment}: installing into {folder}", flush=True)
    subprocess.run([uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(folder)], check=True)
    install = [uv, "pip", "install", "--quiet", "--no-deps", "--compile-bytecode", "--python", str(_python(folder))]
    subprocess.run([*install, "--requirements", str(pins)], check=True)
    stamp.write_text(digest)


def _python(environment: Path) -> Path:
    return environment / "bin" / "python"


# -- data --------------------------------------------------------------------------------------------------------------


def _divide(name: str, folder: Path, images: int) -> list[Path]:
    """Lay ``folder/{train,val,test}/CLASS/FILE`` out as Graftline divides the set; return what is held back of train.

    Files are copied: no library has to follow links. What is held back lies in ``folder.later/train/…``.
    """
    with tempfile.TemporaryDirectory() as unpacked:
        with tarfile.open(REALDATA / f"{name}.tar") as tar:
            tar.extractall(unpacked, filter="data")
        with temporary_workspace(target=_root(Path(unpacked))) as workspace:
            run_stages(workspace, ["backbone.name=resnet18", f"backbone.weights={{file: {WEIGHTS}}}"], until="validate")
            manifest = report_of(workspace, "target_manifest").labelled.frame
        rows = manifest[manifest["error"].isna()].drop_duplicates("id")
        if images:
            rows = _evenly(rows, images)
        train = rows[rows["split"] == "train"]
        later = set(_by_hash(train)["name"].head(math.ceil(ADDED_SHARE * len(train))))
        held_back = []
        for row in rows.itertuples():
            inside = Path(row.split, row.label, row.id[:16] + Path(row.name).suffix.lower())
            place = (folder.with_suffix(".later") if row.name in later else folder) / inside
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(_root(Path(unpacked)) / row.name, place)
            if row.name in later:
                held_back.append(place)
    return held_back


def _root(unpacked: Path) -> Path:
    inside = [entry for entry in unpacked.iterdir() if entry.is_dir()]
    return inside[0] if len(inside) == 1 else unpacked


def _by_hash(rows: Any) -> Any:
    """In the order of the files' sha256: as good as drawn, and the same everywhere."""
    return rows.sort_values("id")


def _evenly(rows: Any, images: int) -> Any:
    """About ``images`` of all, as many of each class, each split in its share of them."""
    rows = _by_hash(rows)
    per_class = images / rows["label"].nunique()
    share = (per_class / rows.groupby("label")["id"].transform("size")).clip(upper=1)
    part = rows.groupby(["label", "split"])["id"]
    return rows[part.cumcount() < (share * part.transform("size")).round()]


def _add(held_back: list[Path], folder: Path) -> None:
    for place in held_back:
        inside = place.relative_to(folder.with_suffix(".later"))
        shutil.copyfile(place, folder / inside)


# -- measuring ---------------------------------------------------------------------------------------------------------


def _measured(options: argparse.Namespace, peers: dict[str, Peer], work: Path) -> Iterator[dict[str, Any]]:
    """Every run's record as it is there. Graftline first: its accuracy is what the others' second run stops at."""
    for name in options.sets:
        for repeat in range(options.repeats):
            folder = work / f"{name}-{repeat}" / "images"
            held_back = _divide(name, folder, options.images)
            counts = {split: len(list((folder / split).glob("*/*"))) for split in ("train", "val", "test")}
            print(f"{name}: {counts}, {len(held_back)} more for the second run", flush=True)
            classes = len(list((folder / "train").iterdir()))
            turn = {"set": name, "repeat": repeat, "images": counts, "classes": classes, "added": len(held_back)}
            first = {}
            for key, peer in {"graftline": GRAFTLINE, **peers}.items():
                first[key] = {**turn, "run": "first", "key": key, **_job(peer, folder, options, work)}
                yield first[key]
            if options.first_only:
                continue
            _add(held_back, folder)
            target = first["graftline"]["accuracy"]
            for key, peer in {"graftline": GRAFTLINE, **peers}.items():
                ours = key == "graftline"
                if ours or seconds_to(first[key], target) is not None:  # else it would be its first run again
                    record = _job(peer, folder, options, work, stop_at=None if ours else target)
                    yield {**turn, "run": "second", "key": key, **record}


def _job(
    peer: Peer, folder: Path, options: argparse.Namespace, work: Path, stop_at: float | None = None
) -> dict[str, Any]:
    """Run one program to its end, watched from outside; its own record with the peak of its memory."""
    own = work / folder.parent.name / "".join([Path(peer.program).stem, *peer.options])
    out = work / "result.json"
    out.unlink(missing_ok=True)
    python = Path(sys.executable) if peer.environment is None else _python(options.envs / peer.environment)
    command = [str(python), str(HERE / peer.program), str(folder), "--weights", str(WEIGHTS), "--out", str(out)]
    command += ["--work", str(own), "--budget-s", str(options.budget_s), *peer.options]
    command += [] if stop_at is None else ["--stop-at", str(stop_at)]
    print(f"-- {peer.title}", flush=True)
    process = subprocess.Popen(command, env=_environment(peer, python, options.threads), cwd=work)
    watch = _Memory(process.pid)
    watch.start()
    code = process.wait()
    watch.stop()
    if code:
        sys.exit(f"{peer.title} ended with {code}: {' '.join(command)}")
    return {**json.loads(out.read_text()), "title": peer.title, "peak_mb": round(watch.peak / 2**20)}


def _environment(peer: Peer, python: Path, threads: int) -> dict[str, str]:
    """So many threads, no GPU, and for a peer nothing of this process's own Python."""
    kept = {key: value for key, value in os.environ.items() if peer.environment is None or key != "PYTHONPATH"}
    return {
        **kept,
        "PATH": f"{python.parent}{os.pathsep}{os.environ['PATH']}",
        "OMP_NUM_THREADS": str(threads),
        "CUDA_VISIBLE_DEVICES": "",
        "PEER_STARTED": repr(time.time()),
    }


class _Memory(threading.Thread):
    """Peak of a process and all its children, bytes; pages that several share count once (proportional set size)."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.pid, self.peak, self._ended = pid, 0, threading.Event()

    def run(self) -> None:
        while not self._ended.wait(WATCH_EVERY_S):
            self.peak = max(self.peak, _tree_bytes(self.pid))

    def stop(self) -> None:
        self._ended.set()
        self.join()


def _tree_bytes(pid: int) -> int:
    try:
        top = psutil.Process(pid)
        members = [top, *top.children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0
    return sum(_bytes(member) for member in members)


def _bytes(process: psutil.Process) -> int:
    try:
        full = process.memory_full_info()
    except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
        return 0  # it has just ended
    return int(getattr(full, "pss", full.rss))  # Linux alone knows the proportional size


# -- the table ---------------------------------------------------------------------------------------------------------


def _report(records: list[dict[str, Any]], options: argparse.Namespace) -> str:
    header = [
        "data set",
        "who",
        "test accuracy, % (95 %)",
        "whole job, s",
        "ended",
        "to Graftline's accuracy, s",
        "× Graftline",
    ]
    header += ["peak memory, MB"] + ([] if options.first_only else ["second run, s", "× Graftline"])
    rows, sentences, counts = [], [], []
    for name in options.sets:
        of_set = [record for record in records if record["set"] == name]
        rows += _rows(name, of_set, options)
        counts.append(_counts(name, of_set))
        sentences.append(_sentence(name, of_set, options))
    versions = {package: version for record in records for package, version in record["versions"].items()}
    told = ", ".join(f"{package} {version}" for package, version in sorted(versions.items()))
    closing = (
        f"{'; '.join(counts)}; n = {options.repeats}; training ends after {options.budget_s:g} s; "
        f"{options.threads} threads, no GPU; "
        f"{told}; {provenance()}."
    )
    return "\n".join([table(header, rows), "", *sentences, "", closing])


def _counts(name: str, records: list[dict[str, Any]]) -> str:
    images, chance = records[0]["images"], 100 / records[0]["classes"]
    return (
        f"{name}: {images['train']:,} images to train on, {images['val']:,} to validate, {images['test']:,} to test, "
        f"{chance:.1f} % right by chance"
    )


def _rows(name: str, records: list[dict[str, Any]], options: argparse.Namespace) -> list[list[str]]:
    first, second = ([record for record in records if record["run"] == run] for run in ("first", "second"))
    rows = []
    for key in dict.fromkeys(record["key"] for record in records):
        mine = [record for record in first if record["key"] == key]
        row = [
            name,
            mine[0]["title"],
            _accuracy(_median(first, key, "accuracy"), mine[0]["images"]["test"]),
            f"{_median(first, key, 'total_s'):.0f}",
            _ended(mine),
            *_told(_to_our_accuracy(first, key), never="not in "),
            f"{max(record['peak_mb'] for record in mine):,}",
        ]
        if not options.first_only:
            row += _told(_again(first, second, key), never="> ")
        rows.append(row)
    return rows


def _accuracy(share: float, images: int) -> str:
    """In per cent, with Wilson's interval of 95 %."""
    bounds = wilson(round(share * images), images)
    assert bounds is not None, "there are test images"
    return f"{100 * share:.1f} ({100 * bounds.low:.0f}–{100 * bounds.high:.0f})"


class Time(NamedTuple):
    """What one repeat says of a peer."""

    seconds: float
    times_ours: float
    """``seconds`` over Graftline's of the same repeat."""
    is_bound: bool
    """The accuracy was not reached: it would have taken longer than this."""


def _to_our_accuracy(first: list[dict[str, Any]], key: str) -> list[Time]:
    """Each repeat's seconds to the accuracy that Graftline had in the same repeat; its own are the whole job's."""
    times, ours = [], _by_repeat(first, "graftline")
    for repeat, record in _by_repeat(first, key).items():
        whole = record["total_s"]
        reached = whole if key == "graftline" else seconds_to(record, ours[repeat]["accuracy"])
        seconds = whole if reached is None else reached
        times.append(Time(seconds, seconds / ours[repeat]["total_s"], reached is None))
    return times


def _again(first: list[dict[str, Any]], second: list[dict[str, Any]], key: str) -> list[Time]:
    """Each repeat's seconds of the second run; empty where no first run reached the accuracy.

    A repeat in which it did not has no second run: it counts with its first, as what was not enough.
    """
    again, ours = _by_repeat(second, key), _by_repeat(second, "graftline")
    times = []
    for repeat, before in _by_repeat(first, key).items() if again else ():
        record = again.get(repeat, before)
        is_bound = repeat not in again or (key != "graftline" and record["stopped"] != "accuracy")
        times.append(Time(record["total_s"], record["total_s"] / ours[repeat]["total_s"], is_bound))
    return times


def _by_repeat(records: list[dict[str, Any]], key: str) -> dict[int, dict[str, Any]]:
    return {record["repeat"]: record for record in records if record["key"] == key}


def _told(times: list[Time], *, never: str) -> list[str]:
    """Median seconds, and the median of how many times Graftline's.

    ``never`` stands before seconds that were enough in no repeat, ≥ where they were not in some; a dash: no run.
    """
    if not times:
        return ["–", "–"]
    bounds = sum(time.is_bound for time in times)
    marks = ("", "") if not bounds else (never, "> ") if bounds == len(times) else ("≥ ", "≥ ")
    seconds, ratio = (statistics.median(values) for values in list(zip(*times, strict=True))[:2])
    return [f"{marks[0]}{seconds:.0f}", f"{marks[1]}{ratio:.1f}"]


def seconds_to(record: dict[str, Any], accuracy: float) -> float | None:
    """When a run first had ``accuracy`` on the test images, and what it needs after training to leave a model.

    Scores are taken after epochs; None where none was high enough. A library that saves within its training call
    (phase ``train and save``) does not tell what saving takes: there it is left out.
    """
    reached = next((point["at_s"] for point in record["curve"] if point["accuracy"] >= accuracy), None)
    if reached is None:
        return None
    after = sum(s for phase, s in record["phases_s"].items() if phase not in BEFORE_THE_MODEL)
    return reached + after


BEFORE_THE_MODEL = ("start", "data and network", "train", "train and save")


def _ended(records: list[dict[str, Any]]) -> str:
    epochs = max((record["curve"][-1]["epoch"] for record in records if record["curve"]), default=None)
    how = "/".join(sorted({record["stopped"] for record in records}))
    if not all(record.get("gates_passed", True) for record in records):
        how += ", gates not passed"
    return how if epochs is None else f"{how}, epoch {epochs:g}"


def _sentence(name: str, records: list[dict[str, Any]], options: argparse.Namespace) -> str:
    """Who wins what, from the figures alone."""
    first = [record for record in records if record["run"] == "first"]
    keys = [key for key in dict.fromkeys(record["key"] for record in first) if key != "graftline"]
    if not keys:
        return f"- {name}: no peer was run."
    gaps = {key: _gap(first, key) for key in keys}
    best = max(keys, key=lambda key: gaps[key])
    gap = 100 * gaps[best]
    title = next(record["title"] for record in first if record["key"] == best)
    accuracy = (
        f"{title} ends {gap:.1f} points above Graftline's probe"
        if gap > 0
        else "no peer ends above Graftline's accuracy"
    )
    reached = {}
    for key in keys:
        times = _to_our_accuracy(first, key)
        if not any(time.is_bound for time in times):
            reached[key] = statistics.median(time.times_ours for time in times)
    if not reached:
        always = " in every repeat" if options.repeats > 1 else ""
        return f"- {name}: {accuracy}; none reaches that accuracy in its time{always}. {_spent(first)}"
    fastest = min(reached, key=lambda key: reached[key])
    title = next(record["title"] for record in first if record["key"] == fastest)
    ratio = reached[fastest]
    speed = (
        f"Graftline is {ratio:.1f} times as fast as"
        if ratio >= 1
        else f"Graftline takes {1 / ratio:.1f} times as long as"
    )
    return f"- {name}: {accuracy}; to Graftline's accuracy {speed} the fastest peer, {title}. {_spent(first)}"


def _gap(first: list[dict[str, Any]], key: str) -> float:
    """Median over the repeats of a peer's accuracy less Graftline's."""
    ours = _by_repeat(first, "graftline")
    return statistics.median(
        record["accuracy"] - ours[repeat]["accuracy"] for repeat, record in _by_repeat(first, key).items()
    )


def _spent(records: list[dict[str, Any]]) -> str:
    """Where Graftline's seconds went."""
    record = next(record for record in records if record["key"] == "graftline")
    longest = sorted(record["stages_s"].items(), key=lambda stage: -stage[1])[:4]
    told = ", ".join(f"{stage} {seconds:.0f} s" for stage, seconds in longest)
    return f"Of Graftline's {record['total_s']:.0f} s, its file was there after {record['model_s']:.0f}; {told}."


def _median(records: list[dict[str, Any]], key: str, figure: str) -> float:
    return statistics.median(record[figure] for record in records if record["key"] == key)


if __name__ == "__main__":
    main()

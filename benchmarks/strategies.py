"""Claim: `auto` finds the strategy that fits; how often it ships what is worse than the baseline is counted.

Strategies on real shifts, and `auto` beside them, with three seeds. Training never sees a label of the test split;
these are read here alone, for the score. What is measured where:

unlabelled   rendered → handwritten digits, MNIST → USPS, MNIST → MNIST-M: no target label
photos       office_caltech10, one domain left out in turn: in-domain and out-of-domain accuracy
few          1, 5 and 20 labels per class on cifar10, rsscn7 and malaria
misleading   rendered digits whose labels are turned by one, beside few labelled handwritten ones
others       the strategies that `auto` does not try on a shift without labels, for the same table

``strategies.py [PART…] [--seeds 0 1 2] [--jobs 2] [--write]``. Results are kept line by line in
``benchmarks/results/strategies.jsonl``; what is there is not run again, ``--write`` puts the tables into the docs.
"""

from __future__ import annotations

import argparse
import json
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from _bench import REALDATA, REPOSITORY, provenance, replace_section, revision, temporary_workspace
from _shifts import Problem, class_folders, digits, few_labels, prepared, unpacked, write_table

RESULTS = REPOSITORY / "benchmarks" / "results" / "strategies.jsonl"

Result = dict[str, Any]

# -- the problems ------------------------------------------------------------------------------------------------------

UNLABELLED = ("rendered → handwritten", "MNIST → USPS", "MNIST → MNIST-M")
OTHERS = ("label_propagation", "instance", "tent", "selftrain", "deep_coral", "mmd", "dann", "cdan")
"""Tried on their own where `auto` does not try them."""

FEW_SETS = {"cifar10": 64, "rsscn7": 96, "malaria": 96}
"""Side of the images that the backbone sees, in px: full size and full length would take a day on two cores."""
ON_FEATURES = ("probe", "class_mean", "lda", "ridge", "svm", "knn", "random_forest", "label_propagation")
FEW_STRATEGIES = (*ON_FEATURES, "lp_ft", "partial", "full")
LABELS = (1, 5, 20)
ADAPTED = {name: {"epochs": 12} for name in ("mcc", "selftrain", "deep_coral", "mmd", "dann", "cdan")}
"""About 500 steps where the default takes 1,200: the table is a day's work as it is."""
SHORT = {name: {"epochs": 3} for name in ("lp_ft", "partial", "full")}
"""Where a CPU is to do it, fine-tuning is cut to three epochs, of ten steps at least: the same time for all three."""

MISLED = ("probe", "class_mean", "standardise", "linear_ot", "mcc")
"""Tried beside `auto` where the source misleads; the last three use it."""

DOMAINS = ("amazon", "caltech10", "dslr", "webcam")
PHOTO_STRATEGIES = ("probe", "lp_ft", "full")
PHOTO_PX = 96
PHOTO_IMAGES = 1000
"""Of three domains together; ingest keeps a third for the test, near-duplicates never apart."""


def unlabelled(shift: str, seed: int) -> list[Result]:
    with temporary_workspace() as folder:
        problem = prepared(folder, seed, _digit_sources(shift, folder, seed))
        return _auto(problem, {"budget_minutes": 60, "settings": ADAPTED})


def others(shift: str, seed: int) -> list[Result]:
    """What `auto` does not try on this shift, for comparison."""
    from pipeline.training.choice.situation import Situation

    with temporary_workspace() as folder:
        problem = prepared(folder, seed, _digit_sources(shift, folder, seed))
        tried = Situation.of(problem.task).candidates
        rows = [_fitted(problem, name, ADAPTED.get(name, {}))[0] for name in OTHERS if name not in tried]
        return [row | {"part": "unlabelled"} for row in rows] or [{"strategy": "none"}]


def _digit_sources(shift: str, folder: Path, seed: int) -> list[str]:
    if shift == UNLABELLED[0]:
        return ["ingest.target.labels_per_class=0"]
    names = {"MNIST": "mnist", "USPS": "usps", "MNIST-M": "mnist_m"}
    source, target = (names[part] for part in shift.split(" → "))
    first = digits(folder / "images-source", source, train=3000, test=500, labelled=True, seed=seed)
    second = digits(folder / "images-target", target, train=3000, test=2000, labelled=False, seed=seed)
    return [
        f"ingest.source={{name: table, path: {first}}}",
        f"ingest.target={{name: table, path: {second}}}",
        "ingest.near_duplicates.max_distance=0",
    ]


def few(case: str, seed: int) -> list[Result]:
    archive, per_class = case.split(" × ")
    with temporary_workspace() as folder:
        images = folder / "images"
        root = unpacked(archive, images)
        rows = class_folders(root)
        table = few_labels(root, rows, per_class=int(per_class), seed=seed, most=1000, test=400)
        apart = "validate.near_duplicates=null"  # one blood cell looks like another to a perceptual hash
        problem = prepared(folder, seed, [*_photos(table, FEW_SETS[archive]), "ingest.source=null", apart])
        chosen = _auto(problem, {"budget_minutes": 60, "settings": SHORT})[0]
        found = [_fitted(problem, name, SHORT.get(name, {}))[0] for name in FEW_STRATEGIES]
        return [*found, _full_for_as_long(problem, chosen), chosen]


def _full_for_as_long(problem: Problem, auto: Result) -> Result:
    """`full` with as many epochs as take the time that `auto` took, down to the last."""
    name = "full, auto's time"
    plain, _ = _fitted(problem, "full", SHORT["full"])
    if "refused" in plain:
        return plain | {"strategy": name}
    epochs = max(1, round(SHORT["full"]["epochs"] * auto["seconds"] / plain["seconds"]))
    row, _ = _fitted(problem, "full", {"epochs": epochs, "patience": None}, part="long")
    return row | {"strategy": name, "epochs": epochs}


def _photos(table: Path, size_px: int) -> list[str]:
    weights = REALDATA / "weights" / "mobilenet_v2.safetensors"
    return [
        f"ingest.target={{name: table, path: {table}}}",
        "backbone.name=mobilenet_v2",
        f"backbone.weights={{file: {weights}}}",
        f"backbone.image_size_px={size_px}",
        "train.batch_size=32",
    ]


def photos(left_out: str, seed: int) -> list[Result]:
    with temporary_workspace() as folder:
        root = unpacked("office_caltech10", folder / "images")
        tables = []
        for name, is_there in (("here", False), ("there", True)):
            found = class_folders(root, lambda path, is_there=is_there: (left_out in path.parts) == is_there)
            chosen = np.random.default_rng([seed, 13]).permutation(len(found))[: None if is_there else PHOTO_IMAGES]
            rows = [(str(found[row][0].relative_to(root)), found[row][1], "") for row in chosen]
            tables.append(write_table(root, rows, name=name))
        here, there = tables
        given = [*_photos(here, PHOTO_PX), f"ingest.source={{name: table, path: {there}}}", "ingest.test_share=0.35"]
        problem = prepared(folder, seed, given)
        rows_of = []
        for name in PHOTO_STRATEGIES:
            row, network = _fitted(problem, name, SHORT.get(name, {}))
            rows_of.append(row | {"elsewhere": problem.accuracy(network, problem.elsewhere)})
        return rows_of


def misleading(case: str, seed: int) -> list[Result]:
    turned = "{" + ", ".join(f"'{digit}': '{(digit + 1) % 10}'" for digit in range(10)) + "}"
    with temporary_workspace() as folder:
        labels = f"ingest.target.labels_per_class={case.split(' ')[0]}"
        problem = prepared(folder, seed, [labels, f"ingest.label_map={turned}", "backbone.weights=none"])
        rows = [_fitted(problem, name, ADAPTED.get(name, {}))[0] for name in MISLED]
        return [*rows, *_auto(problem, {"budget_minutes": 60, "settings": {**ADAPTED, **SHORT}})[:1]]


PARTS: dict[str, tuple[Callable[[str, int], list[Result]], tuple[str, ...]]] = {
    "unlabelled": (unlabelled, UNLABELLED),
    "misleading": (misleading, ("5 per class", "20 per class")),
    "few": (few, tuple(f"{archive} × {count}" for archive in FEW_SETS for count in LABELS)),
    "photos": (photos, DOMAINS),
    "others": (others, UNLABELLED),
}

# -- one strategy on one problem ---------------------------------------------------------------------------------------


def _fitted(problem: Problem, strategy: str, settings: dict[str, Any], *, part: str = "whole") -> tuple[Result, Any]:
    """A strategy by itself; where `auto` has already fitted it to the same labels, that fit is taken."""
    from pipeline.training.choice.trying import attempt

    tried = attempt(problem.task, strategy, 0, settings, problem.context, part=part)
    if tried.fitted is None:
        return {"strategy": strategy, "refused": tried.failure}, None
    return {
        "strategy": strategy,
        "accuracy": problem.accuracy(tried.network),
        "seconds": tried.seconds,
    }, tried.network


def _auto(problem: Problem, settings: dict[str, Any]) -> list[Result]:
    """`auto`'s own row, then one for each candidate under each seed with what `auto` knew of it."""
    from pipeline.training.choice.trying import attempt
    from pipeline.training.strategies import auto

    fitted = auto.fit(problem.task, auto.Params(**settings), problem.context)
    record = fitted.record
    own = {
        "strategy": "auto",
        "chose": record.chose,
        "accuracy": problem.accuracy(fitted.network),
        "seconds": sum(trial.seconds for trial in fitted.trials),
        "sentences": record.sentences,
    }
    rows = [own]
    seconds = {(trial.strategy, trial.repeat): trial.seconds for trial in fitted.trials}
    for candidate in record.candidates:
        row = candidate.model_dump() | {"held_out_accuracy": candidate.accuracy, "candidate": True}
        del row["accuracy"]
        if candidate.network_mb is not None:  # it was fitted: this takes what lies in the scratch folder
            own_settings = settings.get("settings", {}).get(candidate.strategy, {})
            kept = attempt(problem.task, candidate.strategy, candidate.repeat, own_settings, problem.context)
            row["accuracy"] = problem.accuracy(kept.network)
            row["seconds"] = seconds.get((candidate.strategy, candidate.repeat))
        rows.append(row)
    return rows


# -- running and writing -----------------------------------------------------------------------------------------------


def _job(part: str, case: str, seed: int) -> list[Result]:
    import torch

    torch.set_num_threads(1)
    run, _ = PARTS[part]
    common = {"part": part, "case": case, "seed": seed, "job": part, "commit": revision()}
    return [{**common, **row} for row in run(case, seed)]


def _wanted(parts: list[str], seeds: list[int], done: set[tuple[str, str, int]]) -> Iterator[tuple[str, str, int]]:
    for part in parts:
        for seed in seeds:
            for case in PARTS[part][1]:
                if (part, case, seed) not in done:
                    yield part, case, seed


def results() -> list[Result]:
    return [json.loads(line) for line in RESULTS.read_text(encoding="utf-8").splitlines()] if RESULTS.is_file() else []


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", default=list(PARTS), metavar="PART", choices=[*PARTS, []])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--jobs", type=int, default=1, help="problems at once, one thread each")
    parser.add_argument("--cases", nargs="+", help="only these cases")
    parser.add_argument("--write", action="store_true", help="put the tables of all results into the docs")
    given = parser.parse_args()
    if not REALDATA.is_dir():
        raise SystemExit(f"No real data in {REALDATA}; set GRAFTLINE_REALDATA.")
    done = {(row["job"], row["case"], row["seed"]) for row in results()}
    jobs = [job for job in _wanted(given.parts, given.seeds, done) if not given.cases or job[1] in given.cases]
    RESULTS.parent.mkdir(exist_ok=True)
    with ProcessPoolExecutor(given.jobs, mp_context=get_context("spawn"), max_tasks_per_child=1) as pool:
        running = {pool.submit(_job, *job): job for job in jobs}
        failed = []
        for future in as_completed(running):
            if (failure := future.exception()) is not None:
                traceback.print_exception(failure)
                failed.append(" · ".join(map(str, running[future])))
                continue
            rows = future.result()
            with RESULTS.open("a", encoding="utf-8") as file:
                file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
            print(*running[future], *(f"{row['strategy']} {row.get('accuracy', 0):.1f}" for row in rows), sep=" · ")
    from _strategy_tables import sections

    for name, text in sections(results()).items():
        part = "unlabelled" if name == "regret" else name
        commits = ", ".join(sorted({row["commit"] for row in results() if row["part"] == part}))
        text = f"{text}\n\nMeasured at commit {commits}; table written at {provenance()}."
        print(f"\n## {name}\n\n{text}")
        if given.write:
            replace_section(REPOSITORY / "docs" / "strategies.md", name, text)
    if failed:
        raise SystemExit(f"Failed: {'; '.join(failed)}.")


if __name__ == "__main__":
    main()

"""A stage's key covers its code, and no more."""

import sys
from pathlib import Path

import pytest

from pipeline.graph import closure
from pipeline.graph.table import BY_NAME, STAGES


def names_of(stage):
    return {path.as_posix() for path in closure.modules_of(BY_NAME[stage])}


def test_editing_a_gate_never_retrains():
    """No gate is in the key of any stage before the gates."""
    early = [stage.name for stage in STAGES if stage.name not in ("gate", "package")]
    gates = {f"pipeline/gates/{name}.py" for name in ("accuracy_floor", "latency")}
    assert [name for name in early if names_of(name) & gates] == []
    assert gates <= names_of("gate")


def test_only_the_chosen_strategy_is_in_the_key():
    """Editing one strategy leaves networks trained by another as they are."""
    train = BY_NAME["train"]
    assert not {name for name in names_of("train") if name.endswith(("strategies/probe.py", "strategies/full.py"))}
    assert closure.chosen_plugins(train, {"train.strategy.name": "probe"}) == [
        Path("pipeline/training/strategies/probe.py")
    ]


def test_imports_for_type_checkers_are_in_no_key(tmp_path, monkeypatch):
    """What only annotations mention cannot change a result; an else branch can."""
    monkeypatch.setattr(closure, "CODE_ROOT", tmp_path)
    for name in ("typed", "used", "otherwise", "inner"):
        (tmp_path / "pipeline").mkdir(exist_ok=True)
        (tmp_path / "pipeline" / f"{name}.py").write_text("")
    file = tmp_path / "pipeline" / "module.py"
    file.write_text(
        "from typing import TYPE_CHECKING\nimport pipeline.used\n"
        "if TYPE_CHECKING:\n    from pipeline import typed\nelse:\n    from pipeline import otherwise\n"
        "def run():\n    from pipeline import inner\n"
    )
    assert {path.stem for path in closure._imports(file)} == {"used", "otherwise", "inner"}


def test_a_strategy_that_runs_others_has_them_in_its_key():
    """With `auto` chosen, editing any strategy makes train stale; so does editing the teacher that `distill` runs."""
    train = BY_NAME["train"]
    files = {path.name for path in closure.chosen_plugins(train, {"train.strategy.name": "auto"})}
    assert {"auto.py", "mcc.py", "probe.py", "distill.py"} <= files
    names = {"train.strategy.name": "distill", "train.strategy.teacher.name": "full"}
    assert {path.name for path in closure.chosen_plugins(train, names)} == {"distill.py", "full.py"}


def test_the_digest_of_a_plugin_that_runs_others_is_that_of_its_family(monkeypatch):
    """In a workspace elsewhere, editing any strategy changes what `auto` depends on, and of the rest only its own."""
    package = "pipeline.training.strategies"
    before = closure.plugin_digests(package)
    whole = closure.digests.of_file
    monkeypatch.setattr(closure.digests, "of_file", lambda file: whole(file) + "x" * (file.name == "mcc.py"))
    after = closure.plugin_digests(package)
    assert {name for name in before if before[name] != after[name]} == {"auto", "mcc"}


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.name)
def test_closure_holds_every_module_the_stage_loads(stage, tmp_path):
    """The static closure has every module of ours that importing the stage really loads."""
    import subprocess

    code = (
        f"import pipeline.stages.{stage.name}, sys;"
        "print([m.__file__ for n, m in sys.modules.items() if n.split('.')[0] == 'pipeline' and m.__file__])"
    )
    loaded = eval(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
    relative = {Path(file).relative_to(closure.CODE_ROOT).as_posix() for file in loaded}
    assert {name for name in relative if not name.endswith("__init__.py")} <= names_of(stage.name)


def test_stage_modules_load_nothing_heavy():
    """Reading params.yaml imports no torch, no MLflow, no Prefect, no Great Expectations."""
    import subprocess

    code = "import pipeline.params, sys; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    heavy = {"torch", "torchvision", "mlflow", "prefect", "dvc", "great_expectations", "onnx", "onnxruntime", "sklearn"}
    assert heavy & set(loaded) == set()

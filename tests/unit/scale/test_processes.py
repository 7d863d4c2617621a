"""Training shared by processes: rows, and that two of them end where one does."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scale_tasks import RefusingLoss, lost_peer, toy_work, train_each

from pipeline.core.errors import DataError
from pipeline.scale import together
from pipeline.scale.options import Scale
from pipeline.scale.processes import Processes, Rows
from pipeline.training import engine, sharing
from pipeline.training.engine import fit
from pipeline.training.objectives import CrossEntropy
from pipeline.training.sharing import why_alone

CPU = torch.device("cpu")


@given(images=st.integers(1, 300), size=st.integers(1, 20))
def test_each_row_belongs_to_one_process(images: int, size: int) -> None:
    """In order, none left out, and no process has more than one image more than another."""
    parts = [Processes(rank, size).rows(images) for rank in range(size)]
    values = torch.arange(images)
    assert values.tolist() == torch.cat([part.of(values) for part in parts]).tolist()
    assert pytest.approx(1) == sum(part.share for part in parts)
    assert max(part.stop - part.start for part in parts) - min(part.stop - part.start for part in parts) <= 1


def test_alone_nothing_is_shared() -> None:
    """One process has all rows, its own seed, and its values as they are."""
    alone = Processes.current()
    network = torch.nn.Linear(1, 1)
    assert (Rows.all(7), 5, "kept") == (alone.rows(7), alone.seed(5), alone.of_first("kept"))
    assert network is alone.joined(network)
    assert Processes(1, 2).seed(5) != Processes(2, 3).seed(5) != 5


class Trained(NamedTuple):
    """What one process, and each of two, made of the same work."""

    one: dict[str, Any]
    first: dict[str, Any]
    second: dict[str, Any]


@pytest.fixture(scope="module")
def trained(lasting_domains: Any, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Batch statistics as pretrained and as they come, with L²-SP and clipping, 15 images a step as 7 and 8."""
    folder = tmp_path_factory.mktemp("shared")

    def works() -> dict[str, Any]:
        context = lasting_domains.context()
        return {
            "eval": toy_work(lasting_domains, context, l2_sp=0.1, label_smoothing=0.1),
            "train": toy_work(lasting_domains, context, batch_norm="train"),
        }

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        train_each(works(), folder)
        (folder / "0.pt").rename(folder / "one.pt")
        together.run(partial(train_each, works(), folder), Scale(workers=2), folder, CPU)
    finally:
        torch.set_num_threads(before)
    return Trained(*(torch.load(folder / f"{name}.pt") for name in ("one", "0", "1")))


@pytest.mark.parametrize("batch_norm", ["eval", "train"])
def test_two_processes_end_where_one_does(trained: Trained, batch_norm: str) -> None:
    """Weights, BatchNorm statistics and losses within 1e-5, from the same images in the same order, augmented alike."""
    one, two = trained.one[batch_norm], trained.first[batch_norm]
    assert (1, 2) == (one["processes"], two["processes"])
    assert two["losses"] == pytest.approx(one["losses"], abs=1e-5)
    for name, value in one["network"].items():
        assert torch.allclose(value, two["network"][name], rtol=1e-5, atol=1e-5), name


@pytest.mark.parametrize("batch_norm", ["eval", "train"])
def test_processes_agree_to_the_last_bit(trained: Trained, batch_norm: str) -> None:
    """Else they would decide differently one day, and wait for each other without end."""
    first, second = trained.first[batch_norm], trained.second[batch_norm]
    assert first["losses"] == second["losses"]
    assert all(torch.equal(value, second["network"][name]) for name, value in first["network"].items())


def test_an_objective_that_sees_whole_batches_is_left_to_one_process(
    toy_domains: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is trained all the same, and the line says why."""

    class Pairs(CrossEntropy):
        is_mean_over_rows = False

    context = replace(toy_domains.context(), scale=Scale(workers=2))
    outcome = fit(*toy_work(toy_domains, context)[:6], objective=Pairs())
    assert 1 == outcome.processes
    assert "trained by one process, not 2: Pairs looks at more than one image at a time" in capsys.readouterr().out


def test_a_step_needs_an_image_for_each_process(toy_domains: Any) -> None:
    """16 processes cannot share 15 images; nor does torch join processes on every device."""
    work = toy_work(toy_domains, toy_domains.context())
    assert "a step has 15 images" == why_alone(work, 16, CPU)
    assert "torch does not join processes on mps" == why_alone(work, 2, torch.device("mps"))
    assert why_alone(work, 15, CPU) is None
    assert "runtime.device names one GPU, cuda:1" in str(why_alone(work, 2, torch.device("cuda:1")))
    assert why_alone(work, 2, torch.device("cuda")) is None


def test_each_process_is_seeded_and_takes_its_part_of_the_memory(
    toy_domains: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Torch's state is not inherited: each process asks for it anew, before it makes its first draw."""

    class Looking(CrossEntropy):
        seeds: ClassVar[list[int]] = []

        def to(self, *arguments: Any, **named: Any) -> Any:
            self.seeds.append(torch.initial_seed())
            return super().to(*arguments, **named)

    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    monkeypatch.setattr(Processes, "current", lambda: Processes(1, 2))
    monkeypatch.setattr(engine, "run", lambda work, _: work.objective.to(CPU))
    context = toy_domains.context()
    work = toy_work(toy_domains, context, objective=Looking())
    before = work.train.bank.budget_mb
    sharing._part(work, [], tmp_path / "finished.pt")
    assert [Processes(1, 2).seed(context.seed)] == Looking.seeds
    assert [before / 2, before / 2] == [images.bank.budget_mb for images in (work.train, work.val) if images]


def test_a_lost_sum_of_gradients_is_an_error(tmp_path: Path) -> None:
    """The process that is left alone may not go on with its own gradient as if it were everybody's."""
    together.run(partial(lost_peer, tmp_path / "said"), Scale(workers=2), tmp_path, CPU)
    assert "RuntimeError" in (tmp_path / "said").read_text()


@pytest.mark.faults
def test_an_error_in_one_process_is_told_in_its_own_words(toy_domains: Any, tmp_path: Path) -> None:
    """The other waits for gradients that never come; what reaches the user is what the first one found."""
    context = replace(toy_domains.context(scratch=tmp_path), scale=Scale(workers=2))
    with pytest.raises(DataError) as error:
        fit(*toy_work(toy_domains, context)[:6], objective=RefusingLoss())
    assert "Expected a picture; found none." in str(error.value)

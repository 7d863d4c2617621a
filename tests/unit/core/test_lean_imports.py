"""torchvision without torch's compiler; each test in a process that has imported nothing yet."""

from __future__ import annotations

import subprocess
import sys

import pytest

BLOCK = "import sys; from pipeline.core.lean_imports import without_compiler\nwith without_compiler(): "
LOADED = "print(*sorted({'sympy', 'torch._dynamo', 'torch._dynamo.utils'} & set(sys.modules)))"


def told(program: str) -> str:
    return subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout.strip()


@pytest.mark.parametrize(
    "use",
    [
        "from torchvision import models; models.get_model('resnet18')",
        "from torchvision import datasets; datasets.CIFAR10",
        "from pipeline.models.network import build_backbone; build_backbone('mobilenet_v2')",
    ],
)
def test_the_compiler_is_not_loaded(use):
    """Nor what it would have brought along, nor the stand-in that kept it out."""
    assert told(f"{BLOCK}{use}\n{LOADED}") == ""


def test_torchvision_alone_loads_it():
    """Once this fails the stand-in has had its day, and pipeline.core.lean_imports can go."""
    assert "torch._dynamo" in told(f"import sys, torchvision; {LOADED}")


def test_what_asks_the_compiler_gets_its_answer():
    """The one function of torchvision's that asks it, as if nothing had been left out."""
    ask = (
        "import torch; from torchvision.ops import roi_align; torch.use_deterministic_algorithms(True)\n"
        "torch.compile = lambda function, **_: function\n"  # no C compiler need be there
        "picture, box = torch.arange(16.).reshape(1, 1, 4, 4), torch.tensor([[0, 0, 0, 4, 4.]])\n"
        "from torchvision.ops.roi_align import is_compile_supported\n"
        "print(is_compile_supported('cpu'), is_compile_supported('meta'), roi_align(picture, box, 1).item())"
    )
    assert told(BLOCK + "import torchvision\n" + ask) == told(ask)


@pytest.mark.parametrize("first", ["import torch._dynamo", "from torch._dynamo.utils import counters"])
def test_who_asks_for_more_meanwhile_gets_the_compiler(first):
    """Another thread, or a newer torchvision, may want all of it while torchvision is imported."""
    ask = "import torch._dynamo.utils as it; print(it.counters is not None, type(it))"
    assert told(f"{BLOCK}{first}; import torchvision\n{ask}") == "True <class 'module'>"


def test_what_is_loaded_already_stays():
    """torch's compiler is not taken from whoever uses it."""
    ask = "print(sys.modules[before.__name__] is before)"
    assert told(f"import torch._dynamo.utils as before\n{BLOCK}import torchvision\n{ask}") == "True"

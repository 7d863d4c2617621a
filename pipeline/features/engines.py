"""What runs the frozen backbone: torch, or on a CPU ONNX Runtime where that is measurably faster.

ONNX Runtime fuses a block's layers into few passes over memory, and is fastest on few images at a time, whose layers
stay in the processor's cache; how much that is worth depends on the backbone and the machine
(``benchmarks/bench_features.py``). Both give the same features to about 1e-6; they are not the same bits, so an engine
is chosen once per backbone and machine, and the choice is kept beside the features. It and the graph are kept under
their digests: damaged, they are measured and exported anew.
"""

from __future__ import annotations

import importlib.metadata
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.core import checked, digests
from pipeline.core.device import SMALL_IMAGE_PX, memory_format, one_thread
from pipeline.core.files import Document
from pipeline.core.onnx_session import session_options
from pipeline.data import recipes
from pipeline.data.transforms import normalise
from pipeline.models.checkpoints import BackboneWeights
from pipeline.models.onnx_graph import onnx_graph

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

Name = Literal["torch", "onnxruntime"]

WORTH_IMAGES = 3000
"""New images from which on it is measured: exporting the backbone and trying it take five to ten seconds, and ONNX
Runtime saves two to four milliseconds an image where it is taken."""

WORTH_RATIO = 1.2
"""How much faster ONNX Runtime must be; less is within what a busy machine makes of two equal ones."""

TOLERANCE = 1e-3
"""Largest relative error against torch's features; a faster engine that errs more is not taken."""

TRIAL_IMAGES, TRIALS = 16, 3

ONNX_IMAGES = 4
"""ONNX Runtime gets so many images of a batch at a time. On two cores, one thread each, it did 530 images/s of
mobilenet_v2 so, 402 by 32 and 560 by one; of resnet18 136, 140 and 130."""


class Engine(Protocol):
    """Features of a batch."""

    def __call__(self, images: Tensor) -> np.ndarray:
        """Normalised images, float32 [B, 3, S, S] → features, float32 [B, feature_dim]."""


class TorchEngine:
    """The module itself, on its device."""

    def __init__(self, network: nn.Module, device: torch.device) -> None:
        self._format = memory_format(device)
        self._network, self._device = network.to(device).to(memory_format=self._format), device

    @classmethod
    def of(cls, weights: BackboneWeights, device: torch.device) -> TorchEngine:
        return cls(weights.build(), device)

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> np.ndarray:
        """On the device; the features come back to the CPU."""
        return self._network(images.to(self._device, memory_format=self._format)).float().cpu().numpy()


class OnnxEngine:
    """The backbone as an ONNX graph."""

    INPUT, OUTPUT = "pixels", "features"

    def __init__(self, session: InferenceSession) -> None:
        self._session = session

    @classmethod
    def of(cls, weights: BackboneWeights, folder: Path | None, *, threads: int = 1) -> OnnxEngine:
        """From the graph kept in ``folder``, or exported now and kept there; on the thread that asks, or several."""
        made_of = digests.of_json([weights.digest, weights.preprocessing.size_px, recipe("onnxruntime", "cpu")])
        name = f"{made_of[:32]}.onnx.checked"
        kept = folder / name if folder is not None else None
        if kept is not None and (whole := checked.read(kept)) is not None:
            return cls(_session(whole, threads))
        graph = onnx_graph(weights.build(), weights.preprocessing.size_px, takes=cls.INPUT, gives=cls.OUTPUT)
        content = graph.SerializeToString(deterministic=True)
        if kept is not None:
            checked.write(kept, content)
        return cls(_session(content, threads))

    def __call__(self, images: Tensor) -> np.ndarray:
        """A few images at a time: equal batches are parted equally, and so give equal bits."""
        parts = images.contiguous().split(ONNX_IMAGES)
        return np.concatenate([self._session.run([self.OUTPUT], {self.INPUT: part.numpy()})[0] for part in parts])


def rounding(engine: Name) -> list[str | int]:
    """What decides the last bits of a feature beside weights, images, batch size and kind of device."""
    images = [ONNX_IMAGES] if engine == "onnxruntime" else []
    return [engine, importlib.metadata.version(engine), *images]


CODE = ("pipeline.data.images", "pipeline.data.transforms", "pipeline.models.network", "pipeline.models.small_cnn")
"""What decides which pixels a backbone sees and what it makes of them. Kept short: a change costs every feature."""


def recipe(engine: Name, device_type: str) -> str:
    """Digest of what decides an image's features beside its bytes, the weights, their preprocessing and batch size."""
    on = device_type if engine == "torch" else "cpu"
    return recipes.recipe(CODE, ("torch", "torchvision"), rounding(engine), on)


def _session(content: bytes, threads: int) -> InferenceSession:
    import onnxruntime

    return onnxruntime.InferenceSession(content, session_options(threads), providers=["CPUExecutionProvider"])


class Measured(Document):
    """Both engines on this machine, images per second, and how far their features are apart; None where ONNX Runtime
    could not be tried."""

    engine: Name
    torch: float | None = None
    onnxruntime: float | None = None
    relative_error: float | None = None
    """‖difference‖ / ‖torch's features‖."""
    failure: str = ""

    @property
    def sentence(self) -> str:
        """The choice, for people."""
        if self.failure:
            return f"by torch; ONNX Runtime cannot be used here ({self.failure})"
        if self.engine == "onnxruntime" and self.onnxruntime and self.torch:
            return f"by ONNX Runtime, {self.onnxruntime / self.torch:.1f} times as fast as torch here"
        return "by torch, which ONNX Runtime does not surely beat here"


class Chosen(NamedTuple):
    """An engine's name, what makes one (in another process too), and why it; the sentence is empty where nothing was
    measured."""

    name: Name
    make: Callable[[], Engine]
    sentence: str = ""


def choose(
    wanted: Literal["auto", "torch", "onnxruntime"],
    weights: BackboneWeights,
    device: torch.device,
    folder: Path | None,
    missing: Callable[[Name], int],
    *,
    images: int,
) -> Chosen:
    """The engine for ``weights`` on this machine.

    ``missing`` tells how many of ``images`` an engine would have to compute. ``auto`` is torch until enough of them are
    missing, and more than are there; what was measured once, in ``folder``, holds from then on.
    """
    makes: dict[Name, Callable[[], Engine]] = {
        "torch": partial(TorchEngine.of, weights, device),
        "onnxruntime": partial(OnnxEngine.of, weights, folder),
    }
    if wanted != "auto":
        return Chosen(wanted, makes[wanted])
    if folder is None or device.type != "cpu" or weights.preprocessing.size_px <= SMALL_IMAGE_PX:
        return Chosen("torch", makes["torch"])
    record = folder / f"{_identity(weights)}.json.checked"
    measured = _measured_before(record)
    if measured is None:
        lacking = missing("torch")
        if missing("onnxruntime") < lacking:  # chosen before, and the record of it is lost
            return Chosen("onnxruntime", makes["onnxruntime"])
        if lacking < max(WORTH_IMAGES, images / 2):
            return Chosen("torch", makes["torch"])
        try:
            measured = _tried(weights, makes)
        except (OSError, MemoryError) as error:  # of this moment, and not to be remembered
            return Chosen("torch", makes["torch"], f"by torch; ONNX Runtime could not be tried now ({error})")
        checked.write(record, measured.model_dump_json(indent=2).encode())
    return Chosen(measured.engine, makes[measured.engine], measured.sentence)


def _measured_before(record: Path) -> Measured | None:
    """None where nothing was, or what is kept is damaged or from a version that says other things."""
    kept = checked.read(record)
    try:
        return None if kept is None else Measured.model_validate_json(kept)
    except ValueError:
        return None


def _tried(weights: BackboneWeights, makes: dict[Name, Callable[[], Engine]]) -> Measured:
    """Measured, or why it could not be: torch can do the work in any case.

    Raises:
        OSError, MemoryError: there was no room, which says nothing of ONNX Runtime.
    """
    try:
        with one_thread():
            return measure(weights, makes["torch"](), makes["onnxruntime"]())
    except (OSError, MemoryError):
        raise
    except Exception as error:  # noqa: BLE001  # torch's exporter and ONNX Runtime share no class of errors
        said = (str(error).splitlines() or [""])[0][:120]
        return Measured(engine="torch", failure=f"{type(error).__name__}: {said}")


def _identity(weights: BackboneWeights) -> str:
    engines = [*rounding("torch"), *rounding("onnxruntime")]
    return digests.of_json([weights.digest, weights.preprocessing.digest, engines])[:32]


def measure(weights: BackboneWeights, plain: Engine, other: Engine) -> Measured:
    """Time both in turn on the same images and keep the best of each: what disturbs only ever slows down."""
    side = weights.preprocessing.size_px
    noise = torch.rand(TRIAL_IMAGES, 3, side, side, generator=torch.Generator().manual_seed(0))
    images = normalise(noise, weights.preprocessing)
    expected, found = plain(images), other(images)
    error = float(np.linalg.norm(found - expected) / np.linalg.norm(expected))
    seconds: dict[Engine, float] = {plain: np.inf, other: np.inf}
    for _ in range(TRIALS):
        for engine in (plain, other):
            started = time.perf_counter()
            engine(images)
            seconds[engine] = min(seconds[engine], time.perf_counter() - started)
    is_better = error <= TOLERANCE and seconds[plain] >= WORTH_RATIO * seconds[other]
    return Measured(
        engine="onnxruntime" if is_better else "torch",
        torch=round(TRIAL_IMAGES / seconds[plain], 1),
        onnxruntime=round(TRIAL_IMAGES / seconds[other], 1),
        relative_error=error,
    )

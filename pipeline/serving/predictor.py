"""Predictions with ONNX Runtime: what deployment does, and what every gate judges. Never imports torch."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from PIL import Image

from pipeline.core import memory
from pipeline.core.ahead import mapped_ahead
from pipeline.core.batches import batched
from pipeline.core.errors import BundleError
from pipeline.core.files import reading
from pipeline.core.onnx_session import saturates, session_options
from pipeline.data import unreadable
from pipeline.data.images import MAX_PIXELS, decode
from pipeline.serving import admission
from pipeline.serving.onnx_file import OnnxFile, decode_property

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

HELD_IMAGES = 256
"""At most this many images wait for others of their size."""


MEMORY_SHARE = 0.7
"""Of the free memory, for models from outside."""

LEAST_MEMORY = 512 * 10**6
"""Bytes that one gets in any case: a container that has filled its memory with files can still give some back."""

LONGEST_CALL_S = 600.0
"""For one batch of a model from outside."""

FOLDED_BYTES = 2**18
"""Largest constant that a model from outside may compute while it is loaded."""

UNREADABLE = (OSError, ValueError, SyntaxError, Image.DecompressionBombError)
"""What Pillow raises for files that are not, or not quite, images."""


class Outputs(NamedTuple):
    """Answers in the order of the images."""

    logits: np.ndarray
    """float32 [images, classes]"""
    probabilities: np.ndarray
    """float32 [images, classes]; rows sum to 1"""


class Predictor:
    """A model ready to answer.

    >>> predictor = Predictor(Path("handoff/current"))        # doctest: +SKIP
    >>> predictor.probabilities([image, another_image]).argmax(1)    # doctest: +SKIP
    array([3, 7])

    Args:
        model: a bundle, an ``.onnx`` file, or an :class:`OnnxFile`.
        batch_size: images per call; images of different sizes never share a batch. A few are fastest on a CPU, whose
            cache then holds their layers.
        threads: of ONNX Runtime; 0 means one per physical core.

    A model from a path may be anybody's: it gets a share of the memory and of time, and no more.

    Raises:
        BundleError: there is no model there, or not one that Graftline exported.
    """

    def __init__(self, model: Path | str | OnnxFile, *, batch_size: int = 8, threads: int = 0) -> None:
        content, self.origin = _open(model)
        admission.check(content, self.origin)
        self._is_ours = isinstance(model, OnnxFile)
        self.session = session(content, threads=threads, origin=self.origin, limited=not self._is_ours)
        properties = self.session.get_modelmeta().custom_metadata_map
        self.metadata: dict[str, Any] = _decoded_properties(properties, self.origin)
        self.classes: list[str] = _classes(self.metadata, self.origin)
        self._batch_size = batch_size

    def run(self, batch: np.ndarray) -> Outputs:
        """Answers for one uint8 batch [batch, height, width, 3].

        Raises:
            BundleError: a model from a path that needs more memory or time than it is given, or fails.
        """
        if self._is_ours:
            return Outputs(*self.session.run(["logits", "probabilities"], {"images": batch}))
        return Outputs(*_run_limited(self.session, batch, self.origin))

    def alone(self, image: np.ndarray) -> np.ndarray:
        """Probabilities of one uint8 image [height, width, 3], float32 [classes]."""
        probabilities: np.ndarray = self.run(image[None]).probabilities[0]
        return probabilities

    def outputs(self, images: Iterable[np.ndarray]) -> Outputs:
        """Answers for uint8 images [height, width, 3] of any sizes, in their order."""
        positions, logits, probabilities = [], [], []
        for where, batch in batches_by_size(images, self._batch_size):
            answer = self.run(batch)
            positions.extend(where)
            logits.append(answer.logits)
            probabilities.append(answer.probabilities)
        if not positions:
            return Outputs(self._none, self._none)
        order = np.argsort(positions)
        return Outputs(np.concatenate(logits)[order], np.concatenate(probabilities)[order])

    def probabilities(self, images: Iterable[np.ndarray]) -> np.ndarray:
        """float32 [images, classes], in the order of ``images``; rows sum to 1."""
        return self.outputs(images).probabilities

    def stream(
        self, files: Iterable[Path], leave_out: Callable[[str, str], object]
    ) -> Iterator[tuple[Path, np.ndarray]]:
        """Each image file with its probabilities, float32 [classes], in order and as the work goes on.

        Files that cannot be decoded are left out, and so are images so long that scaling them would fill the memory;
        ``leave_out`` is called with the name of each and a clause that says why.
        """
        for part in batched(mapped_ahead(_decoded, files), HELD_IMAGES):
            good = []
            for file, image in part:
                if isinstance(image, str):
                    leave_out(str(file), image)
                elif self._is_too_long(image):
                    leave_out(str(file), "is too long to be scaled")
                else:
                    good.append((file, image))
            rows = self.probabilities(image for _, image in good)
            yield from zip([file for file, _ in good], rows, strict=True)

    def _is_too_long(self, image: np.ndarray) -> bool:
        """Where the shorter side is scaled to a fixed length, the longer one grows with it."""
        chosen = self.metadata.get("preprocessing")
        resize_px = chosen.get("resize_px") if isinstance(chosen, dict) and chosen.get("fit") == "crop" else None
        height, width = image.shape[:2]
        return isinstance(resize_px, int) and resize_px**2 * max(height, width) > MAX_PIXELS * min(height, width)

    @property
    def _none(self) -> np.ndarray:
        return np.zeros((0, len(self.classes)), dtype=np.float32)


def batches_by_size(images: Iterable[np.ndarray], batch_size: int) -> Iterator[tuple[list[int], np.ndarray]]:
    """Group images of one size into batches; yields their positions and the uint8 batch.

    Streams: no more than ``HELD_IMAGES`` (or one batch) are in memory. Which images share a batch depends on nothing
    but their order and sizes.
    """
    waiting: dict[tuple[int, ...], list[tuple[int, np.ndarray]]] = {}
    held = 0
    for position, image in enumerate(images):
        group = waiting.setdefault(image.shape, [])
        group.append((position, image))
        held += 1
        if len(group) == batch_size or held >= max(HELD_IMAGES, batch_size):
            fullest = max(waiting, key=lambda shape: len(waiting[shape]))
            held -= len(waiting[fullest])
            yield _stacked(waiting.pop(fullest))
    for group in waiting.values():
        yield _stacked(group)


def _decoded(file: Path) -> tuple[Path, np.ndarray | str]:
    """Its pixels; of a file that is not, or not quite, an image, why."""
    try:
        with reading(file) as opened:
            encoded = opened.read()
    except OSError as error:
        return file, unreadable.of_file(error)
    try:
        return file, decode(encoded)
    except UNREADABLE as error:
        return file, unreadable.of_content(error, encoded)


def _stacked(group: list[tuple[int, np.ndarray]]) -> tuple[list[int], np.ndarray]:
    return [position for position, _ in group], np.stack([image for _, image in group])


def _decoded_properties(properties: dict[str, str], origin: str) -> dict[str, Any]:
    try:
        return {key: decode_property(text) for key, text in properties.items()}
    except ValueError:
        raise _not_ours(origin, "an ONNX file whose metadata cannot be read") from None


def _classes(metadata: dict[str, Any], origin: str) -> list[str]:
    if "classes" not in metadata:
        raise _not_ours(origin, "an ONNX file without class names in its metadata")
    names = metadata["classes"]
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise _not_ours(origin, "an ONNX file whose metadata have no list of class names")
    return names


def _run_limited(session: InferenceSession, batch: np.ndarray, origin: str) -> list[np.ndarray]:
    """One call that ends: on the first operator after :data:`LONGEST_CALL_S`, or where the memory is used up."""
    import onnxruntime

    run = onnxruntime.RunOptions()
    run.log_severity_level = 4  # what goes wrong is told below
    timer = threading.Timer(LONGEST_CALL_S, lambda: setattr(run, "terminate", True))
    timer.daemon = True
    timer.start()
    try:
        return session.run(["logits", "probabilities"], {"images": batch}, run)
    except Exception as problem:  # ONNX Runtime's errors share no public base class
        raise _failed(problem, run.terminate, origin) from problem
    finally:
        timer.cancel()


def _failed(problem: Exception, is_late: bool, origin: str) -> BundleError:
    found = f"one that fails on an image ({_first_line(problem)})"
    if is_late:
        found = f"one that took longer than {LONGEST_CALL_S:.0f} s for one batch"
    elif isinstance(problem, MemoryError) or "memory" in str(problem) or "bad_alloc" in str(problem):
        found = f"one that needs more memory for one batch than the {_memory_share() / 1e9:.1f} GB it is given"
    return BundleError(
        expected="a model that answers within the memory and the time there is",
        found=found,
        where=origin,
        remedy="Give a file that 'graftline run' made; for large images, give smaller ones.",
    )


def _first_line(problem: Exception) -> str:
    """What it says, or its name where it says nothing, as a bare MemoryError."""
    return (str(problem).splitlines() or [type(problem).__name__])[0][-160:]


@cache
def _memory_share() -> int:
    """Bytes that models from outside may use in this process: a share of what is free when the first is loaded."""
    return max(LEAST_MEMORY, int(MEMORY_SHARE * memory.available_bytes()))


@cache
def _limit_arena() -> None:
    """One arena for all sessions that ask for it; ONNX Runtime takes its size once per process."""
    import onnxruntime

    place = onnxruntime.OrtMemoryInfo(
        "Cpu", onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, onnxruntime.OrtMemType.DEFAULT
    )
    onnxruntime.create_and_register_allocator(place, onnxruntime.OrtArenaCfg({"max_mem": _memory_share()}))


def session(content: bytes, *, threads: int = 0, origin: str = "the model", limited: bool = False) -> InferenceSession:
    """An ONNX Runtime session on the CPU whose results do not depend on timing.

    ``limited`` gives it a share of the memory, and lets it compute next to nothing while it is loaded.

    Raises:
        BundleError: ``content`` is not a model that ONNX Runtime can load.
    """
    import onnxruntime

    options = session_options(threads)
    # Widens the 8-bit weights, also where nothing saturates; there int8 would only lose half its speed by it.
    options.add_session_config_entry("session.x64quantprecision", str(int(saturates())))
    options.add_session_config_entry("session.load_model_format", "ONNX")  # never what the first bytes may claim
    if limited:
        options.add_session_config_entry("session.use_env_allocators", "1")
        # Constants are computed outside the arena: larger ones when they are asked for, within it.
        options.add_session_config_entry("optimization.constant_folding_max_output_size_in_bytes", str(FOLDED_BYTES))
    try:
        if limited:
            _limit_arena()
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as problem:  # ONNX Runtime's errors share no public base class
        raise _not_ours(origin, f"a file that ONNX Runtime refuses ({_first_line(problem)})") from problem


def _open(model: Path | str | OnnxFile) -> tuple[bytes, str]:
    """The model's bytes and what to call it in a message."""
    if isinstance(model, OnnxFile):
        return model.content, "the exported model"
    path = Path(model)
    file = path / "model.onnx" if path.is_dir() else path
    if not file.is_file():
        found = "a folder without model.onnx" if path.is_dir() else "nothing there"
        raise _not_ours(str(path), found)
    if file.suffix.lower() != ".onnx":
        raise _not_ours(str(path), f"a {file.suffix or 'nameless'} file")
    return file.read_bytes(), str(path)


def _not_ours(where: str, found: str) -> BundleError:
    return BundleError(
        expected="a hand-off bundle (a folder with model.onnx) or an .onnx file exported by Graftline",
        found=found,
        where=where,
        remedy="Give the folder that 'graftline run' printed last, such as handoff/current.",
    )

"""What frozen blocks make of the images, computed once and kept for a phase: its steps begin behind them.

That is the same training only where an image looks the same each time. Validation images always do; training images do
without augmentation.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from itertools import takewhile
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.core.device import memory_format
from pipeline.core.progress import Meter
from pipeline.data.loading import ImageBank, placement
from pipeline.models.network import HEAD, Network
from pipeline.training.objectives import Images
from pipeline.training.phases import Phase

DROPOUT = nn.modules.dropout._DropoutNd


class FrozenPrefix:
    """The blocks that a phase leaves still, from the input on."""

    def __init__(self, network: Network, end: nn.Module, size_px: int) -> None:
        self._network, self.end = network, end
        self.suffix = Suffix(network, end, min(size_px, network.row.least_px))
        """The network without them."""

    @classmethod
    def of(cls, network: Network, phase: Phase, size_px: int) -> FrozenPrefix | None:
        """For images of this side; None where the phase trains from the input on, or no module gives the output of the
        frozen blocks.
        """
        end = None
        for group in network.groups:
            if group == HEAD or phase.learning_rates[group] is not None or _draws_before_end_of(group, network):
                break
            end = network.end_of(group)
        return None if end is None else cls(network, end, size_px)

    @torch.no_grad()
    def kept(self, images: Images, device: torch.device, *, batch_size: int, budget_mb: float) -> KeptOutputs | None:
        """Outputs for all ``images``, unaugmented; None, after the first batch, where they would exceed the budget.

        Ends in eval mode.
        """
        steps = images.in_order(batch_size)
        outputs: KeptOutputs | None = None
        with closing(Meter(what="frozen blocks", unit="images", total=len(images))) as meter:
            for step, views in zip(steps, images.bank.plain_views(steps, device), strict=True):
                found = self.outputs(views.contiguous(memory_format=memory_format(device)))
                if outputs is None:
                    size = found[0].numel() * found.element_size() * len(images)
                    if size > budget_mb * 1e6:
                        return None
                    outputs = KeptOutputs(len(images), found, placement(size, device))
                outputs.fill(step, found)
                meter.advance(len(step))
        return outputs

    def outputs(self, views: Tensor) -> Tensor:
        """[B, 3, S, S] → what the last frozen module gives, [B, ...]; nothing behind it is computed. Ends in eval mode.

        Raises:
            RuntimeError: no image passes that module.
        """
        self._network.eval()
        found: list[Tensor] = []

        def leave(module: nn.Module, given: object, output: Tensor) -> None:
            found.append(output)
            raise _Left

        with self.end.register_forward_hook(leave):
            try:
                self._network(views)
            except _Left:
                return found[0]
        raise RuntimeError(f"the network did not call {type(self.end).__name__}, where its frozen blocks end")


def _draws_before_end_of(group: str, network: Network) -> bool:
    """Is there dropout before the end of a block but in none, as between vgg16's linear layers? Freezing leaves it on,
    and then the output is another each time.
    """
    grouped = {module for name in network.groups for module in network.modules_of(name)}
    before = takewhile(lambda module: module is not network.end_of(group), network.modules())
    return any(isinstance(module, DROPOUT) and module.p > 0 and module not in grouped for module in before)


class _Left(Exception):
    """The frozen blocks are behind us."""


class KeptOutputs:
    """Takes the place of an :class:`~pipeline.data.loading.ImageBank`: outputs by row, where that has images."""

    def __init__(self, rows: int, like: Tensor, device: torch.device) -> None:
        """Room for ``rows`` outputs ``like`` those of a batch, [B, ...]."""
        # Rows are copied as they lie in memory: torch forgets channels last where it gathers them otherwise.
        self._channels_last = like.ndim == 4 and like.is_contiguous(memory_format=torch.channels_last)
        shape = like.movedim(1, -1).shape[1:] if self._channels_last else like.shape[1:]
        self._kept = torch.empty((rows, *shape), dtype=like.dtype, device=device)

    @property
    def megabytes(self) -> float:
        return self._kept.numel() * self._kept.element_size() / 1e6

    def fill(self, rows: np.ndarray, outputs: Tensor) -> None:
        """Keep ``outputs``, [len(rows), ...]."""
        self._kept[self._on_device(rows)] = (outputs.movedim(1, -1) if self._channels_last else outputs).to(self._kept)

    def in_place_of(self, images: Images) -> Images:
        """``images`` are those that they were computed of."""
        bank = cast(ImageBank, self)  # which has more to offer than training asks for
        return Images(bank, images.labels, images.classes)

    def batches(self, steps: Sequence[np.ndarray], device: torch.device) -> Iterator[Tensor]:
        """Copies, as layers that follow may work in place."""
        for rows in steps:
            outputs = self._kept.index_select(0, self._on_device(rows)).to(device)
            yield outputs.movedim(-1, 1) if self._channels_last else outputs

    plain_views = batches

    def _on_device(self, rows: np.ndarray) -> Tensor:
        return torch.from_numpy(np.asarray(rows, dtype=np.int64)).to(self._kept.device)


class Suffix(nn.Module):
    """Outputs of the frozen blocks, [B, ...] → logits [B, classes].

    The network is run on one small blank image, whose output the kept ones take the place of: what lies between blocks
    is then computed as it is written in the architecture, whatever that is.
    """

    def __init__(self, network: Network, end: nn.Module, blank_px: int) -> None:
        super().__init__()
        self.network = network
        self._end = (end,)  # in a tuple, as torch would make it a part of this module too
        self._blank_px = blank_px

    def forward(self, outputs: Tensor) -> Tensor:
        blank = torch.zeros((1, 3, self._blank_px, self._blank_px), device=outputs.device)
        with self._end[0].register_forward_hook(lambda module, given, output: outputs):
            return cast(Tensor, self.network(blank))

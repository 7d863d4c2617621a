"""What strategies that fine-tune from the probe's head share: their parameters, and the phase these describe."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from pipeline.core.params import PluginParams
from pipeline.training.phases import Phase, discriminative


class FineTuneParams(PluginParams):
    """How long, at what rates, and what holds the weights back. Defaults are meant for AdamW."""

    epochs: int = Field(8, gt=0)
    """A small set is passed over several times per epoch."""
    learning_rate: float = Field(3e-4, gt=0)
    """Of the head and the last block."""
    block_decay: float = Field(0.7, gt=0, le=1)
    """Each block's rate is this times its successor's."""
    weight_decay: float = Field(1e-4, ge=0)
    l2_sp: float = Field(0.0, ge=0)
    """α of L²-SP (Li et al., 2018): pulls the backbone's weights back to those a phase begins with; 0 lets them go."""
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    batch_norm: Literal["eval", "train"] = "eval"
    patience: int | None = Field(4, gt=0)

    def phase(
        self, name: str, blocks: Sequence[str], *, frozen: int = 0, rate: float | None = None, epochs: int | None = None
    ) -> Phase:
        """All groups but the first ``frozen`` blocks, at rates that fall from the head towards the input; ``rate`` and
        ``epochs`` take the place of the parameters'.
        """
        peak = self.learning_rate if rate is None else rate
        return Phase(
            name=name,
            epochs=self.epochs if epochs is None else epochs,
            learning_rates=discriminative(blocks, head=peak, last=peak, decay=self.block_decay, frozen=frozen),
            weight_decay=self.weight_decay,
            label_smoothing=self.label_smoothing,
            batch_norm=self.batch_norm,
            patience=self.patience,
            l2_sp=self.l2_sp,
        )

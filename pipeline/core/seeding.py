"""One seed for everything random, and independent streams derived from it."""

from __future__ import annotations

import hashlib


def derive(seed: int, *names: object) -> int:
    """A 63-bit seed for the stream called ``names``: equal for equal arguments, independent otherwise.

    Streams by name, not by order of use: adding one draw somewhere does not change all the others.
    """
    text = "/".join(str(part) for part in (seed, *names))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) >> 1


def unit(seed: int, *names: object) -> float:
    """A number in [0, 1) that depends on nothing but the arguments."""
    return derive(seed, *names) / 2**63


def seed_torch(seed: int) -> None:
    """Seed torch (all devices), and ask for deterministic algorithms where there are others.

    Those that a CPU run uses are deterministic as they are; asking loads torch's compiler, which takes seconds.
    """
    import torch

    torch.manual_seed(seed)
    if torch.cuda.is_available():
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.backends.cudnn.benchmark = False

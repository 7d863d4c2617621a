"""What every session of ONNX Runtime is asked for."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest

from pipeline.core.onnx_session import saturates, session_options

CPU = Path("/proc/cpuinfo")


@pytest.mark.parametrize("threads", [0, 3])
def test_answers_do_not_depend_on_timing(threads: int) -> None:
    """Deterministic kernels, so many threads, none that spins while it waits, and errors alone in the log."""
    options = session_options(threads)
    assert (options.intra_op_num_threads, options.use_deterministic_compute) == (threads, True)
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"
    assert options.log_severity_level == 3


@pytest.mark.skipif(platform.machine() != "x86_64" or not CPU.is_file(), reason="asks Linux what an x86 processor has")
def test_sums_of_8_bit_products_are_cut_off_where_there_is_no_vnni() -> None:
    """What the small sum tells is what the processor says of itself."""
    has_vnni = {"avx_vnni", "avx512_vnni"} & set(CPU.read_text().split())
    assert saturates() is not bool(has_vnni)

"""What every session of ONNX Runtime is asked for."""

from __future__ import annotations

import pytest

from pipeline.core.onnx_session import session_options


@pytest.mark.parametrize("threads", [0, 3])
def test_answers_do_not_depend_on_timing(threads: int) -> None:
    """Deterministic kernels, so many threads, none that spins while it waits, and errors alone in the log."""
    options = session_options(threads)
    assert (options.intra_op_num_threads, options.use_deterministic_compute) == (threads, True)
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"
    assert options.log_severity_level == 3

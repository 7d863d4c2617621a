"""An interrupt that Prefect has raised an error of its own over.

Prefect closes every run that is interrupted; where a task's has no state yet, it fails at that. What was sent is then
beneath a ValueError, which no ``except Exception`` on the way out may take for a fault.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from prefect.exceptions import TerminationSignal

from pipeline.core.errors import beneath


@contextlib.contextmanager
def laid_bare() -> Iterator[None]:
    """Out of the block comes what was sent: a KeyboardInterrupt, or in a flow, where SIGTERM is Prefect's, its own
    TerminationSignal, of which it makes SIGTERM again at the flow's end."""
    try:
        yield
    except Exception as error:
        for one in beneath(error):
            if isinstance(one, KeyboardInterrupt | TerminationSignal):
                raise one from None
        raise

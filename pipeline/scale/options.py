"""Where work is done that one process could do, but more do sooner."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from pipeline.core import plugins
from pipeline.core.params import Params

ENGINES = "pipeline.scale.engines"


def _known(name: str) -> str:
    plugins.load(ENGINES, name)
    return name


class Scale(Params):
    """How many processes share the work, and who starts them; how to compute, never what: nothing here is in a key."""

    engine: Annotated[str, AfterValidator(_known), Field(json_schema_extra={"enum": list(plugins.names(ENGINES))})] = (
        Field("local", description="local (processes on this machine) or ray")
    )
    address: str = Field(
        "local",
        pattern=r"^(local|auto|[A-Za-z0-9_.-]+:\d+)$",
        description="of the Ray cluster: local (our own here, for each extraction or training), auto, host:port",
    )
    workers: int = Field(1, ge=1, le=10_000, description="processes that share the work")

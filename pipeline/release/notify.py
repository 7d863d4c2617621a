"""Tells people how a run ended: a line in the log, and a POST to a webhook where one is set.

The webhook's URL is a secret (its path holds the key): it is in no message, no error and no log.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator
from typing import Any

from pipeline.core.errors import ParamsError, ServiceError
from pipeline.flow_params import Notify
from pipeline.release.decide import Outcome

TIMEOUT_S = 10.0

_CHATTY = ("httpx", "httpcore")
"""Loggers that name every URL they call."""


def notice(outcome: Outcome, workspace: str) -> dict[str, Any]:
    """What is sent: ``text`` for chat services, the fields for machines."""
    return {
        "text": f"Graftline {workspace}: {outcome.model} {outcome.kind}. {outcome.line}\n{outcome.reason}",
        "workspace": workspace,
        "kind": outcome.kind,
        "model": outcome.model,
        "version": outcome.version,
        "champion": outcome.champion,
        "reason": outcome.reason,
        "failed_gates": list(outcome.failed),
        "handoff": outcome.handoff,
    }


def send(params: Notify, body: dict[str, Any]) -> bool:
    """POST ``body`` to the webhook; False where none is set. Retrying is the caller's affair.

    Raises:
        ParamsError: the environment variable it names is not set.
        ServiceError: no answer, or not a good one.
    """
    url = address(params)
    if url is None:
        return False
    import httpx

    with _silent():
        try:
            answer = httpx.post(url, json=body, timeout=TIMEOUT_S)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise ServiceError(f"The webhook (notify.webhook) did not answer: {type(error).__name__}.") from None
    if not answer.is_success:
        raise ServiceError(f"The webhook (notify.webhook) answered {answer.status_code}.")
    return True


def address(params: Notify) -> str | None:
    """The webhook's URL, which is a secret; None where none is set.

    Raises:
        ParamsError: the environment variable it names is not set, or holds no URL.
    """
    if params.webhook is None:
        return None
    value = params.webhook.get_secret_value()
    if not value.startswith("$"):
        return value
    name = value[1:].strip("{}")
    found = os.environ.get(name, "")
    if not found.startswith(("https://", "http://")):
        raise ParamsError(
            expected=f"the webhook's URL in the environment variable {name}",
            found="another value (not shown: it may hold a secret)" if found else "no such variable",
            where="notify.webhook in params.yaml",
            remedy=f"export {name}=https://…, or set notify.webhook to null.",
        )
    return found


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """httpx logs each request's URL at INFO: not this one's."""
    before = {name: logging.getLogger(name).level for name in _CHATTY}
    for name in _CHATTY:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)

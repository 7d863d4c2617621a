"""Tells people how a run ended: a line in the log, and a POST to a webhook where one is set.

The webhook's URL is a secret (its path holds the key): it is in no message, no error and no log.
"""

from __future__ import annotations

import os
import re
from typing import Any

from pipeline.core import web
from pipeline.core.errors import ParamsError, ServiceError
from pipeline.core.secrets import VARIABLE, filled
from pipeline.core.web import Remedies, Rules
from pipeline.flow_params import Notify
from pipeline.release.decide import Outcome

TIMEOUT_S = 10.0

_WHOLE = re.compile(r"\$(?:\{(\w+)\}|(\w+))")
"""A variable that holds the whole address; here small letters will do."""

_HALF = re.compile(r"\$\{(?![A-Z_][A-Z0-9_]*\})|\$\w+\}")
"""``${NAME``, ``$NAME}``, and ``${name}`` within an address."""

_REMEDIES = Remedies(
    scheme="Correct notify.webhook, or the variable it names: https://, then a host; or set it to null.",
    private="If that server is yours and meant, set notify.allow_private: true.",
)

WHOLE_S = 30.0
"""Longest time for the whole exchange."""


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
        ParamsError: an address that may not be asked, or the environment variable it names is not set.
        ServiceError: no answer, or not a good one.
    """
    url = address(params)
    if url is None:
        return False
    import httpx

    try:
        with web.answer("POST", url, _rules(params), json=body) as answer:
            status, is_success = answer.status_code, answer.is_success
    except (httpx.HTTPError, httpx.InvalidURL, web.TooSlowError) as error:
        raise ServiceError(f"The webhook (notify.webhook) did not answer: {type(error).__name__}.") from None
    if not is_success:
        raise ServiceError(f"The webhook (notify.webhook) answered {status}.")
    return True


def check(params: Notify) -> None:
    """See that the notice will have an address that may be asked.

    Raises:
        ParamsError: it may not, or the environment variable that it names is not set.
    """
    if (url := address(params)) is not None:
        web.check(url, _rules(params))


def _rules(params: Notify) -> Rules:
    """A webhook that sends us on is not followed: the notice is for the one that was named."""
    return Rules(
        ParamsError,
        "notify.webhook in params.yaml",
        _REMEDIES,
        schemes=("https", "http"),
        private=params.allow_private,
        wait_s=TIMEOUT_S,
        whole_s=WHOLE_S,
        shown=lambda _: "the webhook's (not shown: it may hold a secret)",
    )


def address(params: Notify) -> str | None:
    """The webhook's URL, which is a secret; None where none is set.

    Raises:
        ParamsError: a variable it names is not set, the first one holds no URL, or it is not written as one.
    """
    if params.webhook is None:
        return None
    value, where = params.webhook.get_secret_value(), "notify.webhook in params.yaml"
    whole, first = _WHOLE.fullmatch(value), VARIABLE.match(value)
    if not whole and (_HALF.search(value) or (value.startswith("$") and not first)):
        raise ParamsError(
            expected="$NAME or ${NAME} where a variable stands in the address, its name in capitals",
            found="a $ with something else after it (not shown: it may be a secret)",
            where=where,
            remedy="Write the variable's name in capitals, here and where it is exported, with both braces or none.",
        )
    named = whole or first
    name = named and (named[1] or named[2])
    found = os.environ.get(str(name), "") if whole else filled(value, where)
    if not found.startswith(("https://", "http://")):  # without a variable, params are held to that already
        raise ParamsError(
            expected=f"{'the' if whole else 'the beginning of the'} webhook's URL in the environment variable {name}",
            found="another value (not shown: it may hold a secret)" if found else "no such variable",
            where=where,
            remedy=f"export {name}=https://…, or set notify.webhook to null.",
        )
    return found

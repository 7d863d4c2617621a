"""Secrets in addresses: named by a variable, never written out."""

from __future__ import annotations

import pytest

from pipeline.core.errors import ParamsError
from pipeline.core.secrets import filled, has_secret


def test_variables_are_filled_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """``$NAME`` and ``${NAME}`` in capitals; a dollar sign otherwise stays."""
    monkeypatch.setenv("GRAFTLINE_TEST_TOKEN", "abc")
    url = "https://h/a$b?token=$GRAFTLINE_TEST_TOKEN&x=${GRAFTLINE_TEST_TOKEN}Z"
    assert "https://h/a$b?token=abc&x=abcZ" == filled(url, "here")


def test_a_missing_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty one counts as missing: the server's refusal would tell less."""
    monkeypatch.setenv("GRAFTLINE_TEST_TOKEN", "")
    with pytest.raises(
        ParamsError, match="environment variable GRAFTLINE_TEST_TOKEN; found no such variable"
    ) as caught:
        filled("https://h/?token=$GRAFTLINE_TEST_TOKEN", "backbone.weights in params.yaml")
    assert "backbone.weights in params.yaml" == caught.value.where
    assert "export GRAFTLINE_TEST_TOKEN=… where the run starts, or write the address without it." == caught.value.remedy


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://h/w.pt", False),
        ("https://h/w.pt?download=true", False),
        ("https://me@h/w.pt", True),
        ("https://me:pw@h/w.pt", True),
        ("https://me:$PASSWORD@h/w.pt", False),
        ("https://me:half:$PASSWORD@h/w.pt", True),
        ("https://h/w.pt?X-Amz-Signature=abc", True),
        ("https://h/w.pt?sig=abc", True),
        ("https://h/w.pt?api_key=abc", True),
        ("https://h/w.pt?token=${TOKEN}", False),
        ("$WEIGHTS_URL", False),
    ],
)
def test_what_counts_as_a_secret(url: str, expected: bool) -> None:
    """A password, or a query value whose name tells, unless a variable stands for it."""
    assert expected == has_secret(url)

"""What is hidden before anything is logged."""

from __future__ import annotations

import pytest

from pipeline.core.redaction import redact, redacted


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("http://me:pw@server:5000/x", "http://***@server:5000/x"),
        ("postgresql+psycopg://user:p%40ss@db/mlflow", "postgresql+psycopg://***@db/mlflow"),
        ("https://store.org/w.pt?X-Signature=abc&y=1", "https://store.org/w.pt?***"),
        ("deps:\n- url: s3://key:secret@bucket/data\n", "deps:\n- url: s3://***@bucket/data\n"),
        ("sqlite:////home/me@work/mlflow.db", "sqlite:////home/me@work/mlflow.db"),
        ("no address at all, a@b.org", "no address at all, a@b.org"),
    ],
)
def test_urls_lose_credentials_and_query(text: str, safe: str) -> None:
    """User, password and query of a URL are hidden wherever it stands; the rest of the text is kept."""
    assert safe == redact(text)


def test_a_secret_key_hides_its_value_at_any_depth() -> None:
    """Values under telling keys are hidden; null is kept, for it says that nothing is set."""
    params = {"notify": {"webhook": "https://hooks/T0/B0"}, "list": [{"api_key": "k"}], "password": None, "epochs": 3}
    expected = {"notify": {"webhook": "***"}, "list": [{"api_key": "***"}], "password": None, "epochs": 3}
    assert expected == redacted(params)


def test_addresses_lose_their_credentials_at_any_depth() -> None:
    """Under whatever key, in lists and tuples; all other values are kept as they are."""
    params = {"weights": {"url": "https://me:pw@h/w?sig=1"}, "sites": ("s3://k:s@b", 3, None), "seed": 0, "gpu": False}
    expected = {"weights": {"url": "https://***@h/w?***"}, "sites": ["s3://***@b", 3, None], "seed": 0, "gpu": False}
    assert expected == redacted(params)
    assert "https://***@h" == redacted("https://me:pw@h")

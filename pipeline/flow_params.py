"""The sections of params.yaml that only the flow reads: where a run is recorded, published and announced.

None of them is in a stage's key: moving the tracking server never retrains.
"""

from __future__ import annotations

from pydantic import ConfigDict, Field, SecretStr, field_validator

from pipeline.core.params import Params


class Tracking(Params):
    """Where MLflow keeps runs and versions."""

    uri: str = Field(
        "sqlite:///.graftline/mlflow.db",
        description="an MLflow tracking URI: sqlite:///FILE (relative to the workspace), http(s)://SERVER, or another "
        "database; the environment variable MLFLOW_TRACKING_URI overrides it, and is the place for credentials",
    )
    experiment: str = Field("graftline", min_length=1, description="MLflow experiment that holds this workspace's runs")


class Publish(Params):
    """Where promoted bundles go."""

    handoff: str = Field(
        "handoff",
        min_length=1,
        description="folder for v1, v2, … and the pointer `current`; relative to the workspace, or absolute",
    )
    signing_key: str | None = Field(
        None,
        min_length=1,
        description="private key that signs what is handed off: a PEM file, relative to the workspace or absolute, "
        "outside of what git tracks; null = one of the workspace's own, made on first need in .graftline/",
    )


class Notify(Params):
    """Who is told."""

    model_config = ConfigDict(hide_input_in_errors=True)  # a webhook's URL is a secret, also a mistyped one

    webhook: SecretStr | None = Field(
        None,
        description="URL that receives each outcome as JSON (Slack and others read its `text`); "
        "$NAME takes it from the environment, which keeps it out of this file",
    )
    allow_private: bool = Field(False, description="allow a webhook on this machine or in a private network")

    @field_validator("webhook")
    @classmethod
    def _is_url_or_variable(cls, webhook: SecretStr | None) -> SecretStr | None:
        if webhook is not None and not webhook.get_secret_value().startswith(("https://", "http://", "$")):
            raise ValueError("must start with https://, http:// or $ (the name of an environment variable)")
        return webhook

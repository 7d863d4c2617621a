"""Turns off every phone-home switch of the packages underneath. Call before they are imported."""

from __future__ import annotations

import os

SWITCHES = {
    "DO_NOT_TRACK": "true",  # MLflow accepts only "true"
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DVC_NO_ANALYTICS": "1",
    "GX_ANALYTICS_ENABLED": "false",
    "ORT_DISABLE_TELEMETRY": "1",  # ONNX Runtime: else a device id and a database of events in ~/.cache/Microsoft
    "RAY_USAGE_STATS_ENABLED": "0",
}


def off() -> None:
    """Set each switch unless the user has set it otherwise."""
    for name, value in SWITCHES.items():
        os.environ.setdefault(name, value)

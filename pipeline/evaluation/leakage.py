"""Test images that the model has already seen: the mistake that makes every score a fiction."""

from __future__ import annotations

import pandas as pd

from pipeline.data.manifest import Manifest


def leaked(target: Manifest, source: Manifest) -> list[str]:
    """Names of the target's test images whose content or group is also among the images trained on.

    Trained on are the target's train and val images, labelled or not, and all of the source's but its test images.
    """
    test = target.split("test").frame
    seen = pd.concat([target.split("train", "val").frame, source.split("train", "val").frame])
    groups = set(target.split("train", "val").frame["group"].dropna())
    is_seen = test["id"].isin(set(seen["id"])) | test["group"].isin(groups)
    return test.loc[is_seen, "name"].tolist()

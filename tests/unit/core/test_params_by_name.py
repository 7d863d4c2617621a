"""Parameters whose class is chosen by a plug-in's name."""

from __future__ import annotations

import pytest
from pydantic import TypeAdapter, ValidationError

from pipeline.core import plugins
from pipeline.core.params import chosen_by_name

PACKAGE = "pipeline.training.strategies"


@pytest.fixture
def strategy() -> TypeAdapter:
    return TypeAdapter(chosen_by_name(PACKAGE))


def test_the_name_alone_is_enough(strategy: TypeAdapter) -> None:
    """A bare string, a mapping with no more than the name, and params made before are the same."""
    made = plugins.load(PACKAGE, "lp_ft").Params()
    assert made == strategy.validate_python("lp_ft") == strategy.validate_python({"name": "lp_ft"})
    assert made is strategy.validate_python(made)


def test_the_rest_is_for_the_plug_in(strategy: TypeAdapter) -> None:
    """Its values are taken, its bounds hold, and keys that it does not know are refused."""
    assert strategy.validate_python({"name": "lp_ft", "epochs": 3}).epochs == 3
    with pytest.raises(ValidationError, match="epohcs"):
        strategy.validate_python({"name": "lp_ft", "epohcs": 3})


@pytest.mark.parametrize("value", [3, {}, {"epochs": 3}, {"name": 3}, ["lp_ft"], None])
def test_without_a_name_the_names_are_listed(strategy: TypeAdapter, value: object) -> None:
    with pytest.raises(ValidationError) as caught:
        strategy.validate_python(value)
    assert f"a mapping with a 'name', one of: {', '.join(plugins.names(PACKAGE))}" in str(caught.value)


def test_its_values_are_kept_when_it_is_written(strategy: TypeAdapter) -> None:
    """All of them, not only those that every plug-in has."""
    written = strategy.dump_python(strategy.validate_python({"name": "lp_ft", "epochs": 3}))
    assert (written["name"], written["epochs"]) == ("lp_ft", 3)


def test_the_schema_offers_every_plug_in(strategy: TypeAdapter) -> None:
    """One choice each: its name as a constant, and its own values."""
    choices = strategy.json_schema()["oneOf"]
    assert plugins.names(PACKAGE) == tuple(choice["properties"]["name"]["const"] for choice in choices)
    lp_ft = choices[plugins.names(PACKAGE).index("lp_ft")]
    assert "epochs" in lp_ft["properties"]

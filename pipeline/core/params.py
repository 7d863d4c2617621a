"""The base of every parameter class, and parameters whose class is chosen by a plug-in's name."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler, GetJsonSchemaHandler, SerializeAsAny
from pydantic_core import core_schema

from pipeline.core import plugins


class Params(BaseModel):
    """Frozen, and closed: an unknown key is an error, never ignored."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


class PluginParams(Params):
    """Parameters of a plug-in; ``name`` is the plug-in's file name."""

    name: str


class ChosenByName:
    """Validates ``{name: lp_ft, ...}`` with the ``Params`` class in ``<package>/lp_ft.py``."""

    def __init__(self, package: str) -> None:
        self.package = package

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        return core_schema.no_info_plain_validator_function(self._parse)

    def _parse(self, value: Any) -> PluginParams:
        if isinstance(value, PluginParams):
            return value
        if isinstance(value, str):
            value = {"name": value}
        if not isinstance(value, dict) or not isinstance(value.get("name"), str):
            known = ", ".join(plugins.names(self.package))
            raise ValueError(f"a mapping with a 'name', one of: {known}")
        return plugins.load(self.package, value["name"]).Params.model_validate(value)

    def __get_pydantic_json_schema__(
        self, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return {"oneOf": [self._schema_of(name) for name in plugins.names(self.package)]}

    def _schema_of(self, name: str) -> dict[str, Any]:
        schema = plugins.load(self.package, name).Params.model_json_schema()
        schema["properties"]["name"] = {"const": name}
        return schema


def chosen_by_name(package: str) -> Any:
    """The type of a parameter that selects a file in ``package`` by its name, e.g. ``{name: probe, ...}``.

    A bare string is short for a mapping with that name and every other value at its default.
    """
    return SerializeAsAny[Annotated[PluginParams, ChosenByName(package)]]

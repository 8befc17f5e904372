"""Editors judge by the JSON Schema, the emulator by its reader: they must say the same."""

from __future__ import annotations

import json
import tomllib
from dataclasses import fields
from pathlib import Path

import jsonschema
import pytest

import emulator
from emulator.config import FunctionConfig, Settings

from .examples import BAD, GOOD

SCHEMA = json.loads((Path(emulator.__file__).parent / "faas.schema.json").read_text())
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)


def test_it_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("name", GOOD)
def test_good(name: str) -> None:
    assert not list(VALIDATOR.iter_errors(tomllib.loads(GOOD[name])))


@pytest.mark.parametrize("name", BAD)
def test_bad(name: str) -> None:
    assert list(VALIDATOR.iter_errors(tomllib.loads(BAD[name][0])))


def test_it_knows_every_key_and_no_other() -> None:
    assert set(SCHEMA["properties"]["emulator"]["properties"]) == {field.name for field in fields(Settings)}
    function = {field.name for field in fields(FunctionConfig)} - {"name"}
    assert set(SCHEMA["$defs"]["function"]["properties"]) == function
    assert set(SCHEMA["properties"]["defaults"]["properties"]) == function - {"code"}


def test_its_defaults_are_the_defaults() -> None:
    for field in fields(Settings):
        told = SCHEMA["properties"]["emulator"]["properties"][field.name].get("default")
        if told is not None:
            assert told == (str(field.default) if field.name == "home" else field.default), field.name
    for field in fields(FunctionConfig):
        told = SCHEMA["$defs"].get(field.name, {}).get("default")
        if told is not None:
            assert told == field.default, field.name

"""A setting that nothing reads is a promise that nothing keeps."""

from __future__ import annotations

import re

import pytest

from raftkv.settings import SETTINGS
from tests.house.tree import modules

OWN = {"raftkv.config", "raftkv.settings", "raftkv.setting_rules", "raftkv.cluster_files"}
CODE = "\n".join(
    path.read_text(encoding="utf-8") for name, path in modules().items() if name not in OWN
)


@pytest.mark.parametrize("key", sorted(SETTINGS))
def test_a_setting_is_read_somewhere(key: str) -> None:
    name = key.partition(".")[2]
    # Read from the config, or from a section of it that was handed on.
    assert re.search(rf"\b(?!self\b)\w+\.{name}\b", CODE), key

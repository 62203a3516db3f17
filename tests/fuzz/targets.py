"""All fuzz targets by name."""

from __future__ import annotations

from tests.fuzz import core_target, file_targets, store_targets, wire_targets

TARGETS = {
    **wire_targets.TARGETS,
    **core_target.TARGETS,
    **file_targets.TARGETS,
    **store_targets.TARGETS,
}

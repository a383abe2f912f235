"""As in tests/ca: no power fails."""

from __future__ import annotations

from tests.ca.conftest import no_power_fails

__all__ = ["no_power_fails"]

"""All promises of the demo, in the order they are tried: the later ones kill what the earlier ones need."""

from __future__ import annotations

from typing import Final

from examples.shop.promises_changes import CHANGES
from examples.shop.promises_http import HTTP
from examples.shop.promises_identity import IDENTITY
from examples.shop.promises_wire import WIRE

PROMISES: Final = (*IDENTITY, *HTTP, *WIRE, *CHANGES)

"""TOML files judged as a whole: every fault at once, each with its line.

    document    bytes -> `TomlDocument`: the data, and the line of every key path
    lines       the walk over valid text that finds those lines (tomllib tells none)
    judge       `Judge` and its `Table` views: take one value or record one `Problem`, and go on
    words       a user's own text and values, shown back safely

A reader asks a table for each key it knows; a key that nobody asked for is a key nobody knows.
"""

from __future__ import annotations

from meshproxy.toml.document import MAX_BYTES, TomlDocument, parse_toml
from meshproxy.toml.judge import Judge, Place, Reader, Table, boolean, of_type, string, whole_number, written
from meshproxy.toml.words import describe, quote

__all__ = [
    "MAX_BYTES",
    "Judge",
    "Place",
    "Reader",
    "Table",
    "TomlDocument",
    "boolean",
    "describe",
    "of_type",
    "parse_toml",
    "quote",
    "string",
    "whole_number",
    "written",
]

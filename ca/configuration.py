"""ca.toml: the trust domain, and what leaves may ask for. Text in, a checked value out."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from datetime import timedelta

import msgspec

from ca.lifetime import LeafLimits
from ca.spiffe_id import TrustDomain


class ConfigurationError(ValueError):
    """A ca.toml that cannot be used; the text is a phrase that says why."""


@dataclass(frozen=True, slots=True)
class Configuration:
    """What ca.toml says."""

    trust_domain: TrustDomain
    limits: LeafLimits = field(default_factory=LeafLimits)


class _LeafTable(msgspec.Struct, forbid_unknown_fields=True):
    default_seconds: int
    minimum_seconds: int
    maximum_seconds: int


class _File(msgspec.Struct, forbid_unknown_fields=True):
    """The file. Lifetimes are whole seconds: `ca` stands below the room that reads "24h"."""

    trust_domain: str
    leaf: _LeafTable


def read(content: bytes) -> Configuration:
    """Read a ca.toml. Raises ConfigurationError."""
    try:
        file = msgspec.convert(tomllib.loads(content.decode()), _File)
        limits = LeafLimits(
            default=timedelta(seconds=file.leaf.default_seconds),
            minimum=timedelta(seconds=file.leaf.minimum_seconds),
            maximum=timedelta(seconds=file.leaf.maximum_seconds),
        )
        return Configuration(TrustDomain.parse(file.trust_domain), limits)
    except (ValueError, OverflowError) as error:  # undecodable, TOML, msgspec and our own are all ValueErrors
        raise ConfigurationError(str(error)) from error


def first_text(configuration: Configuration) -> bytes:
    """The ca.toml of a new CA."""
    limits = configuration.limits
    return f"""\
# A meshproxy certificate authority. The trust domain is fixed for its life; the limits may be tightened.
trust_domain = "{configuration.trust_domain}"

[leaf]  # lifetimes, in seconds: 300 <= minimum <= default <= maximum <= 604800
default_seconds = {int(limits.default.total_seconds())}
minimum_seconds = {int(limits.minimum.total_seconds())}
maximum_seconds = {int(limits.maximum.total_seconds())}
""".encode()

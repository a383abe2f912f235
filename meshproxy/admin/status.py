"""The shape of `/status`: what the sidecar tells and the `status` command reads."""

from __future__ import annotations

import msgspec


class CertificateStatus(msgspec.Struct, frozen=True):
    """One certificate of the own chain; `seconds_left` is negative once it has expired."""

    role: str
    not_after: str
    seconds_left: float
    subject: str = ""  # a SPIFFE ID, or the name of a CA
    serial: str = ""
    not_before: str = ""


class RenewalStatus(msgspec.Struct, frozen=True):
    """How it goes with the CA, where the identity is kept alive by itself; times are empty for never.

    `bundle_loaded` is the number of the roots in use, `bundle_known` the last that the CA told of; None: none.
    """

    ca: tuple[str, ...]
    renewed_at: str
    next_renewal: str
    last_error: str
    remedy: str
    failing_since: str
    next_try: str
    trust_at: str  # when the CA last said whom to believe
    trust_error: str
    bundle_loaded: int | None
    bundle_known: int | None


class TrustStatus(msgspec.Struct, frozen=True):
    """What is trusted beside the bundle; numbers are None, and times empty, where nothing was said."""

    bundle_sequence: int | None
    deny_list: int | None
    issued: str
    age_seconds: float
    good_until: str
    stale_seconds: float | None  # for how long a newer list should have been here; None: it is good, or there is none
    stale_policy: str  # allow | deny
    entries: int
    retired: int
    federated: tuple[str, ...]
    last_error: str


class IdentityStatus(msgspec.Struct, frozen=True):
    """The own identity; `id` is empty while none was ever loaded."""

    id: str
    ready: bool
    reason: str  # why not ready, else empty
    remedy: str
    directory: str
    generation: int
    loaded_at: str
    last_error: str
    serial: str = ""
    certificates: tuple[CertificateStatus, ...] = ()
    renewal: RenewalStatus | None = None
    trust: TrustStatus | None = None


class ExpiringRule(msgspec.Struct, frozen=True):
    """A rule that ends within two weeks."""

    rule: str
    expires: str
    seconds_left: float


class UnusedRules(msgspec.Struct, frozen=True):
    """Rules that have let nobody in since then, though they could have."""

    since: str
    rules: tuple[str, ...]


class PolicyStatus(msgspec.Struct, frozen=True):
    """The allow-list a listener judges by."""

    file: str
    hash: str
    generation: int
    rules: int
    expired_rules: tuple[str, ...] = ()
    expiring: tuple[ExpiringRule, ...] = ()  # the first to end first
    unused: tuple[UnusedRules, ...] = ()  # in file order; empty while workers go over to another list


class ListenerStatus(msgspec.Struct, frozen=True):
    """One listener: where it is, where it leads, and what came of its connections since start."""

    name: str
    direction: str
    listen: str
    to: str
    protocol: str
    open: int
    max_connections: int
    decided: dict[str, int]
    ended: dict[str, int]
    answered: dict[str, int]  # http: requests by class of status, `2xx` and so on; `none`: no answer was begun
    handshake_failures: int
    refused: dict[str, int]
    failed_upstream: int
    mode: str = ""
    policy: PolicyStatus | None = None
    limits: dict[str, str] = {}  # in force, by their keys, each as it would be written in the file
    limits_reached: dict[str, int] = {}  # how often, of those that were


class DenialStatus(msgspec.Struct, frozen=True):
    """One refused caller."""

    ts: str
    listener: str
    caller: str
    reason: str
    nearest: str


class ObjectionStatus(msgspec.Struct, frozen=True):
    """What the allow-list has against a caller, since start: denied, or (audit mode) what would be."""

    listener: str
    outcome: str  # deny | would_deny
    caller: str
    asked: str  # "GET /path"; empty in TCP mode
    reason: str
    count: int
    last: str
    nearest: str


class ConfigurationStatus(msgspec.Struct, frozen=True):
    """Settings and allow-lists: which are in force since when, and what became of the last attempt to change them."""

    generation: int
    hash: str
    loaded_at: str
    last_attempt_at: str
    last_error: str


class AuditStatus(msgspec.Struct, frozen=True):
    """The audit log of one process."""

    file: str
    error: str  # of the last write; empty: it went well
    records: int  # durable
    refused: int  # found no room
    waiting: int
    checkpoint_seconds: float  # since the last one, or the start


class LoadStatus(msgspec.Struct, frozen=True):
    """How busy the processes that serve are: counts of all of them, and the longest lag of any."""

    turned_away_for: str  # overload | memory: why new connections are; empty: they are not
    lag_seconds: float  # how long what had come lay unread, the longest of the last second
    in_flight: int  # HTTP requests that have an upstream connection
    most_in_flight: int | None  # how many are let in now; None: it keeps up, any number
    descriptors_held: int  # by connections
    descriptors: int  # how many these may have


class WorkerStatus(msgspec.Struct, frozen=True):
    """One of several processes that serve; `pid` is 0 while there is none. `generation` is of settings and lists."""

    number: int
    pid: int
    state: str  # starting | serving | overloaded | refusing | draining | waiting (to be started again) | silent | ended
    open: int
    restarts: int
    generation: int
    identity_generation: int


class Status(msgspec.Struct, frozen=True):
    """Everything `/status` says."""

    version: str
    pid: int
    started_at: str
    state: str  # serving | overloaded | refusing | draining | starting (several workers, none of which serves yet)
    file: str
    identity: IdentityStatus
    configuration: ConfigurationStatus
    listeners: tuple[ListenerStatus, ...]
    denials: tuple[DenialStatus, ...]
    objections: tuple[ObjectionStatus, ...]  # the most frequent first
    objections_beyond: int  # how often others were raised, that are not listed
    log_lines_dropped: int
    workers: tuple[WorkerStatus, ...] = ()  # where there are several
    audit: tuple[AuditStatus, ...] = ()  # of each process, where there is one
    sandbox: str = ""  # `landlock 7: files and TCP ports`, or `none`
    load: LoadStatus | None = None

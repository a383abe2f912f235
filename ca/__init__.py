"""The certificate authority: who gets which identity, and what a sound identity is.

It imports nothing of meshproxy and opens no socket. From the ground up:

    spiffe_id    SPIFFE IDs and trust domains: the only parser of spiffe:// in the house       pure
    svid         is this certificate a sound identity? judged on every connection              pure
    bundle       the roots one trust domain is judged by                                       pure
    permissions  whether a file's mode keeps it ours                                           pure
    lifetime     how long a certificate may live                                               pure
    profiles     what goes into a root, an intermediate, a leaf                                pure
    inspection   what a certificate is, in words, and what is wrong with it                    pure
    keys         making, sealing and opening private keys
    passphrase   reading a passphrase from a file nobody else can read
    storage      files that are either old or new, never half
    ledger       the append-only record of everything issued
    identity_directory   generations, and one link that switches key and chain together
    authority    init and issue: decide, sign, record, write

`from ca import SpiffeId, TrustDomain` is all most callers need.
"""

from __future__ import annotations

from ca.spiffe_id import SpiffeId, TrustDomain

__all__ = ["SpiffeId", "TrustDomain"]

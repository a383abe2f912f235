"""The certificate authority: who gets which identity, and what a sound identity is.

It imports nothing of meshproxy and opens no socket. From the ground up:

    spiffe_id    SPIFFE IDs and trust domains: the only parser of spiffe:// in the house       pure
    svid         is this certificate a sound identity? judged on every connection              pure
    bundle       the roots one trust domain is judged by                                       pure
    permissions  whether a file's mode keeps it ours                                           pure
    lifetime     how long a certificate may live                                               pure
    profiles     what goes into a root, an intermediate, a leaf                                pure
    inspection   what a certificate is, in words, and what is wrong with it                    pure
    issuance     who may be certified as what: the rules of ca.toml                            pure
    configuration  what ca.toml says                                                           pure
    spiffe_bundle  roots as SPIFFE writes them                                                 pure
    base64url    bytes as text, one text for each                                              pure
    json_text    JSON that somebody else wrote, and one word for all that is none              pure
    signed       documents that the CA signs, and who believes them                            pure
    events       what can happen to a CA; canonical JSON, and the chain of hashes              pure
    rows         what a CA knows now                                                           pure
    fold         how an event changes what it knows; the only place that says so               pure
    slots        authorities and their turns: prepare, activate, retire, taint                 pure
    ledger       the interface of whatever keeps the events and rows                           pure
    ledger_head  how far a ledger goes, signed                                                 pure
    audit        whether a ledger is sound                                                     pure
    refusals     why somebody gets no certificate                                              pure
    tokens       join tokens: what they look like, whether one may be used                     pure
    csr          certificate requests: only the key counts                                     pure
    enrollment   renewal: whether the holder of a leaf gets the next one                       pure
    revocation   taking back what was certified                                                pure
    deny_list    whom not to believe: written by the CA, followed by everybody                 pure
    crl          the same for those who know CRLs only                                         pure
    listing      what became of each leaf                                                      pure
    issued_lines the record that earlier versions kept                                         pure
    keys         making, sealing and opening private keys
    passphrase   reading a passphrase from a file nobody else can read
    storage      files that are either old or new, never half
    sqlite_ledger  the ledger on the CA's own disk
    occupancy    one server to a directory, and only on a disk of this machine
    premises     the directory of a CA: what lies where
    slot_files   new authorities: a key, a certificate, the directory they lie in
    publishing   what the CA shows to others, written from the ledger
    rotation     replacing the CA's own keys while it works
    identity_directory   generations, and one link that switches key and chain together
    authority    an open CA
    leaves       making a leaf: decide, sign, record, in one transaction
    founding     making a CA
    issuing      issuing into files
    invitations  making and ending join tokens
    granting     certificates for those who ask over the network
    federation   the bundles of other trust domains, kept apart from our own
    backup       a CA in one file
    restoring    bringing one back, knowing that the world went on
    doctor       what is wrong with a CA, or soon will be

`from ca import SpiffeId, TrustDomain` is all most callers need.
"""

from __future__ import annotations

from ca.spiffe_id import SpiffeId, TrustDomain

__all__ = ["SpiffeId", "TrustDomain"]

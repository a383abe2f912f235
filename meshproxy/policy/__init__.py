"""The policy street: who may call, read from allow-list files and decided without I/O, clock or trust in the caller.

    match       identity and path patterns: parsed once, matched segment by segment
    document    an allow-list file -> `Document` of `Rule`s, or every fault in it at once
    compile     `Document` -> `Policy`: the rules behind an index that finds the candidates for one caller
    decide      `Policy` + caller + now -> `Decision` -> `Permit`, without which nothing is forwarded
    explain     for a denial, the rule that came closest, and why it did not grant

Default deny; there are no deny rules; the first granting rule in file order decides.
"""

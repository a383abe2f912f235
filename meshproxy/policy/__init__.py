"""The policy street: who may call, read from allow-list files and decided without I/O, clock or trust in the caller.

    match       identity and path patterns: parsed once, matched segment by segment
    document    an allow-list file -> `Document` of `Rule`s, or every fault in it at once
    patterns    what is kept for patterns, found by a path they match: those of one shape in one dict
    tree        the same for patterns of very many shapes
    requests    the rules for some callers, behind an index by path, method and time
    compile     `Document` -> `Policy`: the rules behind an index that finds the candidates for one caller
    decide      `Policy` + caller or request + now -> `Decision` -> `Permit`, without which nothing is forwarded
    explain     for a denial: what each rule said, which one came closest, and why it did not grant

    regions     what patterns cover together, proved and not sampled
    overlaps    what is kept for patterns, found by a pattern that shares a path with them
    grants      rules by what they mean: whether some grant all that another does
    difference  two lists compared by that
    edit        the smallest edit that would grant what was denied
    lint        what is sound and yet probably not meant
    written     rules as text
    cases       expectations of an allow-list, written down and tried
    estate      the allow-lists of a whole mesh: who can do what where
    records     decisions as they were logged
    replaying   a candidate run over them
    learning    an allow-list proposed from them

Default deny; there are no deny rules; the first granting rule in file order decides.
"""

"""`meshproxy policy`: allow-lists asked, checked and compared, without a running sidecar. One room for each command.

group       the group they are in
explain     why one caller is allowed or denied
check       faults, and what is probably not meant
test        expectations that are written down
diff        two versions compared by what they grant
replay      recorded calls decided again by a candidate
learn       a list proposed from what was seen
report      which rules are used
who_can     who-can and what-can, the questions of an auditor
graph       who may call whom, drawn: as Mermaid, DOT, or a
page          page with all of it in words, and a
drawing       drawing, whose nodes and arrows have their places from a
layout        layout in layers

lists       what they share: reading lists and directories of them, completing identities
logs        reading logs
"""

"""The CA on the network, and whoever asks it: what `ca` decides is carried here, over our own wire and HTTP floors.

exchange    one request and one answer over TLS, bounded in size

Whoever asks:

plan        when to renew, and when to try again
faults      what can go wrong between the two
approach    a first contact that trusts nobody; a line to whoever has proved to be the CA
client      what is asked
judging     what came, judged before any of it is kept
token_file  the file a join token comes in
holding     the identity directory, as whoever renews sees it
errand      enrol, renew, ask whom to believe: read, ask, judge, write, under a lock
keeping     what a keeper is told, and how it is going
remedies    what a person is to do about it
keeper      all of that for ever, beside a sidecar or for a foreign program
"""

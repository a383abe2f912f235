"""The CA on the network, and whoever asks it: what `ca` decides is carried here, over our own wire and HTTP floors.

exchange       one request and one answer over TLS, bounded in size

The CA:

service        the desk: what is asked, what is answered
rates          how often somebody is answered                               pure
late           renewal of what has expired: nonces and signatures
books          the open CA, asked in a thread by one at a time
office         the doors: connections, deadlines, caps
own_leaf       the CA's own certificate, and what it terminates TLS with
housekeeping   what it does by itself: follow, publish, renew, replace
partners       bundles of other trust domains, fetched again when due
account        what it tells of; figures: what it counts

Whoever asks:

plan           when to renew, and when to try again                         pure
faults         what can go wrong between the two                            pure
approach       a first contact that trusts nobody; a line to whoever has proved to be the CA
client         what is asked
judging        what came, judged before any of it is kept                   pure
token_file     the file a join token comes in
holding        the identity directory, as whoever renews sees it
errand         enrol, renew, ask whom to believe: read, ask, judge, write, under a lock
keeper         all of that for ever, beside a sidecar or for a foreign program
keeping        what a keeper is told, and how it is going; remedies: what a person is to do about it
"""

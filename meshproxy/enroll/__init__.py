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
"""

"""Others -> this service: TLS is terminated, the caller judged, and only then a byte forwarded.

accept      taking connections on and letting go of them, for listeners of both directions
visit       one connection's story, from which its access line is written
unattended  connections that go on without a task: waited for, or cut
crowd       who is calling at a listener: strangers, and connections of each caller
admit       from an accepted socket to an authenticated caller: own identity, handshake, leaf
introduced  callers that a load balancer introduces, and whom we introduce to the service
authorize   one caller, or each of its requests, asked about at the allow-list: a Permit, or a denial explained
forward     what an inbound TCP connection lives through, from its handshake to its end
requests    the same for HTTP, and what both directions of HTTP share
story       what became of each request of one connection: its access line, and its place in the numbers
ledger      where a listener's requests are told: those in which nothing is out of the ordinary, a batch in a row
machinery   what drives the HTTP connections of a listener, whom it tells, and how each ends
pump        moves one HTTP connection on: feeds the exchange, sends what it says, does what it needs
driver      the task that owns it, and waits for what takes time
deadlines   when the patience with it runs out, by the phase of its exchange
live        the HTTP connections that are open, to be asked to end
"""

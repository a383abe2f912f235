"""The one place where all is wired, and the life of the process around it.

judge       everything `run` would load, judged without starting anything
build       the wiring: a house, and the sidecar that is one process
equip       what a listener's settings make of it
stations    the listeners: they come, go, move and change one by one
doors       where their sockets come from
reload      files followed while running, as one transaction
grants      those that end by themselves
drain       ending: ready goes false, who got in is served, the rest is cut at a deadline
signals     what SIGTERM, SIGINT and SIGHUP mean
reception   the admin sockets
views       what /status, /ready and /metrics show of one process; pages: what they are made of
chronicle   what happened, second by second; observatory: its pages, of traffic_pages and trust_pages
idle        edges that may be used and are not; audit_search: decisions from the newest back
renewing    an identity kept alive for a foreign program
lifeline    the keeper of an identity that renews itself
telling     where everything is told
tracing     the tracer that the settings want
process     descriptors, stderr, exit codes
origin      what it was started into: inherited sockets, a service manager, a sidecar to take over from
takeover    asking the sidecar that runs for its listeners; handover: being asked
manager     what a service manager is told
sandbox     what a sidecar needs of the machine, and is kept to; landlock: by the kernel
cores       how many processes `auto` is

The CA:

authority        a CA that serves: wired, begun, ended; authority_views: what it shows

Several workers:

supervisor  judges, binds, leads and tells; carries no byte
doorkeeper  the sockets it holds for its workers
crew        the workers led as one: started again, changed together or not at all; member: the place of one
census      what they say of themselves when all are asked, and what those had counted that have ended
life        one worker process, from its start to its end
control     what supervisor and workers say to each other
worker      the other end: a house that does what it is told
overview    what is shown of all, as one; scrape and samples: their numbers
"""

"""The one place where all is wired, and the life of the process around it.

judge      everything `run` would load, judged without starting anything
build      the wiring: listeners, engine, identity, admin
drain      ending: ready goes false, who got in is served, the rest is cut at a deadline
signals    what SIGTERM, SIGINT and SIGHUP mean
views      what /status, /ready and /metrics show
process    descriptors, stderr, exit codes
"""

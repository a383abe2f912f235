"""Reaching the other side.

attempt       in which order endpoints are tried, and what went wrong with each; pure
endpoint      connecting: to the own service in plain, to another sidecar as an identified connection
pool          HTTP: connections that carry one exchange after another, and rest in between
connections   HTTP: one of those, from the pool or dialled
"""

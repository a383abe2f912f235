"""Reaching the other side.

attempt    in which order endpoints are tried, and what went wrong with each; pure
endpoint   connecting: to the own service in plain, to another sidecar as an identified connection
"""

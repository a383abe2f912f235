"""Bounds decided by numbers and `now`; pure.

rate     how often something may be told
backoff  how long to wait before trying again
"""

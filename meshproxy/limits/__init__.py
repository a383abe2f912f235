"""Bounds decided by numbers and `now`; pure.

rate    how often something may be told
"""

"""Bounds decided by numbers and `now`; pure.

rate          how often something may be told
backoff       how long to wait before trying again
headcount     how many of something each may have
waiting_room  how many strangers may stand before the handshake, and who has to go when they are too many
"""

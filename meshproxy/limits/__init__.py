"""Bounds decided by numbers and `now`; pure.

rate          how often something may be told
backoff       how long to wait before trying again
flight        how much is going on in this process, and whether more may begin
descriptors   how many connections its descriptors are enough for
headcount     how many of something each may have
waiting_room  how many strangers may stand before the handshake, and who has to go when they are too many
"""

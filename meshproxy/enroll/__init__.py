"""The CA on the network, and whoever asks it: what `ca` decides is carried here, over our own wire and HTTP floors.

messages   what is said, as values: requests, grants, trust, refusals
exchange   one request and one answer over TLS, bounded in size
"""

"""The CA on the network, and whoever asks it: what `ca` decides is carried here, over our own wire and HTTP floors.

exchange   one request and one answer over TLS, bounded in size
"""

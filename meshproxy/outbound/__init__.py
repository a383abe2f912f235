"""This service -> others: plain bytes are taken on this machine only, and leave it to one identity only.

caller     who of this machine may call
forward    what an outbound TCP connection lives through, from accept to its end
requests   the same for HTTP: each request goes to one identity
"""

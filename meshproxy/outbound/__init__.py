"""This service -> others: plain bytes are taken on this machine only, and leave it to one identity only.

forward    what an outbound connection lives through, from accept to its end
"""

"""Others -> this service: TLS is terminated, the caller judged, and only then a byte forwarded.

accept      taking connections on and letting go of them, for listeners of both directions
authorize   one caller asked about at the allow-list: a Permit, or a denial explained
forward     what an inbound connection lives through, from its handshake to its end
"""

"""The certificate authority (filled room by room)."""

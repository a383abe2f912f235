"""The sidecar's own small HTTP face. What it shows is injected by `runtime/build`.

status    the shape of /status, shared with the `status` command
server    /live /ready /status /metrics over h11, Host checked
"""

"""The sidecar's own small HTTP face. What it shows is injected by `runtime/build`.

status     the shape of /status, shared with the `status` command
merge      the statuses of several workers made one
server     h11 over a socket: Host checked, connections bounded, actions on unix sockets only
answers    what a path may answer: a page, or a stream
questions  what is asked behind the `?`, read strictly
feed       the stream of events: one ring, everyone at his own place
picture    /series and the news of a second
topology   who calls whom, in Kiali's shape
denials    a refusal with its nearest rule and the edit that grants it
roster     the shape of /connections
"""

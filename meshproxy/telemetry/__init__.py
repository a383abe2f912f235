"""What happened, told without ever holding up what happens.

writer    one thread that writes lines; a bounded queue and a count of what was dropped
text      client-controlled text made safe to print
events    structlog: everything that is news
access    one line per connection, by the fast encoder
metrics   counters and gauges for /metrics
"""

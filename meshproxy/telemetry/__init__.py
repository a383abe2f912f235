"""What happened, told without ever holding up what happens.

writer      one thread that writes lines; a bounded queue and a count of what was dropped
text        client-controlled text made safe to print
events      structlog: everything that is news
access      one line per connection or request, by the fast encoder
bounds      where the buckets of every histogram of requests end
flows       who calls whom, in plain integers
rings       the past of one edge in one resolution
series      the past of every edge, and what was news meanwhile
quantiles   how long requests took, from a histogram
facts       what a sidecar is at a moment, and what was news between two
denials     who was refused lately
record      the one place that is told: it counts, logs at a bounded rate, remembers denials
requests    the HTTP requests of one listener: counted, and told in the access log
families    numbers by name and labels, and registries of them
metrics     what a sidecar counts and measures
exposition  the two forms in which that is told
wanted      which of the traffic is told at all
"""

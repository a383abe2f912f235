"""Spans of sampled requests, from their making to their collector (OpenTelemetry; OTLP/HTTP with JSON).

spans      what an exchange says as a SERVER span and CLIENT spans
otlp       how spans and batches of them are written
delivery   what follows from a collector's answer
exporter   a bounded queue, and one task that sends what waits
collector  how one gets to a collector: in plain on this machine, or to an identity of the mesh
tracer     who is told of sampled exchanges
"""

"""The benchmark anyone can run: `make bench`. The product and its peers do the same work in the same rounds.

    __main__    the command: reads the options, runs the rows, prints the table, saves the samples
    options     what whoever starts it may choose
    rows/       what is measured: one room per kind of row, and the list of all with their bounds
    contest     everybody's pair stands side by side, and turns are taken round after round
    check       before a row: does a pair carry bytes rightly, and refuse whom it must?
    pair        what a contestant is: plain in, mutual TLS between, plain out
    product     the product as two sidecars; h11_only and unfamiliar are its command with short ways turned off
    peers/      the others, a room each
    floor       what the kernel and the cryptography alone take; pump and tls_memory are its programs
    stage       a temporary directory with a CA and identities made by the product's own command
    backend     what answers behind every pair; bulk is 100 MiB in either framing
    load        what asks in front: wrk, and transfers of bulk; stream is one that never ends
    steady      requests at a constant rate, whether they are answered or not
    processes   programs on cores, their CPU time, memory and end
    machine     what the figures were measured on and with
    results     samples as values, saved as JSON
    compare     medians, ratios paired by round, bounds kept or not
    table       the report as people read it; markdown the same for the README

How it is done, and why so, is in bench/README.md.
"""

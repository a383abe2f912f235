"""HTTP/1.1, judged before it is believed: bytes in, values out, and bytes again from nothing but those values.

    head      the values: heads, targets, framing, limits, and `BadMessage`, the one refusal
    guard     the lexical judge: which bytes a head may be made of (CRLF only, no controls, no folding, sizes)
    parse     from bytes to head values; h11 is the parser of record, the rooms below judge what it found
    fast_lane the common heads in one strict pass, read as guard, h11 and the rooms below would; the rest it declines
    target    the request target and the Host: which path is meant, and that there is only one reading of it
    framing   where a message ends (RFC 9112 section 6.3, read strictly)
    fields    which fields a proxy reads, which it only carries, and which are its own to say
    trace_context  the trace a request belongs to: kept, read from Zipkin's fields or begun; and whether it is sampled
    chunked   the chunked coding, decoded strictly
    codec     messages out of a stream of bytes
    writing   heads and chunks into bytes, and the last check that they will be read back as they were meant
    reply     the answers that are our own
    forwarded one request and its answer as they are passed on
    relay     the exchange as a machine: bytes in; bytes and needs out (asking: the caller's side of it; phase: its
              words; terms: what it asks)
    endings   the same machine's state, and how an exchange ends
    exchange  what became of one request, for its access line

Each question is answered in one room. Nothing here reads a clock, a socket or a random source.
"""

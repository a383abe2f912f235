"""Who we are and who the peer is: certificates as trio and ssl use them; what they mean is decided in `ca`.

material   one consistent, judged look at an identity directory
contexts   the SSLContexts made from it, once per change
store      the current identity, watched and swapped; expired or missing means refusing, and healing
peer       the judged leaf at the far end of a finished handshake
"""

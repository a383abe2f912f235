"""Who we are and who the peer is: certificates as trio and ssl use them; what they mean is decided in `ca`.

material   one consistent, judged look at an identity directory
trust_file what the CA said last of whom to believe, read from beside it
trust      that, judged part by part: a deny-list that is followed, partners, the bundle's number
federation the roots of other trust domains, and for whom an anchor may speak
contexts   the SSLContexts made from it all, once per change
own        the identity that comes of it, ready for handshakes
usable     whether it may be used now, and if not, what to do
store      what is in force, watched and swapped; expired, revoked or missing means refusing, and healing
peer       the judged leaf at the far end of a finished handshake, and what may be said against it later
sessions   all authenticated connections that are open, to be ended when their peer is believed no more
telling    what the log and the numbers say of all that
"""

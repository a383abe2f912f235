#!/bin/sh
# Makes the CA, if there is none yet, and a token for the identity in $1, once.
set -eu
if [ ! -d ca ]; then
    meshproxy ca init --dir ca --trust-domain example.test --no-passphrase
fi
if [ ! -e /tokens/token ]; then
    meshproxy ca token create "$1" --dir ca --ca ca:8440 --ttl 1h --out /tokens/token
fi

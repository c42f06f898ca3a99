#!/bin/sh
# Sets a price: price.sh 'Black Watch' 420. The pages show it at once. It needs curl, and no client of STOMP.
# The answer of the broker says that it has the request. A price that orders.py refuses is a dead letter.

set -eu
if [ $# -ne 2 ]; then
    echo "usage: price.sh TARTAN EUROS" >&2
    exit 64
fi
exec curl --fail-with-body -sS -H 'Persistent: true' \
    -d "{\"tartan\": \"$1\", \"price\": $2}" "http://${KILTSHOP_WEB:-127.0.0.1:15674}/queue/prices.set"

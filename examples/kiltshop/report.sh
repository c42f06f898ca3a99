#!/bin/sh
# Asks billing for the report of today. It needs curl, and no client of STOMP.
#
#   report.sh                   now; for every evening, a line of crontab(5):  55 23 * * *  /path/to/report.sh
#   report.sh '55 23 * * *'     once and for all: the broker keeps the request, and delivers it by this line

set -eu
queue=http://${KILTSHOP_WEB:-127.0.0.1:15674}/queue/billing.report

if [ $# -eq 0 ]; then
    # If the broker does not answer, curl tries again; the id makes the second request the same as the first.
    day=$(date +%F)
    exec curl --fail-with-body -sS --retry 5 --retry-connrefused \
        -H 'Persistent: true' -H "Dedup-Id: report-$day" -d "{\"day\": \"$day\"}" "$queue"
fi
exec curl --fail-with-body -sS \
    -H 'Persistent: true' -H "Dedup-Id: cron $1" -H "Cron: $1" -d '{}' "$queue"

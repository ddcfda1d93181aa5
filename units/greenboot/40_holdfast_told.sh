#!/bin/sh
# For /etc/greenboot/check/wanted.d: prints what came of the last recovery of each instance. It judges nothing.
for result in /var/lib/holdfast/recovery/*.result; do
    [ ! -e "$result" ] || cat "$result"
done

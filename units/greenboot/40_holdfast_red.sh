#!/bin/sh
# For /etc/greenboot/red.d: a boot was found bad. Lays a marker for each of HOLDFAST_INSTANCES (default: microshift);
# the next start of the daemon restores the newest fit set, if the unit does not run then.
asked=/var/lib/holdfast/recovery
(umask 077 && mkdir -p "$asked")
for instance in ${HOLDFAST_INSTANCES:-microshift}; do
    : >"$asked/$instance.asked"
    echo "holdfast is asked to recover $instance at its next start"
done

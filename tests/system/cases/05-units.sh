# What the package installs besides programs is understood by systemd, the journal and the bus.
# shellcheck shell=bash
# shellcheck source=tests/system/lib.sh
source /opt/tests/lib.sh

complaints=$(systemd-analyze verify --man=no holdfastd.service 2>&1) || fail "systemd-analyze verify: $complaints"
is "$complaints" "" "what systemd-analyze verify says"
complaints=$(systemd-analyze verify --man=no holdfast-recover@shop.service 2>&1) || fail "systemd-analyze verify: $complaints"
is "$complaints" "" "what systemd-analyze verify says of the unit that recovers"

systemd-analyze security --offline=true --threshold=35 /usr/lib/systemd/system/holdfastd.service >/dev/null ||
    fail "the unit's exposure is above 3.5"

for id in 01 02 03 04 05 06; do
    has "$(journalctl --catalog --list-catalog "7b1a5e0c4d9f4c0f8a3e6d2b9c5f1e$id")" Holdfast "message $id in the catalogue"
done

getent group holdfast >/dev/null || fail "the group holdfast is not there"
is "$(stat -c '%a %U' /etc/holdfast/secrets)" "700 root" "mode and owner of the directory of secrets"
has "$(busctl list --no-legend --activatable)" "$bus_name" "activatable names"

refused=$(runuser -u nobody -- busctl call org.freedesktop.DBus /org/freedesktop/DBus org.freedesktop.DBus RequestName su \
    "$bus_name" 0 2>&1) && fail "nobody could take the daemon's name"
has "${refused,,}" "access denied" "the refusal of the name"

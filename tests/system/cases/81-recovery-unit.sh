# What is shipped as holdfast-recover@.service, named by OnFailure=: with a daemon that watches as well there is one recovery,
# without one it is done alone. And who may ask for one.
# shellcheck shell=bash
# shellcheck source=tests/system/lib.sh
source /opt/tests/lib.sh
fresh_machine
failing_service "OnFailure=holdfast-recover@shop.service"
systemctl start holdfastd.service
for set in one two three four five; do save "$set"; done

recoveries() { holdfast history --json | jq '[.[] | select(.Kind == "recover" and .Outcome == "succeeded")] | length'; }

helper_ended() { [[ $(systemctl show --property=ActiveState --value holdfast-recover@shop.service) == inactive ]]; }

# ended SCENARIO SET SINCE: the service runs on that set, and so did the unit.
ended() {
    until_true 60 "$1" is_back "$2"
    measure "$1" "$2" "$3"
    until_true 60 "the unit for OnFailure= in: $1" helper_ended
    is "$(systemctl show --property=Result --value holdfast-recover@shop.service)" success "the unit for OnFailure= in: $1"
}

corrupt
ended "OnFailure= and a daemon that watches" five "$corrupted"
is "$(recoveries)" 1 "recoveries by watch and unit together"

# Who is not root can do nothing, with a daemon and without.
code=0
said=$(runuser -u nobody -- holdfast recover shop 2>&1) || code=$?
((code == 4 || code == 5)) || fail "recover as nobody exits $code: $said"
code=0
said=$(runuser -u nobody -- holdfast recover shop --no-daemon 2>&1) || code=$?
is "$code" 5 "the exit code of recover --no-daemon as nobody ($said)"
is "$(recoveries)" 1 "recoveries after nobody asked"
said=$(holdfast recover shop --no-daemon 2>&1) && fail "recover --no-daemon beside a daemon exits 0: $said"
has "$said" "only while no daemon does" "recover --no-daemon beside a daemon"

# What runs is left alone, whoever asks.
said=$(holdfast recover shop 2>&1) || fail "recover of what runs exits $?: $said"
has "$said" "shop.service runs; nothing was touched" "recover of what runs"
is "$(cat /srv/shop/data)" "good five" "the data of what runs"

# The daemon is stopped: the unit asks on the bus, and that starts it. Still one recovery.
before=$(recoveries)
until_true 30 "the end of all jobs" idle
systemctl stop holdfastd.service
corrupt_now
ended "OnFailure=, the daemon stopped" four "$corrupted"
is "$(systemctl is-active holdfastd.service)" active "the daemon, which the bus starts"
is "$(recoveries)" $((before + 1)) "recoveries with a daemon that the bus starts"

# There is no daemon, and none can be started.
until_true 30 "the end of all jobs" idle
before=$(recoveries)
systemctl mask --runtime --now holdfastd.service 2>/dev/null
corrupt_now
ended "OnFailure=, no daemon" three "$corrupted"
is "$(systemctl is-active holdfastd.service || true)" inactive "the daemon"
has "$(journalctl --unit=holdfast-recover@shop.service --output=cat)" "no holdfast daemon answers" "its journal"

# Restored and neither stopped nor started; the failed data is not kept.
systemctl stop holdfast-recover@shop.service
# A drop-in cannot take OnFailure= away; without this the unit would be there first, now and then.
systemctl mask --runtime --quiet holdfast-recover@shop.service
corrupt_now
until_true 30 "the failure" systemctl is-failed --quiet shop.service
kept=$(find /var/lib/holdfast/failed/shop -mindepth 1 -maxdepth 1 | wc -l)
holdfast recover shop --no-daemon --no-start --dont-save-failed || fail "recover --no-start exits $?"
is "$(cat /srv/shop/data)" "good two" "the data after --no-start"
is "$(systemctl is-active shop.service || true)" failed "the service after --no-start"
is "$(find /var/lib/holdfast/failed/shop -mindepth 1 -maxdepth 1 | wc -l)" "$kept" "what is kept after --dont-save-failed"
measure "by hand, --no-daemon --no-start --dont-save-failed" two "$corrupted" "nothing"

# The daemon sees what was done without it.
systemctl unmask --runtime holdfastd.service holdfast-recover@shop.service
systemctl daemon-reload
systemctl start shop.service holdfastd.service
is "$(recoveries)" $((before + 2)) "recoveries that the daemon knows of"
systemctl stop shop.service
print_measures

# A service whose data is corrupted comes back with its data; again, on an older set; then there is an alarm.
# shellcheck shell=bash
# shellcheck source=tests/system/lib.sh
source /opt/tests/lib.sh
fresh_machine
failing_service "Description=A shop"
since=$(date +%s)

alarms() { journalctl --since="@$since" --output=cat MESSAGE_ID=7b1a5e0c4d9f4c0f8a3e6d2b9c5f1e06; }

alarmed() { [[ -n $(alarms) ]]; }

systemctl start holdfastd.service
printf '0.9\n' >/srv/shop-version
save "of another version"
printf '1.0\n' >/srv/shop-version
save one
save two

corrupt
until_true 30 "the newest set" is_back two
measure "corrupted" two "$corrupted"
has "$(journalctl --since="@$since" --output=cat _COMM=holdfastd)" "shop.service has failed; snapshot" "the journal"
kept=(/srv/.holdfast-*/*)
grep -rqs '^corrupt' "${kept[@]}" /srv/shop/.holdfast-* || fail "the data that failed is not kept"

corrupt
until_true 30 "the older set" is_back one
measure "corrupted again" one "$corrupted"
alarmed && fail "an alarm too early: $(alarms)"

corrupt
until_true 30 "the alarm" alarmed
has "$(alarms)" "no set of version 1.0 is left to restore: 1 other version, 2 restored" "the alarm"
is "$(cat /srv/shop/data)" corrupt "the data after the alarm"
is "$(systemctl is-active shop.service || true)" failed "the unit after the alarm"
measure "third time: an alarm, and a set of another version" nothing -

# A set that is made now is of a sick application, and not used.
is "$(outcome_of "$(job_id "$(run_backup shop)")")" succeeded "the backup of sick data"
said=$(holdfast recover shop 2>&1) && fail "recover exits 0 without a set: $said"
has "$said" "1 taken while unhealthy" "why there is no set"
measure "a set that was made of the sick service" nothing -

# What runs is left alone.
printf 'good by hand\n' >/srv/shop/data
systemctl restart shop.service
holdfast recover shop || fail "recover of what runs exits $?"
is "$(cat /srv/shop/data)" "good by hand" "the data of what runs"
measure "it runs" nothing -

# The daemon is killed and the unit fails meanwhile: its next start sees that.
save three
save four
systemctl kill --signal=KILL holdfastd.service
corrupt_now
until_true 60 "the newest set after a kill" is_back four
measure "corrupted while the daemon is dead" four "$corrupted"
until_true 30 "the end of all jobs" idle
systemctl stop shop.service

# The version is another one now: all there is are sets of the old one, and none is used.
printf '2.0\n' >/srv/shop-version
systemctl start shop.service
before=$(alarms | wc -l)
more_alarms() { (($(alarms | wc -l) > before)); }
corrupt
until_true 30 "the alarm for another version" more_alarms
has "$(alarms | tail -n 1)" "no set of version 2.0 is left to restore: " "the alarm for another version"
is "$(cat /srv/shop/data)" corrupt "the data of another version"
measure "a new version, with sets of the old one" nothing -

# The first set of it is.
save five
corrupt
until_true 60 "the set of the new version" is_back five
measure "a new version, with a set of its own" five "$corrupted"

# The data is gone altogether.
save six
until_true 30 "the end of all jobs" idle
corrupted=$(milliseconds)
rm -rf /srv/shop
until_true 60 "the set after the directory went" is_back six
measure "the directory is gone" six "$corrupted"

# Killed while the set is fetched.
save seven
cat >/usr/local/bin/held-restic <<'WRAPPER'
#!/bin/sh
if [ "$1" = restore ] && [ -e /run/held ]; then
    touch /run/fetching
    while [ -e /run/held ]; do sleep 0.1; done
fi
exec /usr/bin/restic "$@"
WRAPPER
chmod 755 /usr/local/bin/held-restic
sed -i '1i [daemon]\nrestic = "/usr/local/bin/held-restic"\n' /etc/holdfast/conf.d/shop.toml
until_true 30 "the end of all jobs" idle
systemctl restart holdfastd.service
touch /run/held
corrupt
until_true 30 "the fetch" test -e /run/fetching
systemctl kill --signal=KILL holdfastd.service
rm /run/held
until_true 60 "the set after a kill in the fetch" is_back seven
measure "the daemon is killed while it fetches" seven "$corrupted"
until_true 30 "the end of all jobs" idle
systemctl stop shop.service
print_measures

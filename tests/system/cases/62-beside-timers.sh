# The schedule beside systemd's own timer on one machine: reloads at the slot, downtime over slots, another time zone.
# What the timer does is printed, for the table in README; what is asserted is ours.
# shellcheck shell=bash
# shellcheck source=tests/system/lib.sh
source /opt/tests/lib.sh
fresh_machine
wiki_instance
rm -f /run/side /var/lib/systemd/timers/stamp-side.timer
cat >/run/systemd/system/side.service <<'UNIT'
[Service]
Type=oneshot
ExecStart=/bin/sh -c 'date +%%s >>/run/side'
UNIT
cat >/run/systemd/system/side.timer <<'UNIT'
[Timer]
OnCalendar=*:*:0/5
AccuracySec=1us
Persistent=true
UNIT
cat >/etc/holdfast/conf.d/often.toml <<'TOML'
[backup.often]
repositories = ["main"]
instances = ["wiki1"]
schedule = "*:*:0/5"

[backup.nightly]
repositories = ["main"]
instances = ["wiki1"]
schedule = "02:30"
TOML
zone=$(readlink /etc/localtime || true)
end() {
    systemctl stop side.timer
    rm -f /run/systemd/system/side.* /etc/localtime
    [[ -z $zone ]] || ln -s "$zone" /etc/localtime
    systemctl daemon-reload
}
trap end EXIT
# A zone that stays as it is, nine hours ahead of UTC: the machine has no zone data of its own.
mkdir -p /usr/share/zoneinfo
echo 'Zone Test/East 9:00 - EAST' | zic -d /usr/share/zoneinfo -
systemctl daemon-reload
systemctl start holdfastd.service side.timer

# next_run NAME: in seconds.
next_run() {
    busctl --json=short get-property "$bus_name" "/org/holdfast/Backup1/backup/$1" "$bus_name.Backup" NextRun |
        jq '.data / 1000000 | floor'
}

# rows CAUSE: when runs of that cause were asked for, in seconds, oldest first.
rows() {
    busctl --json=short call "${manager[@]}" ListJobs 'a{sv}' 1 subject s often |
        jq -r --arg cause "$1" '.data[0] | reverse | .[] | select(.Cause.data == $cause) | .Queued.data / 1000000 | floor'
}
slots() { awk '{print int($1 / 5)}'; }
doubled() { slots | sort -n | uniq -d | wc -l; }
missing() { slots | sort -nu | awk 'NR > 1 {lost += $1 - before - 1} {before = $1} END {print lost + 0}'; }

# Reloads, again and again, over three slots or more.
deadline=$((SECONDS + 17))
while ((SECONDS < deadline)); do
    systemctl daemon-reload
    systemctl reload holdfastd.service
done
ours=$(rows schedule) theirs=$(cat /run/side)
echo "reloads around slots: timer: $(wc -l <<<"$theirs") runs, $(doubled <<<"$theirs") slots twice, $(missing <<<"$theirs") lost;" \
    "holdfast: $(wc -l <<<"$ours") runs, $(doubled <<<"$ours") twice, $(missing <<<"$ours") lost"
is "$(doubled <<<"$ours") $(missing <<<"$ours")" "0 0" "slots twice and lost over reloads"
(($(wc -l <<<"$ours") >= 3)) || fail "too few runs: $ours"

# Down over at least two slots, and started right behind one.
systemctl stop side.timer holdfastd.service
: >/run/side
sleep 11
sleep "$((6 - EPOCHSECONDS % 5))"
start=$EPOCHSECONDS
systemctl start side.timer holdfastd.service
within() { awk -v from="$start" '$1 >= from && $1 < from + 3' | wc -l; }
made_up_for() { (($({ rows schedule; rows catch-up; } | within) > 0)); }
until_true 20 "the run for what was missed" made_up_for
ours=$({ rows schedule; rows catch-up; } | within)
echo "down over slots: timer (Persistent): $(within </run/side) run at once; holdfast: $ours"
is "$ours" 1 "runs for what was missed"
systemctl stop side.timer

# Another zone: told within a minute.
before=$(next_run nightly)
ln -sfn ../usr/share/zoneinfo/Test/East /etc/localtime
changed() { [[ $(next_run nightly) != "$before" ]]; }
until_true 60 "the next run in another zone" changed
is "$(date --utc -d "@$(next_run nightly)" +%H:%M)" 17:30 "the time of the next run, half past two in a zone nine hours ahead"

# `systemctl status` says what is going on: what comes next, what runs, paused, stopping; a reload tells its findings.
# shellcheck shell=bash
# shellcheck source=tests/system/lib.sh
source /opt/tests/lib.sh
fresh_machine
wiki_instance
systemctl start holdfastd.service
status() { systemctl show --value --property=StatusText holdfastd.service; }
says() { [[ $(status) == *"$1"* ]]; }
until_true 10 "'idle, nothing scheduled'" says "idle, nothing scheduled"

sed -i '/^retention = 3/a schedule = "yearly"' /etc/holdfast/conf.d/mybackup.toml
systemctl reload holdfastd.service
until_true 10 "'idle, next mybackup in'" says "idle, next mybackup in "
next=$(busctl --json=short get-property "$bus_name" /org/holdfast/Backup1/backup/mybackup "$bus_name.Backup" NextRun | jq .data)
((next > $(date +%s) * 1000000)) || fail "the next run is not to come: $next"

touch "$home/state/hold"
job=$(job_id "$(run_backup mybackup)")
until_true 10 "'1 running, next mybackup in'" says "1 running, next mybackup in "
rm "$home/state/hold"
is "$(outcome_of "$job")" succeeded "the outcome"
until_true 10 "'idle' again" says "idle, next mybackup in "

holdfast pause || fail "holdfast pause exits $?"
until_true 10 "'paused'" says "paused until"
holdfast resume || fail "holdfast resume exits $?"
until_true 10 "'idle' after the pause" says "idle, next mybackup in "

# A reload is over when the new definitions are active, and says what is wrong and where.
printf '[backup.other]\nrepositores = ["main"]\n' >/etc/holdfast/conf.d/other.toml
findings=$(busctl --json=short call "${manager[@]}" Reload | jq -r '.data[0][]')
has "$findings" "conf.d/other.toml:2:1" "the diagnostics"
has "$findings" "did you mean" "the diagnostics"
said=$(holdfast reload 2>&1) && fail "holdfast reload of a broken file exits 0"
has "$said" "conf.d/other.toml:2:1" "holdfast reload"
# By signal as well, as a process that knows nothing of the bus would do it.
rm /etc/holdfast/conf.d/other.toml
sed -i 's/"yearly"/"monthly"/' /etc/holdfast/conf.d/mybackup.toml
systemctl kill --kill-who=main --signal=HUP holdfastd.service
sooner() {
    [[ $(busctl --json=short get-property "$bus_name" /org/holdfast/Backup1/backup/mybackup "$bus_name.Backup" Schedule | jq -r .data) == monthly ]]
}
until_true 10 "the new schedule" sooner
is "$(systemctl is-active holdfastd.service)" active "the service"

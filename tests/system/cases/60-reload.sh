# A reload takes what is good at once; a broken file keeps its last good definitions and is named in the journal.
# shellcheck shell=bash
# shellcheck source=tests/system/lib.sh
source /opt/tests/lib.sh
fresh_machine
wiki_instance
systemctl start holdfastd.service
is "$(busctl --json=short call "${manager[@]}" Reload | jq -c '.data[0]')" "[]" "the diagnostics of a good configuration"

sed 's/^retention = 3/retention = "three"/' -i /etc/holdfast/conf.d/mybackup.toml
printf '[backup.another]\nrepositories = ["main"]\ninstances = ["wiki1"]\n' >/etc/holdfast/conf.d/another.toml
since=$(date '+%Y-%m-%d %H:%M:%S')
systemctl reload holdfastd.service || true
is "$(systemctl is-active holdfastd.service)" active "the service after a reload of a broken file"
journalctl --sync
has "$(journalctl --quiet --output=cat --unit=holdfastd.service --since="$since")" "mybackup.toml" "the journal"

is "$(outcome_of "$(job_id "$(run_backup mybackup)")")" succeeded "the backup in the broken file"
busctl get-property "$bus_name" /org/holdfast/Backup1/backup/another "$bus_name.Backup" Enabled >/dev/null ||
    fail "the good new file was not taken"

sed 's/^retention = "three"/retention = 4/' -i /etc/holdfast/conf.d/mybackup.toml
systemctl reload holdfastd.service
is "$(busctl --json=short call "${manager[@]}" Reload | jq -c '.data[0]')" "[]" "the diagnostics after the repair"

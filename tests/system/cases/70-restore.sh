# The loop closes: backup, everything lost, one command, everything as it was: bytes, owners, modes, links.
# shellcheck shell=bash
# shellcheck source=tests/system/lib.sh
source /opt/tests/lib.sh
fresh_machine
wiki_instance
systemctl start holdfastd.service
before=$(listing "$home/state/data" /srv/wiki1/pages)
is "$(outcome_of "$(job_id "$(run_backup mybackup)")")" succeeded "the backup"

rm -rf "$home"/state/data
find /srv/wiki1/pages -mindepth 1 -delete
printf 'wrong\n' >/srv/wiki1/pages/front

holdfast restore wiki1 --yes || fail "holdfast restore exits $?"
after=$(listing "$home/state/data" /srv/wiki1/pages)
diff <(printf '%s\n' "$before") <(printf '%s\n' "$after") || fail "not the same as before"
is "$(stat -c %U "$home/state")" wiki1 "the owner of the state directory"
is "$(busctl get-property "${manager[@]}" ActiveJobs)" "u 0" "active jobs in the end"

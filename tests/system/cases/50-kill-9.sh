# Killed in the middle of restic: systemd starts the daemon again, the job is interrupted, and the next one succeeds.
# shellcheck shell=bash
# shellcheck source=tests/system/lib.sh
source /opt/tests/lib.sh
fresh_machine
slow_restic
wiki_instance
systemctl start holdfastd.service
is "$(outcome_of "$(job_id "$(run_backup mybackup)")")" succeeded "the first backup"

restarted() {
    [[ $(systemctl show --value --property=NRestarts holdfastd.service) -ge 1 &&
        $(systemctl is-active holdfastd.service) == active ]]
}

head -c 8000000 /dev/urandom >/srv/wiki1/pages/big
touch /run/slow
job=$(job_id "$(run_backup mybackup)")
until_true 30 "restic at work" has_lock
orphan=$(pgrep -x restic)
systemctl kill --kill-who=main --signal=KILL holdfastd.service
until_true 30 "the restart" restarted
rm -f /run/slow

until_true 10 "an outcome of the job" job_ended "$job"
is "$(job_row "$job" Outcome)" interrupted "the outcome of the killed job"
! kill -0 "$orphan" 2>/dev/null || fail "restic outlived the daemon"
journalctl --sync
[[ -n $(journalctl --quiet --output=cat "HOLDFAST_JOB=$job" MESSAGE_ID=7b1a5e0c4d9f4c0f8a3e6d2b9c5f1e04) ]] ||
    fail "no line says that the job was interrupted"
[[ ! -e $home/state/dump.txt ]] || fail "what the dump left was not cleaned up"

is "$(outcome_of "$(job_id "$(run_backup mybackup)")")" succeeded "the next backup"
is "$(locks)" "" "locks in the repository"

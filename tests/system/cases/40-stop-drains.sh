# Stopped in the middle of a job, in a hook or in restic, the service ends in time and in order.
# shellcheck shell=bash
# shellcheck source=tests/system/lib.sh
source /opt/tests/lib.sh
fresh_machine
slow_restic
wiki_instance
systemctl start holdfastd.service
is "$(outcome_of "$(job_id "$(run_backup mybackup)")")" succeeded "the first backup"

# stop_and_check JOB: what must hold after `systemctl stop`, and after the next start.
stop_and_check() {
    local job=$1 started=$SECONDS
    systemctl stop holdfastd.service
    ((SECONDS - started < 75)) || fail "the stop took $((SECONDS - started)) s"
    is "$(systemctl show --value --property=Result holdfastd.service)" success "the result of the stop"
    no_process_of_wiki1 || fail "the hook outlived the daemon"
    ! pgrep -x restic >/dev/null || fail "restic outlived the daemon"
    is "$(locks)" "" "locks in the repository"
    rm -f "$home/state/hold" /run/slow
    systemctl start holdfastd.service
    until_true 30 "an outcome of the job" job_ended "$job"
    [[ $(job_row "$job" Outcome) =~ ^(cancelled|interrupted)$ ]] || fail "outcome: $(job_row "$job" Outcome)"
    is "$(busctl get-property "${manager[@]}" ActiveJobs)" "u 0" "active jobs after the start"
    [[ ! -e $home/state/dump.txt ]] || fail "no cleanup hook ran"
}

touch "$home/state/hold"
job=$(job_id "$(run_backup mybackup)")
until_true 30 "the hook" test -e "$home/state/held"
stop_and_check "$job"

head -c 8000000 /dev/urandom >/srv/wiki1/pages/big
touch /run/slow
job=$(job_id "$(run_backup mybackup)")
until_true 30 "restic at work" has_lock
stop_and_check "$job"

is "$(outcome_of "$(job_id "$(run_backup mybackup)")")" succeeded "the backup after all that"

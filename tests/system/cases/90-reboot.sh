# The machine is rebooted while a hook runs and a service is stopped: at shutdown the hook is asked to end, cleanup runs, the
# job has its outcome; the daemon comes up by itself, the service runs and the next backup succeeds.
# shellcheck shell=bash
# shellcheck disable=SC2016 # written for another shell
# shellcheck source=tests/system/lib.sh
source /opt/tests/lib.sh
marker=/opt/tests/rebooted

if [[ ! -e $marker ]]; then
    fresh_machine
    wiki_instance
    stopped_service
    # A journal that outlives the boot.
    mkdir -p /var/log/journal
    systemctl restart systemd-journald.service
    journalctl --flush
    cat >"$home/state/more" <<'HOOK'
# systemd looks again for processes that it has not signalled: what the trap runs is not to be one of them.
trap 'trap "" INT; echo asked to end; sleep 1; echo cleared up; exit 130' INT
touch "$AGENT_STATE_DIR/held"
while [[ ! -e $AGENT_STATE_DIR/go ]]; do sleep 0.1; done
HOOK
    systemctl enable holdfastd.service
    systemctl start app.socket app.service holdfastd.service
    job=$(job_id "$(run_backup mybackup)")
    until_true 30 "the hook" test -e "$home/state/held"
    printf '%s\n' "$job" >"$marker"
    systemctl reboot
    sleep 60
    exit 1
fi

job=$(<"$marker")
rm "$marker"
runs() { systemctl is-active --quiet app.service && systemctl is-active --quiet app.socket; }
until_true 30 "service and socket after the reboot" runs
[[ ! -e $home/state/dump.txt ]] || fail "what the dump left was not cleaned up before or after the reboot"
said=$(journalctl --quiet --output=cat "HOLDFAST_JOB=$job")
has "$said" "asked to end" "the hook at shutdown"
has "$said" "cleared up" "the hook at shutdown"
has "$said" "cleanup_state: cleaned up" "the cleanup hook at shutdown"
is "$(systemctl is-active holdfastd.service)" active "the service after the reboot"
is "$(job_row "$job" Outcome)" cancelled "the outcome of the job"
is "$(busctl get-property "${manager[@]}" ActiveJobs)" "u 0" "active jobs after the reboot"
is "$(ls /var/lib/holdfast/undo 2>/dev/null)" "" "undo steps that are left"
touch "$home/state/go"
is "$(outcome_of "$(job_id "$(run_backup mybackup)")")" succeeded "the backup after the reboot"

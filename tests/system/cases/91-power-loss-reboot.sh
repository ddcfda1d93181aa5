# The machine loses its power in the middle of a backup, while a service is stopped for it: after the boot the service runs,
# though nothing but the daemon would start it, what the dump left is gone, and the job is interrupted.
# shellcheck shell=bash
# shellcheck source=tests/system/lib.sh
source /opt/tests/lib.sh
marker=/opt/tests/rebooted

if [[ ! -e $marker ]]; then
    fresh_machine
    wiki_instance
    stopped_service
    touch "$home/state/hold"
    systemctl enable holdfastd.service
    systemctl start app.socket app.service holdfastd.service
    job=$(job_id "$(run_backup mybackup)")
    until_true 30 "the hook" test -e "$home/state/held"
    is "$(systemctl is-active app.service app.socket | tr '\n' ' ')" "inactive inactive " "service and socket in the backup"
    printf '%s\n' "$job" >"$marker"
    # Twice: at once, without a word to anybody.
    systemctl reboot --force --force
    sleep 60
    exit 1
fi

job=$(<"$marker")
rm "$marker"
rm -f "$home/state/hold"
runs() { systemctl is-active --quiet app.service && systemctl is-active --quiet app.socket; }
until_true 30 "service and socket after the boot" runs
is "$(systemctl is-enabled app.service 2>/dev/null || true)" static "what else could have started the service"
is "$(systemctl is-active holdfastd.service)" active "the daemon after the boot"
until_true 30 "an outcome of the job" job_ended "$job"
is "$(job_row "$job" Outcome)" interrupted "the outcome of the job"
[[ ! -e $home/state/dump.txt ]] || fail "what the dump left is still there"
is "$(ls /var/lib/holdfast/undo 2>/dev/null)" "" "undo steps that are left"
is "$(outcome_of "$(job_id "$(run_backup mybackup)")")" succeeded "the backup after the boot"
runs || fail "service and socket do not run after the backup"

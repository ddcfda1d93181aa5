# Killed while a hook runs that ignores every request: the hook is gone before anything is undone, by the unit's own
# ExecStopPost=, and without that by the next daemon.
# shellcheck shell=bash
# shellcheck source=tests/system/lib.sh
source /opt/tests/lib.sh
fresh_machine
wiki_instance
cat >"$home/state/more" <<'HOOK'
trap '' INT TERM HUP
echo $$ >"$AGENT_STATE_DIR/data/pid"
HOOK
cat >"$home/bin/module-cleanup-state" <<'HOOK'
#!/bin/bash
rm -f "$AGENT_STATE_DIR/dump.txt" "$AGENT_STATE_DIR/held"
pid=$(cat "$AGENT_STATE_DIR/data/pid")
if kill -0 "$pid"; then echo "the dump still runs" >"$AGENT_STATE_DIR/data/order"; else echo fine >"$AGENT_STATE_DIR/data/order"; fi
HOOK
systemctl start holdfastd.service

restarts() { systemctl show --value --property=NRestarts holdfastd.service; }
restarted() { [[ $(restarts) -gt $1 && $(systemctl is-active holdfastd.service) == active ]]; }

kill_in_hook() {
    local job before
    before=$(restarts)
    rm -f "$home/state/data/order" "$home/state/data/pid"
    touch "$home/state/hold"
    job=$(job_id "$(run_backup mybackup)")
    until_true 30 "the hook" test -e "$home/state/held"
    systemctl kill --kill-who=main --signal=KILL holdfastd.service
    until_true 30 "the restart" restarted "$before"
    until_true 30 "an outcome of the job" job_ended "$job"
    is "$(job_row "$job" Outcome)" interrupted "the outcome of the killed job"
    is "$(cat "$home/state/data/order")" fine "the dump when cleanup ran"
    [[ ! -e $home/state/dump.txt ]] || fail "what the dump left was not cleaned up"
    is "$(hook_units)" "" "units in the end"
    rm -f "$home/state/hold"
}

kill_in_hook
mkdir -p /run/systemd/system/holdfastd.service.d
printf '[Service]\nExecStopPost=\n' >/run/systemd/system/holdfastd.service.d/no-stop-post.conf
systemctl daemon-reload
systemctl restart holdfastd.service
kill_in_hook
journalctl --sync
has "$(journalctl --quiet --output=cat --unit=holdfastd.service --lines=50)" "which an earlier daemon left" "the journal"
rm -r /run/systemd/system/holdfastd.service.d
systemctl daemon-reload

# Services of an instance under the real systemd: stopped for the snapshot with the socket that would start them again,
# started afterwards, also after kill -9; what was stopped by hand stays so; what does not stop is no reason to lose it.
# shellcheck shell=bash
# shellcheck source=tests/system/lib.sh
source /opt/tests/lib.sh
fresh_machine
wiki_instance
cat >/run/systemd/system/app.service <<'UNIT'
[Service]
ExecStart=/bin/sleep infinity
TimeoutStopSec=15
UNIT
cat >/run/systemd/system/app.socket <<'UNIT'
[Socket]
ListenStream=/run/app.sock
UNIT
cat >>/etc/holdfast/conf.d/mybackup.toml <<'TOML'

[[instance.wiki1.service]]
manager = "systemd"
units = ["app.service"]
require_healthy = true
stop_timeout = "2s"
TOML
end() {
    systemctl unmask --quiet app.service
    systemctl kill --signal=KILL app.service 2>/dev/null || true
    systemctl stop app.socket app.service
    rm -f /run/systemd/system/app.*
    systemctl daemon-reload
}
trap end EXIT
systemctl daemon-reload
systemctl start app.socket app.service holdfastd.service
both() { systemctl is-active app.service app.socket | tr '\n' ' ' || true; }
running() { [[ $(both) == "active active " ]]; }

# shellcheck disable=SC2016 # written for the hook
printf '%s\n' 'systemctl is-active app.service app.socket >"$AGENT_STATE_DIR/seen" || true' >"$home/state/more"
is "$(outcome_of "$(job_id "$(run_backup mybackup)")")" succeeded "the outcome"
is "$(tr '\n' ' ' <"$home/state/seen")" "inactive inactive " "service and socket during the dump"
is "$(both)" "active active " "service and socket after the backup"
journalctl --sync
mapfile -t told < <(journalctl --unit=holdfastd --output=cat | grep -E 'services were stopped in|was down for' | tail -n 2)
is "${#told[@]}" 2 "what the journal says of the time that they were down"
printf 'MEASURED: %s\n' "${told[@]}"

# The daemon dies while they are stopped: the next start of the daemon starts them.
touch "$home/state/hold"
run_backup mybackup >/dev/null
until_true 20 "the hook" test -e "$home/state/held"
is "$(both)" "inactive inactive " "service and socket while the hook holds"
systemctl kill --kill-who=main --signal=KILL holdfastd.service
until_true 30 "service and socket after kill -9" running
rm -f "$home/state/hold"
until_true 30 "the daemon" busctl get-property "${manager[@]}" Version
is "$(ls /var/lib/holdfast/undo 2>/dev/null)" "" "undo steps that are left"

# One that does not stop in time: no snapshot, and it runs.
sed -i "s|^ExecStart=.*|ExecStart=/bin/bash -c 'trap \"\" TERM; while :; do sleep 1; done'|" /run/systemd/system/app.service
systemctl daemon-reload
systemctl restart app.service
job=$(job_id "$(run_backup mybackup)")
is "$(outcome_of "$job")" failed "a backup whose service does not stop"
has "$(job_row "$job" Error)" "app.service" "the error"
until_true 30 "service and socket after a stop that failed" running

# One that is masked could not be started again, so it is not stopped.
systemctl mask --quiet app.service
failed_with "$(job_id "$(run_backup mybackup)")" "app.service is masked"
is "$(both)" "active active " "service and socket, the one masked"
systemctl unmask --quiet app.service

# Stopped by hand: `require_healthy` refuses; without it, it stays stopped.
systemctl kill --signal=KILL app.service
systemctl stop app.socket app.service
failed_with "$(job_id "$(run_backup mybackup)")" "app.service is not healthy"
sed -i '/^require_healthy/d' /etc/holdfast/conf.d/mybackup.toml
systemctl reload holdfastd.service
is "$(outcome_of "$(job_id "$(run_backup mybackup)")")" succeeded "a backup with a service that was stopped by hand"
! systemctl is-active --quiet app.service || fail "what was stopped by hand was started"

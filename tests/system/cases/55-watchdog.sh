# The watchdog is fed while all is well; a daemon that hangs is ended and started anew, and its job is interrupted.
# shellcheck shell=bash
# shellcheck source=tests/system/lib.sh
source /opt/tests/lib.sh
fresh_machine
wiki_instance
mkdir -p /run/systemd/system/holdfastd.service.d
printf '[Service]\nWatchdogSec=2\n' >/run/systemd/system/holdfastd.service.d/soon.conf
systemctl daemon-reload
systemctl start holdfastd.service
touch "$home/state/hold"
job=$(job_id "$(run_backup mybackup)")
until_true 30 "the hook" test -e "$home/state/held"

main=$(systemctl show --value --property=MainPID holdfastd.service)
# Two and a half intervals: unfed it would be gone.
sleep 5
is "$(systemctl show --value --property=MainPID holdfastd.service)" "$main" "the process after two intervals"

kill -STOP "$main"
anew() { [[ $(systemctl show --value --property=NRestarts holdfastd.service) == 1 && $(systemctl is-active holdfastd.service) == active ]]; }
until_true 60 "the restart" anew
journalctl --sync
has "$(journalctl --quiet --output=cat --unit=holdfastd.service)" "Watchdog timeout" "the journal"
rm -f "$home/state/hold"
until_true 30 "an outcome of the job" job_ended "$job"
is "$(job_row "$job" Outcome)" interrupted "the outcome of the job"
is "$(hook_units)" "" "units in the end"
[[ ! -e $home/state/dump.txt ]] || fail "what the dump left was not cleaned up"
rm -r /run/systemd/system/holdfastd.service.d
systemctl daemon-reload

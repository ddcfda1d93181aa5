# A second daemon is refused and harms nothing; what only a person can mend ends the service instead of a loop of starts.
# shellcheck shell=bash
# shellcheck source=tests/system/lib.sh
source /opt/tests/lib.sh
fresh_machine
systemctl start holdfastd.service
main=$(systemctl show --value --property=MainPID holdfastd.service)

said=$(holdfastd 2>&1) && fail "a second daemon ended well"
has "$said" "another holdfastd (process $main)" "what a second daemon says"
# With a state of its own, it is the name on the bus that is taken.
said=$(timeout 20 holdfastd --state /tmp/second/state --cache /tmp/second/cache --runtime /tmp/second/run 2>&1) &&
    fail "a second daemon with a state of its own ended well"
has "$said" "$bus_name" "what a second daemon on the same bus says"
rm -rf /tmp/second
is "$(systemctl show --value --property=MainPID holdfastd.service)" "$main" "the first daemon"
is "$(busctl call "${manager[@]}" ListJobs 'a{sv}' 0)" "aa{sv} 0" "the first daemon's answer"
is "$(systemctl show --value --property=NRestarts holdfastd.service)" 0 "restarts of the first daemon"

mkdir -p /run/systemd/system/holdfastd.service.d
printf '[Service]\nInaccessiblePaths=/usr/bin/setpriv\n' >/run/systemd/system/holdfastd.service.d/broken.conf
systemctl daemon-reload
systemctl stop holdfastd.service
systemctl start holdfastd.service && fail "the service started without setpriv"
has "$(journalctl --quiet --output=cat --unit=holdfastd.service --lines=20)" "setpriv" "the journal"
is "$(systemctl show --value --property=ExecMainStatus holdfastd.service)" 78 "the exit code"
is "$(systemctl is-failed holdfastd.service)" failed "the service"
# Longer than RestartSec.
sleep 4
is "$(systemctl is-failed holdfastd.service)" failed "the service after a while"
is "$(systemctl show --value --property=NRestarts holdfastd.service)" 0 "restarts"
rm -r /run/systemd/system/holdfastd.service.d
systemctl daemon-reload
systemctl reset-failed holdfastd.service

# Without restic it runs, answers and says so: it may be installed any time.
printf '[daemon]\nrestic = "/usr/bin/no-restic"\n' >/etc/holdfast/holdfast.toml
systemctl start holdfastd.service
is "$(systemctl is-active holdfastd.service)" active "the service without restic"

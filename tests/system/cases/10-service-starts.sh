# Installed and started with nothing configured, the daemon is ready, says so, and answers.
# shellcheck shell=bash
# shellcheck source=tests/system/lib.sh
source /opt/tests/lib.sh
fresh_machine

systemctl start holdfastd.service
is "$(systemctl is-active holdfastd.service)" active "the service"
status=$(systemctl show --value --property=StatusText holdfastd.service)
[[ -n $status ]] || fail "no status line in systemctl status"
is "$(busctl call "${manager[@]}" ListJobs 'a{sv}' 0)" "aa{sv} 0" "the history of a new daemon"
has "$(busctl get-property "${manager[@]}" ResticVersion)" 0. "the version of restic"
is "$(stat -c '%a %U' /var/lib/holdfast)" "700 root" "mode and owner of the state directory"
holdfast status >/dev/null || fail "holdfast status exits $?"

systemctl stop holdfastd.service
is "$(systemctl show --value --property=Result holdfastd.service)" success "the result after a stop"
# Asked over the bus, it comes up by itself.
busctl call "${manager[@]}" ListJobs 'a{sv}' 0 >/dev/null
is "$(systemctl is-active holdfastd.service)" active "the service after a call to its name"

# The bus itself keeps strangers out, by name and by unique name, running or not, and tells them nothing; the daemon's
# group gets through.
# shellcheck shell=bash
# shellcheck source=tests/system/lib.sh
source /opt/tests/lib.sh
fresh_machine

as() {
    local user=$1
    shift
    runuser -u "$user" -- "$@" 2>&1
}
rejected() {
    local said
    said=$(as nobody busctl call "$@") && fail "nobody got an answer: $said"
    [[ ${said,,} == *"access denied"* || $said == *"Rejected send message"* ]] || fail "not refused by the bus: $said"
}

rejected "${manager[@]}" ListJobs 'a{sv}' 0
is "$(systemctl is-active holdfastd.service || true)" inactive "the service after a stranger's call"

wiki_instance
systemctl start holdfastd.service
rejected "${manager[@]}" ListJobs 'a{sv}' 0
rejected "${manager[@]}" RunBackup 'sa{sv}' mybackup 0
owner=$(busctl --json=short call org.freedesktop.DBus /org/freedesktop/DBus org.freedesktop.DBus GetNameOwner s "$bus_name" |
    jq -r '.data[0]')
rejected "$owner" "${manager[@]:1}" ListJobs 'a{sv}' 0
is "$(busctl call "${manager[@]}" ListJobs 'a{sv}' 0)" "aa{sv} 0" "the history after refused calls"

# A member of the group passes the bus; the daemon decides then (view is free, or root only where polkit is missing).
id member >/dev/null 2>&1 || useradd --groups holdfast member
said=$(as member busctl call "${manager[@]}" ListJobs 'a{sv}' 0) ||
    has "$said" "polkit did not answer" "what a member is told where polkit is missing"
[[ $said != *"Rejected send message"* ]] || fail "the bus refuses the group holdfast"

# With the real polkit and the shipped rules: a member of the group looks and runs, the rest wants an administrator; without
# polkit only root may, and everybody else is told so.
# shellcheck shell=bash
# shellcheck source=tests/system/lib.sh
source /opt/tests/lib.sh
fresh_machine
wiki_instance
id member >/dev/null 2>&1 || useradd --groups holdfast member
systemctl unmask --runtime --quiet polkit.service
systemctl start polkit.service holdfastd.service

# as_member CODE WORDS COMMAND...: what a member is told, and with which exit code.
as_member() {
    local code=$1 words=$2 status=0 said
    shift 2
    said=$(runuser -u member -- "$@" 2>&1) || status=$?
    is "$status" "$code" "the exit code of $* as a member, who was told: $said"
    has "$said" "$words" "what $* says to a member"
}
as_member 0 "mybackup" holdfast status
as_member 0 "backup mybackup: succeeded" holdfast run mybackup
as_member 0 "mybackup" holdfast history
# B40: the lines of a job are the journal's to show; to somebody who may not read it, one is as one that is not there.
job=$(busctl --json=short call "${manager[@]}" ListJobs 'a{sv}' 0 | jq -r '.data[0][0].Id.data')
journalctl --sync
has "$(holdfast logs "$job")" "dumping for backup" "the lines as root"
kept=$(runuser -u member -- holdfast logs "$job" 2>&1) && fail "a member read the lines of a job: $kept"
none=$(runuser -u member -- holdfast logs nosuchjob 2>&1) && fail "there are lines of no job: $none"
is "${kept//$job/JOB}" "${none//nosuchjob/JOB}" "what a member is told of a job's lines"
as_member 5 "needs an administrator's password for org.holdfast.backup1.manage" holdfast pause 1h
as_member 5 "org.holdfast.backup1.restore" holdfast restore wiki1 --yes
as_member 5 "org.holdfast.backup1.manage" holdfast backup disable mybackup
as_member 5 "org.holdfast.backup1.manage" holdfast reload
as_member 1 "backups are defined already" holdfast init --include /etc --to /srv/elsewhere
is "$(busctl get-property "${manager[@]}" Paused)" "b false" "the pause that was refused"
journalctl --sync
has "$(journalctl --quiet --output=cat --unit=holdfastd.service)" "Pause refused" "the journal"

# An administrator's rule about one object.
cat >/etc/polkit-1/rules.d/10-local.rules <<'RULE'
polkit.addRule(function(action, subject) {
    if (action.id == "org.holdfast.backup1.manage" && action.lookup("object") == "mybackup" && subject.user == "member") {
        return polkit.Result.YES;
    }
});
RULE
systemctl restart polkit.service
as_member 0 "is disabled" holdfast backup disable mybackup
as_member 0 "is enabled" holdfast backup enable mybackup
as_member 5 "org.holdfast.backup1.manage" holdfast pause 1h
rm /etc/polkit-1/rules.d/10-local.rules

systemctl mask --runtime --now --quiet polkit.service
as_member 5 "polkit did not answer, so only root may" holdfast status
as_member 5 "polkit did not answer, so only root may" holdfast run mybackup
holdfast run mybackup || fail "root's run without polkit exits $?"

systemctl unmask --runtime --quiet polkit.service
systemctl start polkit.service
served() { runuser -u member -- holdfast status; }
until_true 30 "service for members once polkit is back" served

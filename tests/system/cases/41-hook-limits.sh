# Limits and cancel reach the whole of a hook's unit, step by step.
# shellcheck shell=bash
# shellcheck source=tests/system/lib.sh
# shellcheck disable=SC2016 # written for another shell
source /opt/tests/lib.sh
fresh_machine
wiki_instance
more=$home/state/more
sed -i '/^\[instance.wiki1\]/a stall_timeout = "4s"' /etc/holdfast/conf.d/mybackup.toml
cat >/usr/local/bin/stubborn <<'HOOK'
#!/bin/bash
trap 'echo asked to' INT TERM
(trap '' INT TERM; sleep 600 & wait) &
while :; do sleep 0.2; done
HOOK
chmod 755 /usr/local/bin/stubborn
cat >>/etc/holdfast/conf.d/mybackup.toml <<'TOML'

[backup.stubborn]
repositories = ["main"]
instances = ["stubborn"]

[instance.stubborn]
include = ["/srv/wiki1/pages"]
dump_state = ["/usr/local/bin/stubborn"]
hook_timeout = "2s"
TOML
systemctl start holdfastd.service
stubborn=$(job_id "$(run_backup stubborn)")

# Cancelled, it gets SIGINT first and can clear up; its children end with it.
cat >"$more" <<'HOOK'
trap 'echo interrupted and clearing up; exit 130' INT
# Started in the background, it ignores SIGINT, and ends after the hook itself: by SIGTERM, or where systemd cannot watch
# the control group (a container on the old hierarchy) by SIGKILL at once.
(while :; do echo; sleep 0.1; done) &
touch "$AGENT_STATE_DIR/held"
while :; do echo; sleep 0.1; done
HOOK
path=$(run_backup mybackup)
job=$(job_id "$path")
until_true 30 "the hook" test -e "$home/state/held"
holdfast cancel "$job" || fail "holdfast cancel exits $?"
is "$(outcome_of "$job")" cancelled "the outcome of a cancelled job"
journalctl --sync
said=$(journalctl --quiet --output=cat "HOLDFAST_JOB=$job")
has "$said" "interrupted and clearing up" "the hook's last words"
[[ $(hook_units) != *module_dump* ]] || fail "the cancelled hook has a unit: $(hook_units)"
until_true 5 "the end of all that the hook started" no_process_of_wiki1

# Silent work is no stall, silence is.
echo 'end=$((SECONDS + 9)); while ((SECONDS < end)); do :; done' >"$more"
is "$(outcome_of "$(job_id "$(run_backup mybackup)")")" succeeded "a hook that computes in silence"
echo 'sleep 600' >"$more"
job=$(job_id "$(run_backup mybackup)")
failed_with "$job" "Stalled"
[[ $(hook_units) != *module_dump* ]] || fail "the stalled hook has a unit: $(hook_units)"

# What a hook leaves behind ends with it, and does not keep the job.
echo 'setsid sleep 600 & sleep 0.1' >"$more"
is "$(outcome_of "$(job_id "$(run_backup mybackup)")")" succeeded "a hook that leaves something"
until_true 5 "the end of what the hook left" no_process_of_wiki1

# One that ignores every request was asked twice, half a minute apart, and is killed with its children.
until_true 90 "the end of the stubborn hook" job_ended "$stubborn"
failed_with "$stubborn" "dump_state was ended after"
journalctl --sync
is "$(holdfast logs "$stubborn" | grep -c 'asked to')" 2 "requests to the stubborn hook"
no_stubborn() { ! pgrep -f 'bin/stubborn|sleep 600' >/dev/null; }
until_true 5 "the end of all that the stubborn hook started" no_stubborn
is "$(hook_units)" "" "units in the end"

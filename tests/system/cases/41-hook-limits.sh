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

# Cancelled, it gets SIGINT first and can clear up; so can its children.
cat >"$more" <<'HOOK'
trap 'echo interrupted and clearing up; exit 130' INT
# It was started in the background, and so ignores SIGINT: it gets SIGTERM when the hook itself has ended.
(trap 'echo the child too; exit' TERM; while :; do echo; sleep 0.1; done) &
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
has "$said" "the child too" "its child's last words"
[[ $(hook_units) != *module_dump* ]] || fail "the cancelled hook has a unit: $(hook_units)"
no_process_of_wiki1 || fail "something of the hook is left"

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
no_process_of_wiki1 || fail "what the hook left still runs"

# One that ignores every request was asked twice, half a minute apart, and is killed with its children.
until_true 90 "the end of the stubborn hook" job_ended "$stubborn"
failed_with "$stubborn" "dump_state was ended after"
journalctl --sync
is "$(holdfast logs "$stubborn" | grep -c 'asked to')" 2 "requests to the stubborn hook"
! pgrep -f 'stubborn|sleep 600' >/dev/null || fail "something of the stubborn hook is left"
is "$(hook_units)" "" "units in the end"

# Limits and cancel reach the whole of a hook's unit, step by step.
# shellcheck shell=bash
# shellcheck source=tests/system/lib.sh
# shellcheck disable=SC2016 # written for another shell
source /opt/tests/lib.sh
fresh_machine
wiki_instance
more=$home/state/more
sed -i '/^\[instance.wiki1\]/a stall_timeout = "4s"' /etc/holdfast/conf.d/mybackup.toml
systemctl start holdfastd.service

# Cancelled, it gets SIGINT first and can clear up; so do its children.
cat >"$more" <<'HOOK'
trap 'echo interrupted and clearing up; exit 130' INT
(trap 'echo the child too; exit' INT; while :; do echo; sleep 0.1; done) &
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
is "$(hook_units)" "" "units after the cancel"
no_process_of_wiki1 || fail "something of the hook is left"

# Silent work is no stall, silence is.
echo 'end=$((SECONDS + 9)); while ((SECONDS < end)); do :; done' >"$more"
is "$(outcome_of "$(job_id "$(run_backup mybackup)")")" succeeded "a hook that computes in silence"
echo 'sleep 600' >"$more"
job=$(job_id "$(run_backup mybackup)")
failed_with "$job" "Stalled"
is "$(hook_units)" "" "units after the stall"

# What a hook leaves behind ends with it, and does not keep the job.
echo 'setsid sleep 600 & sleep 0.1' >"$more"
is "$(outcome_of "$(job_id "$(run_backup mybackup)")")" succeeded "a hook that leaves something"
no_process_of_wiki1 || fail "what the hook left still runs"

# `journalctl -x` explains how jobs begin and end, with the names of the job in question.
# shellcheck shell=bash
# shellcheck source=tests/system/lib.sh
source /opt/tests/lib.sh
fresh_machine
wiki_instance
systemctl start holdfastd.service
good=$(job_id "$(run_backup mybackup)")
is "$(outcome_of "$good")" succeeded "the outcome"
echo 'echo no space for the dump >&2; exit 9' >"$home/state/more"
bad=$(job_id "$(run_backup mybackup)")
failed_with "$bad" "dump_state exited with 9: no space for the dump"
journalctl --sync

explained() { journalctl --quiet --catalog --output=short "HOLDFAST_JOB=$1" "MESSAGE_ID=7b1a5e0c4d9f4c0f8a3e6d2b9c5f1e$2"; }
# The first line of each text, from the catalogue itself.
subject() { journalctl --dump-catalog "7b1a5e0c4d9f4c0f8a3e6d2b9c5f1e$1" | sed -n 's/^Subject: //p' | sed 's/@.*@.*//'; }
for id in 01 02; do has "$(explained "$good" "$id")" "$(subject "$id")" "the explanation of message $id"; done
said=$(explained "$bad" 03)
has "$said" "$(subject 03)" "the explanation of a failure"
has "$said" "░░" "the catalogue's own text"
has "$said" "$bad" "the explanation of a failure names its job"
[[ $said != *@HOLDFAST* && $said != *@MESSAGE@* ]] || fail "a field was not filled in: $said"

# What the client makes of it, also for somebody who only has the job's id.
has "$(holdfast logs "$bad")" "no space for the dump" "holdfast logs"
has "$(holdfast logs "$good")" "succeeded" "holdfast logs"
said=$(holdfast logs no-such-job 2>&1) && fail "holdfast logs of no job exits 0"
has "$said" "no-such-job" "holdfast logs of no job"
# No line of one job is taken for one of the other.
[[ $(holdfast logs "$good") != *"no space"* ]] || fail "the logs of one job hold lines of another"

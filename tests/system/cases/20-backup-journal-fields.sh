# A backup of an unprivileged user's NS8 module: its hooks run as that user, what they print and how the job went is
# found in the journal by fields.
# shellcheck shell=bash
# shellcheck source=tests/system/lib.sh
source /opt/tests/lib.sh
fresh_machine
wiki_instance
systemctl start holdfastd.service

path=$(run_backup mybackup)
job=$(job_id "$path")
is "$(outcome_of "$job")" succeeded "the outcome"

journalctl --sync
lines=$(journalctl --quiet --output=cat "HOLDFAST_JOB=$job")
has "$lines" "dumping for backup mybackup of wiki1 as wiki1" "the journal of the job"
has "$lines" "cleaned up" "the journal of the job"
has "$(journalctl --quiet --output=cat "HOLDFAST_JOB=$job" HOLDFAST_INSTANCE=wiki1 HOLDFAST_PHASE=dump)" dumping \
    "the lines of the dump phase"
[[ -n $(journalctl --quiet --output=cat "HOLDFAST_JOB=$job" MESSAGE_ID=7b1a5e0c4d9f4c0f8a3e6d2b9c5f1e01) ]] ||
    fail "no line says that the job started"
[[ -n $(journalctl --quiet --output=cat "HOLDFAST_JOB=$job" MESSAGE_ID=7b1a5e0c4d9f4c0f8a3e6d2b9c5f1e02 \
    HOLDFAST_OUTCOME=succeeded) ]] || fail "no line says that the job finished"
has "$(holdfast logs "$job")" "dumping for backup mybackup" "holdfast logs"

# The dump was made before the snapshot, by the user, and is gone again.
[[ ! -e $home/state/dump.txt ]] || fail "the dump was not cleaned up"
snapshot=$(restic --no-cache --repo "$repository" --password-file /etc/holdfast/secrets/main.password --json snapshots latest |
    jq -r '.[0].short_id')
has "$(restic --no-cache --repo "$repository" --password-file /etc/holdfast/secrets/main.password ls --long "$snapshot")" \
    "state/dump.txt" "the snapshot"
has "$(busctl --json=short call "${manager[@]}" ListSnapshots s wiki1)" mybackup "the instance's snapshots"

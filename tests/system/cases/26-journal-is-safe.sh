# B42: what a hook prints forges no line, moves no terminal and fills no journal; `holdfast logs` shows a job's lines and no other.
# shellcheck shell=bash
# shellcheck disable=SC2016 # written for another shell
# shellcheck source=tests/system/lib.sh
source /opt/tests/lib.sh
fresh_machine
wiki_instance
systemctl start holdfastd.service
cat >"$home/state/more" <<'HOOK'
printf 'clear \033[2J screen \007 and \r back\n'
printf '<0>forged priority\nHOLDFAST_OUTCOME=succeeded\nMESSAGE=forged\n'
printf 'not UTF-8: \377\376\n' >&2
head -c 300000 /dev/zero | tr '\0' x; echo
seq -f 'line %g of many' 50000
exit 7
HOOK
job=$(job_id "$(run_backup mybackup)")
is "$(outcome_of "$job")" failed "the outcome"
journalctl --sync
is "$(journalctl --quiet --output=json "HOLDFAST_JOB=$job" MESSAGE=forged | wc -l)" 0 "lines that a hook forged"
is "$(journalctl --quiet --output=json "HOLDFAST_JOB=$job" HOLDFAST_OUTCOME=succeeded | wc -l)" 0 "outcomes that a hook forged"
is "$(journalctl --quiet --output=json --priority=crit "HOLDFAST_JOB=$job" | wc -l)" 0 "lines with a forged priority"
said=$(journalctl --quiet --all --output=cat "HOLDFAST_JOB=$job")
[[ $said != *$'\033'* && $said != *$'\007'* ]] || fail "control characters came through"
has "$said" 'clear \u{1b}[2J screen' "an escaped line"
has "$said" "<0>forged priority" "a line as it was printed"
count=$(wc -l <<<"$said")
((count > 5000 && count < 12000)) || fail "$count lines of one hook in the journal"
has "$said" "more lines, which are left out" "what is said of the rest"
# The end is there, whatever came before it.
has "$(journalctl --quiet --output=cat "HOLDFAST_JOB=$job" HOLDFAST_OUTCOME=failed)" "exited with 7" "the end of the job"
shown=$(holdfast logs "$job")
has "$shown" "exited with 7" "holdfast logs"
rm "$home/state/more"
other=$(job_id "$(run_backup mybackup)")
is "$(outcome_of "$other")" succeeded "the next backup"
journalctl --sync
shown=$(holdfast logs "$other")
has "$shown" "dumping for backup" "holdfast logs of the next job"
[[ $shown != *"of many"* ]] || fail "holdfast logs shows lines of another job"
is "$(holdfast --json logs "$other" | jq -r .HOLDFAST_JOB | sort -u)" "$other" "jobs in holdfast --json logs"

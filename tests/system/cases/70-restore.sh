# The loop closes: backup, everything lost, one command, everything as it was: bytes, owners, modes, links.
# shellcheck shell=bash
# shellcheck source=tests/system/lib.sh
source /opt/tests/lib.sh
fresh_machine
wiki_instance
# A step of the restore: its request comes on standard input.
install -d -o wiki1 -g wiki1 "$home/actions" "$home/actions/restore-module"
cat >"$home/actions/restore-module/20seen" <<'STEP'
#!/bin/bash
cat >"$AGENT_STATE_DIR/request.json"
id -un >"$AGENT_STATE_DIR/step-user"
STEP
chmod 755 "$home/actions/restore-module/20seen"
chown wiki1: "$home/actions/restore-module/20seen"
systemctl start holdfastd.service
before=$(listing "$home/state/data" /srv/wiki1/pages)
is "$(outcome_of "$(job_id "$(run_backup mybackup)")")" succeeded "the backup"

rm -rf "$home"/state/data
find /srv/wiki1/pages -mindepth 1 -delete
printf 'wrong\n' >/srv/wiki1/pages/front

holdfast restore wiki1 --yes || fail "holdfast restore exits $?"
after=$(listing "$home/state/data" /srv/wiki1/pages)
diff <(printf '%s\n' "$before") <(printf '%s\n' "$after") || fail "not the same as before"
is "$(stat -c %U "$home/state")" wiki1 "the owner of the state directory"
is "$(busctl get-property "${manager[@]}" ActiveJobs)" "u 0" "active jobs in the end"
is "$(cat "$home/state/step-user")" wiki1 "the user of the restore step"
jq -e . "$home/state/request.json" >/dev/null || fail "the step's request is no JSON: $(head -c 300 "$home/state/request.json")"

# A failing step fails the restore, with its words, and the live data stays.
printf '#!/bin/bash\necho the step has no luck >&2\nexit 4\n' >"$home/actions/restore-module/20seen"
said=$(holdfast restore wiki1 --yes 2>&1) && fail "a restore with a failing step exits 0"
has "$said" "the step has no luck" "what the client says of a failing step"
after=$(listing "$home/state/data" /srv/wiki1/pages)
diff <(printf '%s\n' "$before") <(printf '%s\n' "$after") || fail "not the same after a failed restore"

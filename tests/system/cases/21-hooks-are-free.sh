# Programs of the definitions run outside the daemon's sandbox, as units of systemd, and are told apart exactly: output,
# environment, user, status. Nothing secret shows in what everybody can read.
# shellcheck shell=bash
# shellcheck source=tests/system/lib.sh
# shellcheck disable=SC2016 # written for another shell
source /opt/tests/lib.sh
fresh_machine
wiki_instance
more=$home/state/more
printf 'TRICKY=%s\n' 'a "b" $HOME `id` \n c  # d' >>"$home/state/environment"
systemctl start holdfastd.service

for limit in CPUWeight=50 IOWeight=50 TasksMax=8192; do
    is "$(systemctl show --property="${limit%%=*}" holdfast.slice)" "$limit" "a limit of all programs together"
done
[[ $(systemctl show --value --property=MemoryMax holdfast.slice) != infinity ]] || fail "hooks may take all memory"
cat >"$more" <<'HOOK'
systemctl show --property=Slice "$(grep -o '[^/]*\.service' /proc/self/cgroup | sort -u | head -n 1)"
unshare -Ur true && echo "user namespaces: yes"
grep -o '[^/]*\.service' /proc/self/cgroup | sort -u
printf 'tricky=%s\n' "$TRICKY"
grep CapBnd /proc/self/status
pwd
systemctl show "holdfastd-run-*.service" >"$AGENT_STATE_DIR/shown"
tr '\0' ' ' </proc/$$/cmdline
echo; echo "to standard error" >&2
ls /run/holdfast/environment 2>&1 || true
HOOK
job=$(job_id "$(run_backup mybackup)")
is "$(outcome_of "$job")" succeeded "the outcome"
journalctl --sync
said=$(journalctl --quiet --output=cat "HOLDFAST_JOB=$job" HOLDFAST_INSTANCE=wiki1 HOLDFAST_PHASE=dump)
has "$said" "Slice=holdfast.slice" "the slice of the hook"
has "$said" "user namespaces: yes" "a rootless hook's namespaces"
has "$said" "dump_state: holdfastd-run-" "the hook's control group"
[[ $said != *"dump_state: holdfastd.service"* ]] || fail "the hook runs in the daemon's control group"
has "$said" 'tricky=a "b" $HOME `id` \n c  # d' "a value with everything in it"
has "$said" "dump_state: $home/state" "the working directory"
has "$said" "to standard error" "what it wrote to standard error"
has "$said" "Permission denied" "a look at kept environments"
[[ $(<"$home/state/shown") == *module-dump-state* ]] || fail "the hook's unit was not seen"
! grep -q 'WIKI_MODE\|TRICKY' "$home/state/shown" || fail "the environment shows in the unit's properties"
is "$(find /run/holdfast/environment -type f | wc -l)" 0 "environments kept after the hook"
is "$(hook_units)" "" "units after the job"

# To systemd, death by SIGTERM or SIGPIPE is success; to us it is not.
for signal in TERM PIPE HUP; do
    echo "kill -$signal \$\$; sleep 5" >"$more"
    failed_with "$(job_id "$(run_backup mybackup)")" "was killed by signal $(kill -l "$signal")"
done
echo 'echo the reason >&2; exit 203' >"$more"
failed_with "$(job_id "$(run_backup mybackup)")" "dump_state exited with 203: the reason"
rm "$more"
# One that fails at once is not taken for one that could not be started.
sed -i '1s|.*|#!/bin/false|' "$home/bin/module-dump-state"
for _ in {1..10}; do
    failed_with "$(job_id "$(run_backup mybackup)")" "dump_state exited with 1"
done
sed -i '1s|.*|#!/no/such/interpreter|' "$home/bin/module-dump-state"
failed_with "$(job_id "$(run_backup mybackup)")" "its interpreter is missing, or user wiki1 may not execute it"
sed -i '1s|.*|#!/bin/bash|' "$home/bin/module-dump-state"
chmod 000 "$home/state"
chown root: "$home/state"
said=$(outcome_of "$(job_id "$(run_backup mybackup)")")
is "$said" failed "the outcome of a hook whose directory its user may not enter"
chown wiki1: "$home/state"
chmod 755 "$home/state"

# A password command is one of them, too.
sed -i 's|^password_file = .*|password_command = ["/usr/local/bin/password"]|' /etc/holdfast/conf.d/mybackup.toml
cat >/usr/local/bin/password <<'COMMAND'
#!/bin/sh
unshare -Ur true && cat /etc/holdfast/secrets/main.password
COMMAND
chmod 755 /usr/local/bin/password
systemctl reload holdfastd.service
is "$(outcome_of "$(job_id "$(run_backup mybackup)")")" succeeded "a backup with a password command"
is "$(hook_units)" "" "units in the end"

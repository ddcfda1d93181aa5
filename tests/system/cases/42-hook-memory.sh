# What the programs of the definitions may take together holds in the kernel: one that eats memory is ended, alone; the
# daemon lives, does not wait, says what happened, and the next backup works.
# shellcheck shell=bash
# shellcheck source=tests/system/lib.sh
source /opt/tests/lib.sh
fresh_machine
wiki_instance

# A container on the old hierarchy has the controllers read-only: its own part of this one is opened to its systemd.
groups=/sys/fs/cgroup limit=memory.max
if [[ $(stat -fc %T "$groups") != cgroup2fs ]]; then
    groups=/sys/fs/cgroup/memory limit=memory.limit_in_bytes
    mount -o remount,bind,rw "$groups"
    systemctl daemon-reexec
fi
mkdir -p /run/systemd/system/holdfast.slice.d
printf '[Slice]\nMemoryHigh=infinity\nMemoryMax=100M\n' >/run/systemd/system/holdfast.slice.d/small.conf
end() {
    rm -rf /run/systemd/system/holdfast.slice.d
    systemctl daemon-reload
}
trap end EXIT
systemctl daemon-reload
systemctl start holdfastd.service
main=$(systemctl show --value --property=MainPID holdfastd.service)

printf 'cat %s/holdfast.slice/%s\n' "$groups" "$limit" >"$home/state/more"
# shellcheck disable=SC2016 # written for the hook
printf '%s\n' 'eaten=$(head -c 400000000 /dev/zero | tr "\0" x)' 'echo "not stopped: ${#eaten}"' >>"$home/state/more"
job=$(job_id "$(run_backup mybackup)")
is "$(outcome_of "$job")" failed "the outcome of a backup whose hook eats memory"
journalctl --sync
said=$(journalctl --quiet --output=cat "HOLDFAST_JOB=$job")
has "$said" "dump_state: 104857600" "the limit in the kernel"
[[ $said != *"not stopped"* ]] || fail "the hook went on: $said"
has "$(job_row "$job" Error)" "was killed by signal 9 (the kernel does so where memory is short" "the error"
is "$(systemctl show --value --property=MainPID holdfastd.service)" "$main" "the daemon's process"
is "$(systemctl show --value --property=NRestarts holdfastd.service)" 0 "restarts of the daemon"
is "$(hook_units)" "" "units after the job"
rm "$home/state/more"
is "$(outcome_of "$(job_id "$(run_backup mybackup)")")" succeeded "the next backup"

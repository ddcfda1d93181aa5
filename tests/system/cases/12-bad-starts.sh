# What is wrong at the start, or breaks meanwhile, is said by `systemctl status` and on the bus; what is not hindered works.
# shellcheck shell=bash
# shellcheck source=tests/system/lib.sh
source /opt/tests/lib.sh
fresh_machine
wiki_instance
status() { systemctl show --value --property=StatusText holdfastd.service; }
says() { [[ $(status) == *"$1"* ]]; }
findings() { busctl --json=short get-property "${manager[@]}" Findings | jq -r '.data[]'; }

# Broken definitions: named, and the others work.
printf '[backup.broken]\nrepositores = ["main"]\n' >/etc/holdfast/conf.d/broken.toml
printf 'this is no TOML at all\n' >/etc/holdfast/conf.d/garbage.toml
printf '[backup.open]\nrepositories = ["main"]\n' >/etc/holdfast/conf.d/open.toml
chmod 666 /etc/holdfast/conf.d/open.toml
systemctl start holdfastd.service
has "$(status)" "3 findings, see holdfast status" "the status of a start with broken definitions"
for place in broken.toml:2:1 garbage.toml:1 open.toml; do has "$(findings)" "$place" "the findings on the bus"; done
has "$(holdfast status)" "broken.toml:2:1" "holdfast status"
is "$(outcome_of "$(job_id "$(run_backup mybackup)")")" succeeded "a backup beside broken definitions"
rm /etc/holdfast/conf.d/{broken,garbage,open}.toml
systemctl reload holdfastd.service
is "$(findings)" "" "the findings after the repair"
repaired() { ! says finding; }
until_true 10 "a status without findings" repaired

# No restic: it runs, says so, and a run says so.
sed -i 's|^restic = .*|restic = "/usr/bin/no-restic"|' /etc/holdfast/conf.d/mybackup.toml
systemctl restart holdfastd.service
has "$(status)" "no backup can run" "the status without restic"
has "$(busctl get-property "${manager[@]}" ResticVersion)" "/usr/bin/no-restic" "the version of no restic"
failed_with "$(job_id "$(run_backup mybackup)")" "/usr/bin/no-restic"
# An old one is as none.
printf '#!/bin/sh\necho "restic 0.12.1 compiled with go1.16.6 on linux/amd64"\n' >/usr/local/bin/old-restic
chmod 755 /usr/local/bin/old-restic
sed -i 's|^restic = .*|restic = "/usr/local/bin/old-restic"|' /etc/holdfast/conf.d/mybackup.toml
systemctl restart holdfastd.service
too_old="restic 0.12.1 is too old, at least 0.14.0 is needed"
has "$(status)" "no backup can run: $too_old" "the status with an old restic"
has "$(busctl get-property "${manager[@]}" ResticVersion)" "$too_old" "the version of an old restic"
failed_with "$(job_id "$(run_backup mybackup)")" "$too_old"
has "$(holdfast status)" "$too_old" "holdfast status with an old restic"
sed -i 's|^restic = .*|restic = "/usr/bin/restic"|' /etc/holdfast/conf.d/mybackup.toml
systemctl reload holdfastd.service
restic_is_back() { ! says "no backup can run"; }
until_true 10 "a status with restic again" restic_is_back
is "$(outcome_of "$(job_id "$(run_backup mybackup)")")" succeeded "a backup once restic is there"

# No journald: nothing waits for it, nothing is lost but lines.
sockets=(systemd-journald.socket systemd-journald-dev-log.socket systemd-journald-audit.socket)
systemctl stop "${sockets[@]}" systemd-journald.service 2>/dev/null
job=$(job_id "$(run_backup mybackup)")
is "$(outcome_of "$job")" succeeded "a backup while there is no journal"
systemctl restart holdfastd.service
is "$(outcome_of "$(job_id "$(run_backup mybackup)")")" succeeded "a backup of a daemon that started without a journal"
systemctl start "${sockets[@]::2}" systemd-journald.service
systemctl restart holdfastd.service
job=$(job_id "$(run_backup mybackup)")
is "$(outcome_of "$job")" succeeded "a backup once the journal is back"
journalctl --sync
has "$(journalctl --quiet --output=cat "HOLDFAST_JOB=$job")" "dumping for backup" "the journal once it is back"

# A history that cannot be written is kept in memory, and that is said everywhere; backups run.
in_memory() {
    systemctl start holdfastd.service
    has "$(status)" "running in memory" "the status of a start on $1"
    has "$(findings)" "$2" "the findings of a start on $1"
    has "$(holdfast status)" "running in memory" "holdfast status of a start on $1"
    is "$(outcome_of "$(job_id "$(run_backup mybackup)")")" "$3" "a backup with $1"
    systemctl stop holdfastd.service
    umount /var/lib/holdfast
}
systemctl stop holdfastd.service
trap 'umount -q /var/lib/holdfast || true' EXIT
mount -t tmpfs -o ro,mode=0700 none /var/lib/holdfast
# Nowhere to write down how it is undone: so nothing is begun.
in_memory "a read-only disk" "ead-only file system" failed
mount -t tmpfs -o size=64k,mode=0700 none /var/lib/holdfast
head -c 1M /dev/zero >/var/lib/holdfast/fill 2>/dev/null || true
in_memory "a full disk" "disk is full" failed
# The whole of /var at once: state, cache, temporary files.
mount --bind /var /var
mount -o remount,bind,ro /var
trap 'umount -q /var || umount -q --lazy /var || true' EXIT
systemctl start holdfastd.service
has "$(status)" "running in memory" "the status of a start on a read-only /var"
has "$(findings)" "ead-only file system" "the findings of a start on a read-only /var"
is "$(outcome_of "$(job_id "$(run_backup mybackup)")")" failed "a backup with a read-only /var"
systemctl stop holdfastd.service
umount /var || umount --lazy /var
systemctl start holdfastd.service
[[ $(status) != *memory* ]] || fail "the status once there is room: $(status)"
is "$(outcome_of "$(job_id "$(run_backup mybackup)")")" succeeded "a backup once there is room"

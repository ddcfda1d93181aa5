# The package: installed it runs; upgraded from an older version in the middle of a job it puts the job right and keeps what
# the administrator changed; removed it is gone, and installed again it goes on; purged it has left every backup, and what it
# takes to read them. Last: after it there is no daemon.
# shellcheck shell=bash
# shellcheck source=tests/system/lib.sh
source /opt/tests/lib.sh

deb=/opt/tests/holdfast.deb
install_package() { DEBIAN_FRONTEND=noninteractive dpkg -i "$@"; }
version() { dpkg-query --show --showformat '${Version} ${db:Status-Status}' holdfast; }

# The same package under an older version.
old=/tmp/holdfast-old.deb
rm -rf /tmp/old
dpkg-deb --raw-extract "$deb" /tmp/old
sed -i 's/^Version: .*/Version: 0.0.9-1/' /tmp/old/DEBIAN/control
dpkg-deb --root-owner-group --build /tmp/old "$old" >/dev/null
new_version=$(dpkg-deb --field "$deb" Version)

if dpkg-query --show holdfast >/dev/null 2>&1; then DEBIAN_FRONTEND=noninteractive dpkg --purge holdfast >/dev/null 2>&1; fi
rm -rf /etc/holdfast /var/lib/holdfast /var/cache/holdfast "$repository"
install_package "$old"
is "$(version)" "0.0.9-1 installed" "the version before the upgrade"
is "$(systemctl is-active holdfastd.service)" active "the service after installation"
is "$(systemctl is-enabled holdfastd.service)" enabled "the service after installation"
is "$(stat -c %a /etc/holdfast/secrets)" 700 "mode of the secrets"
has "$(dpkg-query --show --showformat '${Conffiles}' holdfast)" /etc/holdfast/holdfast.toml "conffiles"
has "$(holdfast status)" "What to do next" "status of an empty installation"
has "$(getent group holdfast)" holdfast "the group"

# Without polkit a member of the group is told what is missing.
systemctl mask --runtime --now --quiet polkit.service
id member >/dev/null 2>&1 || useradd --groups holdfast member
if refused=$(setpriv --reuid=member --init-groups --regid=member holdfast status 2>&1); then
    fail "a member was let in without polkit: $refused"
fi
has "$refused" "polkit did not answer" "what a member is told without polkit"

systemctl unmask --runtime --quiet polkit.service

wiki_instance
printf '\n# changed by the administrator\n' >>/etc/holdfast/holdfast.toml
systemctl reload holdfastd.service
first=$(job_id "$(run_backup mybackup)")
is "$(outcome_of "$first")" succeeded "the first backup"

# An upgrade in the middle of a dump: the job ends, its cleanup runs, the next one works.
install -o wiki1 -g wiki1 /dev/null "$home/state/hold"
second=$(job_id "$(run_backup mybackup)")
until_true 30 "the dump to run" test -e "$home/state/held"
install_package "$deb"
rm -f "$home/state/hold"
is "$(version)" "$new_version installed" "the version after the upgrade"
has "$(</etc/holdfast/holdfast.toml)" "changed by the administrator" "the administrator's file after the upgrade"
is "$(systemctl is-active holdfastd.service)" active "the service after the upgrade"
outcome=$(outcome_of "$second")
[[ $outcome == cancelled || $outcome == interrupted ]] || fail "the job that an upgrade ended is $outcome"
[[ ! -e $home/state/dump.txt ]] || fail "the dump of the job that an upgrade ended is still there"
is "$(outcome_of "$(job_id "$(run_backup mybackup)")")" succeeded "the backup after the upgrade"

# A repository with a generated password in the state directory, as an empty installation has.
printf '[backup.own]\nrepositories = ["local"]\ninstances = ["wiki1"]\n[repository.local]\nurl = "/var/lib/holdfast/repository"\n' \
    >/etc/holdfast/conf.d/own.toml
systemctl reload holdfastd.service
is "$(outcome_of "$(job_id "$(run_backup own)")")" succeeded "the backup into the state directory"

dpkg --remove holdfast
! systemctl is-active --quiet holdfastd.service || fail "the daemon runs after the package was removed"
[[ ! -e /usr/bin/holdfastd && -e /etc/holdfast/holdfast.toml ]] || fail "what is left after removal is wrong"

# Installed again, everything is as it was: definitions, history, keys.
install_package "$deb"
is "$(systemctl is-active holdfastd.service)" active "the service installed again"
is "$(job_row "$first" Outcome)" succeeded "the first backup in the history of the service installed again"
is "$(outcome_of "$(job_id "$(run_backup own)")")" succeeded "a backup of the service installed again"
# A choice of the administrator's stays as well.
systemctl disable --now --quiet holdfastd.service
install_package "$deb"
is "$(systemctl is-enabled holdfastd.service || true)" disabled "a disabled service after an upgrade"
is "$(systemctl is-active holdfastd.service || true)" inactive "a disabled service after an upgrade"
systemctl enable --now --quiet holdfastd.service
dpkg --remove holdfast

left=$(dpkg --purge holdfast 2>&1)
[[ ! -e /etc/holdfast/holdfast.toml && ! -e /var/lib/holdfast/holdfast.db && ! -e /var/cache/holdfast ]] ||
    fail "purge left what it should take: $(ls /etc/holdfast /var/lib/holdfast)"
for kept in /etc/holdfast/conf.d/mybackup.toml /etc/holdfast/secrets/main.password /var/lib/holdfast/repository \
    /var/lib/holdfast/secrets/local.password /var/lib/holdfast/instances/wiki1; do
    [[ -e $kept ]] || fail "purge took $kept"
    [[ $kept == */conf.d/* ]] || has "$left" "${kept}" "what purge says is left"
done
snapshots=$(restic --no-cache --repo "$repository" --password-file /etc/holdfast/secrets/main.password snapshots --json | jq length)
is "$snapshots" 2 "snapshots after purge"

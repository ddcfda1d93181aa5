# Names have other numbers than when the backup was made: files go to whoever has the name, to the number where that is
# said and in volumes; a name that nobody has is told.
# shellcheck shell=bash
# shellcheck source=tests/system/lib.sh
source /opt/tests/lib.sh
fresh_machine
wiki_instance
for user in owner1 owner2; do
    userdel "$user" 2>/dev/null || true
done
useradd --uid 4401 owner1
useradd --uid 4402 owner2
rm -rf /srv/owned
mkdir -p /srv/owned/tree /srv/owned/volume
printf 'one\n' >/srv/owned/tree/one && chown owner1:owner1 /srv/owned/tree/one
printf 'two\n' >/srv/owned/tree/two && chown owner2: /srv/owned/tree/two
cp /bin/true /srv/owned/tree/able && chown owner1: /srv/owned/tree/able && setcap cap_net_raw=ep /srv/owned/tree/able
printf 'v\n' >/srv/owned/volume/v && chown owner1: /srv/owned/volume/v
cat >>/etc/holdfast/conf.d/mybackup.toml <<'TOML'

[backup.owned]
repositories = ["main"]
instances = ["owned"]

[instance.owned]
include = ["/srv/owned/tree", "volumes/data"]
volumes = { data = "/srv/owned/volume" }
TOML
systemctl start holdfastd.service
is "$(outcome_of "$(job_id "$(run_backup owned)")")" succeeded "the backup"

usermod --uid 5501 owner1 && groupmod --gid 5501 owner1
holdfast restore owned --yes || fail "holdfast restore exits $?"
is "$(stat -c '%u %g' /srv/owned/tree/one)" "5501 5501" "whoever has the name"
is "$(stat -c %u /srv/owned/tree/two)" 4402 "one whose number is the same"
is "$(stat -c %u /srv/owned/volume/v)" 4401 "the number in a volume"
has "$(getcap /srv/owned/tree/able)" cap_net_raw "a capability with its new owner"
holdfast restore owned --owners number --yes || fail "holdfast restore --owners number exits $?"
is "$(stat -c '%u %g' /srv/owned/tree/one)" "4401 4401" "the number where that is said"

userdel owner2
code=0
said=$(holdfast restore owned --yes 2>&1) || code=$?
is "$code" 3 "the exit code where a name is missing"
has "$said" "there is no user owner2 here" "what is said of a missing name"
is "$(stat -c %u /srv/owned/tree/two)" 4402 "the number of a name that is missing"

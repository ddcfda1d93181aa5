# The first two minutes: no Holdfast on the machine, then `apt install`, `holdfast status`, `holdfast init`, and there is a
# proven backup. A second init changes nothing.
# shellcheck shell=bash
# shellcheck source=tests/system/lib.sh
source /opt/tests/lib.sh
systemctl stop holdfastd.service
DEBIAN_FRONTEND=noninteractive dpkg --purge holdfast >/dev/null 2>&1
rm -rf /var/lib/holdfast /var/cache/holdfast /etc/holdfast "$repository" /srv/first
[[ ! -e /usr/bin/holdfast ]] || fail "holdfast is there before it is installed"

begin=$(date +%s%N)
DEBIAN_FRONTEND=noninteractive apt-get install --quiet --yes --no-install-recommends /opt/tests/holdfast.deb 2>&1 ||
    fail "apt-get install exits $?"
installed=$(date +%s%N)
is "$(systemctl is-active holdfastd.service)" active "the service after installation"
is "$(systemctl is-enabled holdfastd.service)" enabled "the service after installation"
said=$(holdfast status)
has "$said" "What to do next" "status of an empty installation"
has "$said" "holdfast init" "status of an empty installation"
said=$(holdfast init --include /etc --include /usr/lib/systemd --to "$repository" --schedule 02:30 2>&1) ||
    fail "holdfast init exits $?: $said"
end=$(date +%s%N)
has "$said" "backup files: succeeded" "what init says"
has "$said" "sudo holdfast repository key main" "what init says of the key"
printf 'MEASURED: apt install %d ms, to the end of the first backup %d ms\n' \
    $(((installed - begin) / 1000000)) $(((end - begin) / 1000000))
(((end - begin) / 1000000000 < 120)) || fail "the first backup took more than two minutes"

holdfast restore files --target /srv/first || fail "the restore exits $?"
diff -r --no-dereference /etc/systemd /srv/first/files/etc/systemd || fail "what was restored differs"
is "$(stat -c '%a %U' /var/lib/holdfast /etc/holdfast/secrets 2>/dev/null | sort -u)" "700 root" "modes of what is secret"
key=$(holdfast repository key main 2>/dev/null)
((${#key} >= 40)) || fail "the key is short: ${#key} characters"
said=$(holdfast init --include /etc --to /srv/other 2>&1) && fail "a second init exits 0"
has "$said" "backups are defined already: files" "what a second init says"
is "$(holdfast restic files -- snapshots --json | jq length)" 1 "snapshots in the end"

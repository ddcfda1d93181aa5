# A service whose data is corrupted comes back with its data; again, on an older set; then there is an alarm.
# shellcheck shell=bash
# shellcheck source=tests/system/lib.sh
source /opt/tests/lib.sh
fresh_machine
systemctl stop shop.service 2>/dev/null || true
rm -rf /srv/shop
mkdir -p /srv/shop
printf '1.0\n' >/srv/shop-version
cat >/etc/systemd/system/shop.service <<'UNIT'
[Service]
ExecStart=/bin/bash -c 'while grep -q "^good" /srv/shop/data; do sleep 0.1; done; exit 1'
UNIT
systemctl daemon-reload
(umask 077 && printf 'a password for tests\n' >/etc/holdfast/secrets/main.password)
cat >/etc/holdfast/conf.d/shop.toml <<TOML
[repository.main]
url = "$repository"
password_file = "../secrets/main.password"
layout = "shared"

[backup.shop]
repositories = ["main"]
instances = ["shop"]

[instance.shop]
include = ["/srv/shop"]
version = { command = ["cat", "/srv/shop-version"] }
recovery = { unit = "shop.service", attempts = 9 }
TOML
since=$(date +%s)

save() {
    printf 'good %s\n' "$1" >/srv/shop/data
    systemctl restart shop.service
    is "$(outcome_of "$(job_id "$(run_backup shop)")")" succeeded "the backup of $1"
}

is_back() { systemctl is-active --quiet shop.service && [[ $(cat /srv/shop/data) == "good $1" ]]; }

idle() { [[ $(busctl get-property "${manager[@]}" ActiveJobs) == "u 0" ]]; }

# Not before a recovery has ended: what fails in it is its own failure.
corrupt() {
    until_true 30 "the end of all jobs" idle
    printf 'corrupt\n' >/srv/shop/data
}

alarms() { journalctl --since="@$since" --output=cat MESSAGE_ID=7b1a5e0c4d9f4c0f8a3e6d2b9c5f1e06; }

alarmed() { [[ -n $(alarms) ]]; }

systemctl start holdfastd.service
printf '0.9\n' >/srv/shop-version
save "of another version"
printf '1.0\n' >/srv/shop-version
save one
save two

begin=${EPOCHREALTIME/./}
corrupt
until_true 30 "the newest set" is_back two
echo "back after $(((${EPOCHREALTIME/./} - begin) / 1000)) ms"
has "$(journalctl --since="@$since" --output=cat _COMM=holdfastd)" "shop.service has failed; snapshot" "the journal"
kept=(/srv/.holdfast-*/*)
grep -rqs '^corrupt' "${kept[@]}" /srv/shop/.holdfast-* || fail "the data that failed is not kept"

corrupt
until_true 30 "the older set" is_back one
alarmed && fail "an alarm too early: $(alarms)"

corrupt
until_true 30 "the alarm" alarmed
has "$(alarms)" "no set of version 1.0 is left to restore: 1 other version, 2 restored" "the alarm"
is "$(cat /srv/shop/data)" corrupt "the data after the alarm"
is "$(systemctl is-active shop.service || true)" failed "the unit after the alarm"

# A set that is made now is of a sick application, and not used.
is "$(outcome_of "$(job_id "$(run_backup shop)")")" succeeded "the backup of sick data"
said=$(holdfast recover shop 2>&1) && fail "recover exits 0 without a set: $said"
has "$said" "1 taken while unhealthy" "why there is no set"

# What runs is left alone.
printf 'good by hand\n' >/srv/shop/data
systemctl restart shop.service
holdfast recover shop || fail "recover of what runs exits $?"
is "$(cat /srv/shop/data)" "good by hand" "the data of what runs"

# The daemon is killed and the unit fails meanwhile: its next start sees that.
save three
save four
systemctl kill --signal=KILL holdfastd.service
printf 'corrupt\n' >/srv/shop/data
until_true 60 "the newest set after a kill" is_back four
until_true 30 "the end of all jobs" idle
systemctl stop shop.service

# Units of another machine's systemd: this one, reached over ssh by an account that may do nothing but what `holdfast setup`
# has let sudo through.
# shellcheck shell=bash
# shellcheck source=tests/system/lib.sh
source /opt/tests/lib.sh
fresh_machine
mkdir -p /srv/far
cat >/run/systemd/system/app.service <<'UNIT'
[Service]
ExecStart=/bin/bash -c 'echo runs >/srv/far/state; exec sleep infinity'
ExecStopPost=/bin/bash -c 'while [ -e /run/hold ]; do touch /run/held; sleep 0.1; done; echo stopped >/srv/far/state'
UNIT
cat >/run/systemd/system/app.socket <<'UNIT'
[Socket]
ListenStream=/run/app.sock
UNIT
cat >/run/systemd/system/web.service <<'UNIT'
[Unit]
Requires=app.service
After=app.service
[Service]
ExecStart=/bin/sleep infinity
UNIT
(umask 077 && mkdir -p /etc/holdfast/secrets && printf 'a password for tests\n' >/etc/holdfast/secrets/main.password)
cat >/etc/holdfast/conf.d/far.toml <<TOML
[repository.main]
url = "$repository"
password_file = "../secrets/main.password"
layout = "shared"

[backup.far]
repositories = ["main"]
instances = ["far"]
retry = { attempts = 0 }

[instance.far]
ssh = "vcap@127.0.0.1"
sudo = true
include = ["/srv/far"]

[[instance.far.service]]
manager = "systemd"
units = ["app.service"]
require_healthy = true
TOML
end() {
    rm -f /run/hold
    systemctl unmask --quiet app.service
    systemctl stop app.socket app.service web.service ssh.service
    rm -rf /run/systemd/system/{app,web}.* /etc/sudoers.d/{10-admin,holdfast-far*} /srv/far
    systemctl daemon-reload
    userdel --force --remove vcap 2>/dev/null || true
}
trap end EXIT
useradd --create-home --shell /bin/bash vcap
ssh-keygen -q -t ed25519 -N '' -f /root/login
install -D -o vcap -g vcap -m 0600 /root/login.pub /home/vcap/.ssh/authorized_keys
chown vcap:vcap /home/vcap/.ssh
(umask 0227 && printf 'vcap ALL=(ALL) NOPASSWD: ALL\n' >/etc/sudoers.d/10-admin)
systemctl daemon-reload
systemctl start ssh.service app.socket app.service web.service holdfastd.service
all=(app.socket app.service web.service)
running() { [[ $(systemctl is-active "${all[@]}" | tr '\n' ' ') == "active active active " ]]; }
lives() { systemctl show --property=InvocationID --value "${all[@]}"; }

print=$(ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub | cut -d ' ' -f 2)
holdfast setup far --host-key "$print" --identity /root/login
rm /etc/sudoers.d/10-admin
holdfast setup far
has "$(cat /etc/sudoers.d/holdfast-far)" "stop -- web.service" "what stops along is named"
! runuser -u vcap -- sudo -n systemctl --no-ask-password stop -- ssh.service || fail "sudo lets too much through"

before=$(lives)
is "$(outcome_of "$(job_id "$(run_backup far)")")" succeeded "the outcome"
running || fail "not all run after the backup"
for life in $(lives); do
    [[ $before != *$life* ]] || fail "one of them was not stopped: $before"
done
saved() { restic --no-cache --repo "$repository" --password-file /etc/holdfast/secrets/main.password dump latest /files/srv/far/state; }
is "$(saved)" stopped "what was saved"
is "$(cat /srv/far/state)" runs "what lives"

# The daemon dies while the unit stops: it is stopped to the end, and started.
touch /run/hold
run_backup far >/dev/null
until_true 20 "the stop" test -e /run/held
systemctl kill --kill-who=main --signal=KILL holdfastd.service
rm -f /run/hold
undone() { [[ -z $(ls /var/lib/holdfast/undo) ]]; }
until_true 30 "all run after kill -9" running
until_true 30 "the undo steps" undone
running || fail "not all run at last"

# Masked: it could not be started again, so nothing is touched. Stopped by hand: it is not healthy.
before=$(lives)
systemctl mask --quiet app.service
failed_with "$(job_id "$(run_backup far)")" "app.service is masked"
systemctl unmask --quiet app.service
is "$(lives)" "$before" "lives that are not touched"
systemctl stop app.socket app.service
failed_with "$(job_id "$(run_backup far)")" "app.service is not healthy"
! systemctl is-active --quiet app.service || fail "what was stopped by hand was started"

# greenboot and MicroShift, as the shipped module, guard and scripts meet them: while a boot is judged nothing is recovered;
# a boot that was found bad asks for a recovery by a marker, and the next one makes it, before the service starts.
# shellcheck shell=bash
# shellcheck source=tests/system/lib.sh
source /opt/tests/lib.sh
marker=/opt/tests/rebooted

is_back() { systemctl is-active --quiet microshift.service && [[ $(cat /var/lib/microshift/etcd/member) == "good $1" ]]; }

told_of() { [[ $(/etc/greenboot/check/wanted.d/40_holdfast_told.sh) == *"$1"* ]]; }

is_judged() { [[ $(systemctl is-active greenboot-healthcheck.service) == activating ]]; }

is_not_judged() { ! is_judged; }

helper_ended() { [[ $(systemctl show --property=ActiveState --value holdfast-recover@microshift.service) == inactive ]]; }

early() { journalctl --boot --output=cat --unit=holdfastd.service | grep -q 'the guard of microshift says that it is too early'; }

fake() {
    printf '#!/bin/sh\n%s\n' "$2" >"/usr/local/bin/$1"
    chmod 755 "/usr/local/bin/$1"
}

install_microshift() {
    mkdir -p /var/lib/microshift/{certs,etcd,kubelet-plugins,resources}
    printf '4.17.1\n' >/var/lib/microshift/version
    cat >/etc/systemd/system/microshift.service <<'UNIT'
[Service]
ExecStart=/bin/bash -c 'while grep -q "^good" /var/lib/microshift/etcd/member; do sleep 0.1; done; exit 1'
[Install]
WantedBy=multi-user.target
UNIT
    # As the Containerfile says.
    install -D -m 0755 -t /etc/greenboot/red.d /usr/share/holdfast/greenboot/40_holdfast_red.sh
    install -D -m 0755 -t /etc/greenboot/check/wanted.d /usr/share/holdfast/greenboot/40_holdfast_told.sh
    mkdir -p /etc/systemd/system/microshift.service.d
    printf '[Unit]\nAfter=holdfastd.service\nOnFailure=holdfast-recover@microshift.service\n' \
        >/etc/systemd/system/microshift.service.d/10-holdfast.conf
    cat >/etc/systemd/system/greenboot-healthcheck.service <<'UNIT'
[Service]
Type=oneshot
ExecStart=/bin/sh -c 'while [ -e /run/judging ]; do sleep 0.1; done'
UNIT
    systemctl daemon-reload
    cat >/etc/holdfast/conf.d/microshift.toml <<TOML
[repository.local]
url = "$repository"

[instance.microshift]
module = "microshift"
version = { command = ["cat", "/var/lib/microshift/version"] }
restore = { health = { command = ["true"] } }

[backup.microshift]
repositories = ["local"]
instances = ["microshift"]
TOML
}

save() {
    printf 'good %s\n' "$1" >/var/lib/microshift/etcd/new
    mv /var/lib/microshift/etcd/new /var/lib/microshift/etcd/member
    systemctl restart microshift.service
    is "$(outcome_of "$(job_id "$(run_backup microshift)")")" succeeded "the backup of $1"
    is "$(systemctl is-active microshift.service)" active "the service after its backup"
}

if [[ ! -e $marker ]]; then
    fresh_machine
    install_microshift
    systemctl start holdfastd.service
    for set in one two three; do save "$set"; done
    for script in guard 40_holdfast_red.sh 40_holdfast_told.sh; do
        [[ -x /usr/share/holdfast/greenboot/$script ]] || fail "$script is not executable as installed"
    done

    # greenboot still checks this boot, then still counts it: twice the guard says no.
    touch /run/judging
    systemctl start --no-block greenboot-healthcheck.service
    until_true 10 "the check of this boot" is_judged
    until_true 30 "the end of all jobs" idle
    begin=$(milliseconds)
    printf 'corrupt\n' >/var/lib/microshift/etcd/member
    until_true 30 "the guard" early
    code=0
    said=$(holdfast recover microshift 2>&1) || code=$?
    is "$code" 1 "the exit code while a boot is judged"
    has "$said" "too early" "what is said while a boot is judged"
    fake grub2-editenv 'echo boot_counter=2; echo boot_success=0'
    rm /run/judging
    until_true 10 "the end of the check" is_not_judged
    said=$(holdfast recover microshift 2>&1) && fail "recover exits 0 while the boot is counted: $said"
    is "$(cat /var/lib/microshift/etcd/member)" corrupt "the data while the boot is judged"
    fake grub2-editenv 'echo boot_success=1'
    judged=$(milliseconds)
    until_true 60 "the newest set, once the boot is judged" is_back three
    measure "a boot that is judged, then good ($((judged - begin)) ms)" three "$judged"
    until_true 30 "what the health check prints" told_of "microshift succeeded: microshift.service runs again on snapshot"

    # A red boot: the script lays its marker. The machine boots once more.
    until_true 60 "the unit for OnFailure=" helper_ended
    systemctl stop microshift.service
    printf 'corrupt\n' >/var/lib/microshift/etcd/member
    said=$(/etc/greenboot/red.d/40_holdfast_red.sh)
    has "$said" "holdfast is asked to recover microshift" "the red script"
    [[ -e /var/lib/holdfast/recovery/microshift.asked ]] || fail "there is no marker"
    systemctl enable holdfastd.service microshift.service
    print_measures >/opt/tests/measures
    touch "$marker"
    systemctl reboot
    sleep 60
    exit 1
fi

until_true 60 "the older set after a red boot" is_back two
since=$(systemctl show --property=ActiveEnterTimestampMonotonic --value microshift.service)
began=$(systemctl show --property=ExecMainStartTimestampMonotonic --value holdfastd.service)
# Restored before the service was started for the first time: it never failed in this boot.
is "$(systemctl show --property=NRestarts --value microshift.service)" 0 "the restarts of the service"
journalctl --boot --output=cat --unit=microshift.service | grep -q 'Failed with result' &&
    fail "the service was started on bad data: $(journalctl --boot --unit=microshift.service)"
until_true 30 "what the health check prints after a red boot" told_of "microshift succeeded: microshift: data is restored"
[[ ! -e /var/lib/holdfast/recovery/microshift.asked ]] || fail "the marker is still there"
until_true 30 "the end of all jobs" idle
is "$(holdfast history --json | jq '[.[] | select(.Kind == "recover" and .Outcome == "succeeded")] | length')" 2 "recoveries"
cat /opt/tests/measures
printf 'MEASURED: %-52s | %-9s | %6d ms | %s\n' "a red boot, from the daemon's start" two $(((since - began) / 1000)) "$(find /var/lib/holdfast/failed/microshift -mindepth 1 -maxdepth 1 | wc -l) × failed data"
systemctl disable --now holdfastd.service microshift.service
rm -rf /usr/local/bin/grub2-editenv "$marker" /opt/tests/measures /etc/greenboot /etc/systemd/system/microshift.service*

# Sourced by every case, inside the booted machine.
# shellcheck shell=bash
set -euo pipefail
shopt -s inherit_errexit

bus_name=org.holdfast.Backup1
manager=(org.holdfast.Backup1 /org/holdfast/Backup1 org.holdfast.Backup1.Manager)
repository=/srv/backup/main
home=/home/wiki1/.config
restic=/usr/bin/restic
# Rows of the table that a case of recoveries prints.
measures=()

fail() {
    printf 'FAILED: %s\n' "$*" >&2
    exit 1
}

# is ACTUAL EXPECTED WHAT
is() { [[ $1 == "$2" ]] || fail "$3: expected '$2', got '$1'"; }

# has TEXT PART WHAT
has() { [[ $1 == *"$2"* ]] || fail "$3: no '$2' in: $1"; }

# until_true SECONDS WHAT COMMAND...: polls, for at most that long.
until_true() {
    local limit=$((SECONDS + $1)) what=$2
    shift 2
    until "$@" >/dev/null 2>&1; do
        ((SECONDS < limit)) || fail "waited in vain for: $what"
        sleep 0.1
    done
}

# A machine as just installed, the daemon stopped.
fresh_machine() {
    systemctl stop holdfastd.service
    systemctl reset-failed holdfastd.service 2>/dev/null || true
    rm -rf /var/lib/holdfast /var/cache/holdfast /etc/holdfast "$repository"
    systemd-tmpfiles --create holdfast.conf
    mkdir -p "$repository"
    rmdir "$repository"
}

# An unprivileged user with an NS8 module directory and one volume, and a backup `mybackup` of it without schedule.
# The dump hook leaves state/dump.txt, executes state/more if there is one, and waits while state/hold exists (state/held says that it does).
wiki_instance() {
    id wiki1 >/dev/null 2>&1 || useradd --create-home --home-dir /home/wiki1 --shell /bin/bash wiki1
    rm -rf "$home" /srv/wiki1
    install -d -o wiki1 -g wiki1 "$home" "$home/bin" "$home/etc" "$home/state" "$home/state/data" /srv/wiki1 /srv/wiki1/pages
    cat >"$home/bin/module-dump-state" <<'HOOK'
#!/bin/bash
set -e
echo "dumping for backup $1 of $MODULE_ID as $(id -un)"
printf 'dump of %s\n' "$MODULE_ID" >"$AGENT_STATE_DIR/dump.txt"
[[ ! -e $AGENT_STATE_DIR/more ]] || source "$AGENT_STATE_DIR/more"
while [[ -e $AGENT_STATE_DIR/hold ]]; do
    touch "$AGENT_STATE_DIR/held"
    sleep 0.1
done
HOOK
    cat >"$home/bin/module-cleanup-state" <<'HOOK'
#!/bin/bash
rm -f "$AGENT_STATE_DIR/dump.txt" "$AGENT_STATE_DIR/held"
echo "cleaned up"
HOOK
    chmod 755 "$home"/bin/*
    printf 'state/dump.txt\nstate/data\nvolumes/pages\n' >"$home/etc/state-include.conf"
    printf 'WIKI_MODE=test\n' >"$home/state/environment"
    printf 'hello\n' >"$home/state/data/note.txt"
    ln -s note.txt "$home/state/data/link"
    head -c 300000 /dev/urandom >/srv/wiki1/pages/front
    printf 'secret\n' >/srv/wiki1/pages/private
    chmod 600 /srv/wiki1/pages/private
    mkdir -m 2750 /srv/wiki1/pages/sub
    printf 'deep\n' >/srv/wiki1/pages/sub/deep
    chown -hR wiki1:wiki1 "$home" /srv/wiki1
    chown 12345:23456 /srv/wiki1/pages/sub/deep

    (umask 077 && printf 'a password for tests\n' >/etc/holdfast/secrets/main.password)
    cat >/etc/holdfast/conf.d/mybackup.toml <<TOML
[daemon]
restic = "$restic"

[repository.main]
url = "$repository"
password_file = "../secrets/main.password"
layout = "shared"

[backup.mybackup]
repositories = ["main"]
instances = ["wiki1"]
retention = 3

[instance.wiki1]
user = "wiki1"
install_dir = "$home"
volumes = { pages = "/srv/wiki1/pages" }
TOML
}

# After wiki_instance: app.service and app.socket, which are stopped for its backups and which nothing enables.
stopped_service() {
    cat >/etc/systemd/system/app.service <<'UNIT'
[Service]
ExecStart=/bin/sleep infinity
UNIT
    cat >/etc/systemd/system/app.socket <<'UNIT'
[Socket]
ListenStream=/run/app.sock
UNIT
    cat >>/etc/holdfast/conf.d/mybackup.toml <<'TOML'

[[instance.wiki1.service]]
manager = "systemd"
units = ["app.service"]
TOML
    systemctl daemon-reload
}

# Before wiki_instance: puts a restic in place that uploads 32 KiB a second while /run/slow exists, so that a job can be caught in it.
slow_restic() {
    restic=/usr/local/bin/slow-restic
    rm -f /run/slow
    cat >/usr/local/bin/slow-restic <<'WRAPPER'
#!/bin/sh
if [ -e /run/slow ] && [ "$1" != version ]; then
    exec /usr/bin/restic --limit-upload 32 "$@"
fi
exec /usr/bin/restic "$@"
WRAPPER
    chmod 755 /usr/local/bin/slow-restic
}

# run_backup NAME: starts it, prints the job's object path.
run_backup() { busctl --json=short call "${manager[@]}" RunBackup 'sa{sv}' "$1" 0 | jq -r '.data[0]'; }

# job_property PATH NAME
job_property() { busctl --json=short get-property "$bus_name" "$1" "$bus_name.Job" "$2" | jq -r '.data'; }

# job_row ID KEY: one value of one job from the history.
job_row() {
    busctl --json=short call "${manager[@]}" ListJobs 'a{sv}' 0 |
        jq -r --arg id "$1" --arg key "$2" '.data[0][] | select(.Id.data == $id) | .[$key].data'
}

job_ended() { [[ -n $(job_row "$1" Outcome) ]]; }

# outcome_of ID: waits for the end of the job, prints its outcome.
outcome_of() {
    until_true 60 "the end of job $1" job_ended "$1"
    job_row "$1" Outcome
}

# job_id PATH: a job's id, from its object.
job_id() { job_property "$1" Id; }

# failed_with JOB PART: the job failed, and says so.
failed_with() {
    is "$(outcome_of "$1")" failed "the outcome"
    has "$(job_row "$1" Error)" "$2" "the error"
}

# Units of the daemon's that run programs of the definitions.
hook_units() { systemctl list-units --no-legend --plain --all 'holdfastd-run-*.service'; }

locks() { restic --no-lock --no-cache --repo "$repository" --password-file /etc/holdfast/secrets/main.password list locks; }

has_lock() { compgen -G "$repository/locks/*" >/dev/null; }

no_process_of_wiki1() { ! pgrep -u wiki1 >/dev/null; }

# listing DIR...: type, owner, group, mode, target of each path and the hash of each file, to compare before and after.
# Old data that a restore keeps beside the new is left out.
listing() {
    local dir
    for dir in "$@"; do
        (
            cd "$dir"
            find . -name '.holdfast-*' -prune -o -printf '%y %U %G %m %P %l\n' | sort
            find . -name '.holdfast-*' -prune -o -type f -print0 | sort -z | xargs -0r sha256sum
        )
    done
}

# failing_service LINE...: shop.service, which fails unless /srv/shop/data begins with `good`, as an instance with a backup
# of the same name; LINE goes into its [Unit].
failing_service() {
    systemctl stop shop.service 2>/dev/null || true
    rm -rf /srv/shop
    mkdir -p /srv/shop
    printf '1.0\n' >/srv/shop-version
    printf '%s\n' '[Unit]' "$@" '[Service]' \
        "ExecStart=/bin/bash -c 'while grep -q \"^good\" /srv/shop/data; do sleep 0.1; done; exit 1'" \
        >/etc/systemd/system/shop.service
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
}

# After failing_service: a set of this data, which the service runs on.
save() {
    # In one step: the service reads it all the time.
    mkdir -p /srv/shop
    printf 'good %s\n' "$1" >/srv/shop/data.new
    mv /srv/shop/data.new /srv/shop/data
    systemctl restart shop.service
    is "$(outcome_of "$(job_id "$(run_backup shop)")")" succeeded "the backup of $1"
}

is_back() { systemctl is-active --quiet shop.service && [[ $(cat /srv/shop/data) == "good $1" ]]; }

idle() { [[ $(busctl get-property "${manager[@]}" ActiveJobs) == "u 0" ]]; }

milliseconds() { printf '%d\n' $((${EPOCHREALTIME/./} / 1000)); }

corrupt_now() {
    # shellcheck disable=SC2034 # the cases use it
    corrupted=$(milliseconds)
    printf 'corrupt\n' >/srv/shop/data
}

# Not before a recovery has ended: what fails in it is its own failure.
corrupt() {
    until_true 30 "the end of all jobs" idle
    corrupt_now
}

# measure SCENARIO SET SINCE [KEPT]: a row of the table at the end of a case; SINCE in milliseconds, `-`: nothing was restored.
measure() {
    local kept=${4:-} took=-
    [[ -n $kept ]] || kept="$(find /var/lib/holdfast/failed -mindepth 2 -maxdepth 2 2>/dev/null | wc -l) × failed data"
    [[ $3 == - ]] || took="$(($(milliseconds) - $3)) ms"
    measures+=("$(printf '%-52s | %-9s | %9s | %s' "$1" "$2" "$took" "$kept")")
}

print_measures() {
    printf 'MEASURED: %-52s | %-9s | %9s | %s\n' "scenario" "restored" "healthy in" "kept"
    printf 'MEASURED: %s\n' "${measures[@]}"
}

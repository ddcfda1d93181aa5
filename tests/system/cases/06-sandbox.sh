# The sandbox of the shipped unit, without the daemon: what a backup must read, a restore must write works
# in it. Any setting that breaks one of these belongs in the unit's list of what is left out.
# shellcheck shell=bash
# shellcheck source=tests/system/lib.sh
source /opt/tests/lib.sh

id wiki1 >/dev/null 2>&1 || useradd --create-home --home-dir /home/wiki1 --shell /bin/bash wiki1
rm -rf /srv/probe /usr/lib/probe /home/wiki1/probe /tmp/probe
mkdir -p /srv/probe
install -d -o wiki1 -g wiki1 -m 700 /home/wiki1/probe
install -o wiki1 -g wiki1 -m 600 /dev/null /home/wiki1/probe/private
install -m 644 /dev/null /tmp/probe

cat >/srv/probe/inside.sh <<'PROBE'
set -euo pipefail
trap 'echo "refused in the sandbox: $BASH_COMMAND"' ERR
cat /home/wiki1/probe/private /etc/shadow >/dev/null
test -e /tmp/probe
touch /usr/lib/probe /home/wiki1/probe/new /var/tmp/probe && rm /usr/lib/probe /var/tmp/probe
cp /bin/true /srv/probe/setuid && chown 12345:23456 /srv/probe/setuid && chmod 6755 /srv/probe/setuid
setcap cap_net_raw=ep /srv/probe/setuid
mknod /srv/probe/device b 7 200 && mknod /srv/probe/fifo p
# Whether another user's process lives is seen, by the signal that restic uses; becoming that user is for systemd to do.
kill -0 "$(systemctl show --value --property=MainPID sandbox-other.service)"
! setpriv --reuid=wiki1 --regid=wiki1 --init-groups true 2>/dev/null
busctl call org.freedesktop.systemd1 /org/freedesktop/systemd1 org.freedesktop.DBus.Peer Ping
systemctl list-units >/dev/null
setfattr -n user.note -v kept /srv/probe/setuid && setfacl -m u:12345:rw /srv/probe/fifo
restic version
ionice -c 3 nice -n 10 true
PROBE

unit=/run/systemd/system/sandbox-probe.service
mkdir -p "${unit%/*}"
sed -E -e 's|^ExecStart=.*|ExecStart=/bin/bash /srv/probe/inside.sh|' -e 's/^Type=.*/Type=oneshot/' \
    -e '/^(BusName|NotifyAccess|WatchdogSec|Restart|RestartSec|ExecReload|ExecStopPost|[A-Za-z]*Directory(Mode)?)=/d' \
    /usr/lib/systemd/system/holdfastd.service >"$unit"
systemctl daemon-reload
systemd-run --quiet --collect --uid=wiki1 --unit=sandbox-other.service sleep 600
systemctl start sandbox-probe.service ||
    fail "$(journalctl --quiet --output=cat --unit=sandbox-probe.service)"
is "$(stat -c '%u %g %a' /srv/probe/setuid)" "12345 23456 6755" "a restored setuid file"
has "$(getcap /srv/probe/setuid)" cap_net_raw "a restored file capability"
is "$(stat -c %F /srv/probe/device)" "block special file" "a restored device node"
systemctl stop sandbox-other.service
rm -f "$unit"
systemctl daemon-reload

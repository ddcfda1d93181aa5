# The machine itself: booted, with a system bus and a journal that keeps fields.
# shellcheck shell=bash
# shellcheck source=tests/system/lib.sh
source /opt/tests/lib.sh

is "$(systemctl is-system-running)" running "the state of the system ($(systemctl --failed --no-legend || true))"
has "$(busctl list --no-legend --acquired)" org.freedesktop.systemd1 "names on the system bus"
printf 'MESSAGE=hello\nHOLDFAST_JOB=probe\n' | logger --journald
journalctl --sync
is "$(journalctl --quiet --output=cat HOLDFAST_JOB=probe)" hello "a line found by its field"

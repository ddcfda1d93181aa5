# A repository's password as a credential of systemd: the daemon and its restic read it, the definitions' programs cannot,
# and it shows nowhere.
# shellcheck shell=bash
# shellcheck source=tests/system/lib.sh
source /opt/tests/lib.sh
fresh_machine
wiki_instance
canary='a canary of a password 4711'
(umask 077 && printf '%s\n' "$canary" >/etc/credential-source)
sed -i 's|^password_file = .*|password_credential = "main"|' /etc/holdfast/conf.d/mybackup.toml
cat >"$home/state/more" <<'HOOK'
env | sort
cat /run/credentials/holdfastd.service/main 2>&1 || true
HOOK

# Without the credential a run says what is missing.
systemctl start holdfastd.service
failed_with "$(job_id "$(run_backup mybackup)")" "LoadCredential"

mkdir -p /run/systemd/system/holdfastd.service.d
printf '[Service]\nLoadCredential=main:/etc/credential-source\n' >/run/systemd/system/holdfastd.service.d/credential.conf
systemctl daemon-reload
systemctl restart holdfastd.service
job=$(job_id "$(run_backup mybackup)")
is "$(outcome_of "$job")" succeeded "a backup with a credential"
restic --no-cache --repo "$repository" --password-file /etc/credential-source snapshots >/dev/null ||
    fail "the credential does not open the repository"
journalctl --sync
said=$(journalctl --quiet --output=cat "HOLDFAST_JOB=$job")
has "$said" "WIKI_MODE=test" "what the hook printed"
[[ $said != *"$canary"* ]] || fail "the password came out of a hook"
[[ $said != *CREDENTIALS_DIRECTORY* ]] || fail "the hook's environment names the credentials"
[[ $(journalctl --quiet --output=export) != *"$canary"* ]] || fail "the password is in the journal"
! grep -rqF "$canary" /var/lib/holdfast /run/holdfast /var/cache/holdfast || fail "the password was copied"
said=$(holdfast repository key main 2>&1) && fail "the client shows a credential"
has "$said" "systemd credential" "what the client says of a credential"
rm -r /run/systemd/system/holdfastd.service.d /etc/credential-source
systemctl daemon-reload

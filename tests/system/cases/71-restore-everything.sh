# In the hardened unit, a root instance with everything that a file can be comes back as it was: owners, modes, setuid,
# capabilities, ACLs, extended attributes, hard links, device nodes, times, odd names; then under a target directory.
# shellcheck shell=bash
# shellcheck source=tests/system/lib.sh
source /opt/tests/lib.sh
fresh_machine
wiki_instance
rm -rf /srv/all /srv/copy
mkdir -p /srv/all/tree/deep /srv/all/volume/empty
cd /srv/all/tree
printf 'plain\n' >plain && chown 1234:5678 plain && chmod 640 plain
cp /bin/true setuid && chown 12345:23456 setuid && chmod 6755 setuid
cp /bin/true capable && setcap cap_net_raw=ep capable
printf x >acl && setfacl -m u:1234:rw,g:5678:r acl && setfacl -d -m u:1234:rwx deep
printf x >xattr && setfattr -n user.note -v 'kept & well' xattr && setfattr -n user.dir -v d deep
ln plain hard && ln -s plain soft && ln -s /nowhere dangling && ln -s ../../../etc outside
mkfifo -m 600 fifo && mknod block b 7 200 && mknod char c 1 3
printf x >$'odd \n name \xff "quoted" *' && printf x >-- && mkdir 'dir with spaces'
truncate -s 20M sparse && chmod 000 deep && chmod 1777 'dir with spaces'
touch -h -d '2001-02-03 04:05:06.123456789' plain soft acl deep
printf v >/srv/all/volume/file && chmod 600 /srv/all/volume/file && chmod 2770 /srv/all/volume/empty
cd /
cat >>/etc/holdfast/conf.d/mybackup.toml <<'TOML'

[backup.everything]
repositories = ["main"]
instances = ["all"]

[instance.all]
restore = { keep_previous = "0s", setuid = true, devices = true }
include = ["/srv/all/tree", "volumes/data"]
volumes = { data = "/srv/all/volume" }
TOML
systemctl start holdfastd.service

# everything DIR: all that stat, getfacl, getfattr and getcap know, links as links.
everything() {
    (
        cd "$1"
        find . -mindepth 1 -printf '%y %U %G %#m %T@ %l %P\0' | sort -z | tr '\0' '|'
        # A volume stays where it is when its content is swapped: its time is new.
        stat -c '%u %g %a' .
        find . -type b,c -exec stat -c '%n %t %T' {} + | sort
        find . -type f -print0 | sort -z | xargs -0r sha256sum
        getfacl --recursive --numeric --physical --absolute-names . | sort
        find . ! -type l -print0 | sort -z | xargs -0r getfattr --dump --no-dereference --match='^(user|security.capability)' | sort
        find . -type f -print0 | xargs -0r getcap
    ) 2>&1
}
same() {
    diff <(printf '%s\n' "$1" | tr '|' '\n') <(printf '%s\n' "$2" | tr '|' '\n') || fail "$3"
}

tree=$(everything /srv/all/tree)
volume=$(everything /srv/all/volume)
is "$(outcome_of "$(job_id "$(run_backup everything)")")" succeeded "the backup"
chmod 700 /srv/all/tree/deep
rm -rf /srv/all/tree/*
find /srv/all/volume -mindepth 1 -delete
chmod 700 /srv/all/tree && chown 1:1 /srv/all/tree
holdfast restore all --yes || fail "holdfast restore exits $?"
same "$tree" "$(everything /srv/all/tree)" "the tree is not the same as before"
same "$volume" "$(everything /srv/all/volume)" "the volume is not the same as before"
is "$(stat -c %i /srv/all/tree/plain)" "$(stat -c %i /srv/all/tree/hard)" "the inode of hard links"

holdfast restore all --yes --target /srv/copy || fail "holdfast restore --target exits $?"
same "$tree" "$(everything /srv/copy/files/srv/all/tree)" "the tree in the target directory is not the same"
same "$volume" "$(everything /srv/copy/volumes/data)" "the volume in the target directory is not the same"

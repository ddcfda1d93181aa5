//! What is run on another machine to exchange data there.

/// `$1` is what to do, `$2` how to become root; the rest are paths, or groups of seven for each thing that changes places.
/// Whether root may be had is asked first, and each look ends where sudo refuses it: else that would look like what is not
/// there. sudo says so in its caller's language.
///
/// A swap goes on there when the connection is lost, so what puts back waits for its lock; a swap never waits, and so never
/// comes late. Nothing changes places beneath a server that has it open: LMDB and bbolt lock a file, and everybody may read
/// who holds locks (told apart by inode alone, for some file systems name another device there than elsewhere); RabbitMQ has
/// its files open.
pub(super) const SCRIPT: &str = r#"set -eu
LC_ALL=C; export LC_ALL
verb=$1 s=$2; shift 2
[ -z "$s" ] || $s test -e /
there() {
    said=$($s test -e "$1" 2>&1) && return
    case $said in *'is required'* | *'not allowed'* | *'have a tty'*) printf '%s\n' "$said" >&2; exit 1 ;; esac
    $s test -L "$1"
}
rests() {
    open=
    if there "$1/msg_stores"; then
        below=$($s readlink -f -- "$1" | sed 's/[*?[\\]/\\&/g')
        open=$($s find /proc -ignore_readdir_race -maxdepth 3 -path '/proc/[0-9]*/fd/*' -lname "$below/*" -print -quit 2>/dev/null) || :
    fi
    for file in "$1/lock.mdb" "$1/member/snap/db"; do
        there "$file" || continue
        inode=$($s stat -c %i -- "$file")
        if grep -q ":$inode " /proc/locks; then open=1; fi
    done
    if [ -n "$open" ]; then
        echo "a server has $1 open: stop it, or name it as a service of the instance, so that it is stopped" >&2
        exit 8
    fi
}
moves() { rests "$live"; $s mv -T -- "$1" "$2"; }
for path do
    case $verb in
    look) if there "$path"; then echo 1; else echo 0; fi ;;
    fits)
        if $s test -L "$path"; then echo "$path is a symbolic link: name the place where it leads" >&2; exit 8; fi
        if there "$path" && [ "$($s stat -c %m -- "$path")" = "$path" ]; then
            echo "$path is a file system of its own, which cannot change places: use a directory below it" >&2
            exit 8
        fi ;;
    make) $s mkdir -m 0700 -- "$path" "$path/new" "$path/old" ;;
    above) $s mkdir -m 0755 -- "$path" ;;
    list) $s find "$path" -mindepth 1 -maxdepth 1 -printf '%f\0' ;;
    marks) $s stat -c '%u:%g %a' -- "$path" ;;
    leave) ! there "$path" || $s rmdir --ignore-fail-on-non-empty -- "$path" ;;
    remove)
        case ${path##*/} in .holdfast-j*) ;; *) exit 9 ;; esac
        $s rm -rf -- "$path"
        rm -f -- "$HOME/${path##*/}.lock" ;;
    esac
done
while [ "$verb" = bring ] && [ $# -gt 0 ]; do
    $s mv -T -- "$1" "$2"
    [ -z "$3" ] || $s chown -hR -- "$3" "$2"
    shift 3
done
[ "$verb" = swap ] || [ "$verb" = back ] || exit 0
[ $# -gt 0 ] || exit 0
exec 9>>"$HOME/${2##*/}.lock"
if [ "$verb" = back ]; then flock 9; else flock -n 9; sync; fi
while [ $# -gt 0 ]; do
    if [ "$1" = marks ]; then
        if there "$3"; then $s chown -- "$4" "$3"; $s chmod -- "$5" "$3"; fi
        shift 7; continue
    fi
    live=$1 waits="$2/$4/$3" rests="$2/$5/$3" was=$6 comes=$7; shift 7
    if [ "$verb" = swap ]; then
        if [ $was = 0 ] && there "$live" && there "$waits"; then echo "$live was not there before" >&2; exit 8; fi
        if [ $was = 1 ] && there "$live" && ! there "$rests"; then moves "$live" "$rests"; fi
        if [ $comes = 1 ] && there "$waits"; then moves "$waits" "$live"; fi
    else
        if [ $comes = 1 ] && there "$live" && ! there "$waits" && there "${waits%/*}"; then moves "$live" "$waits"; fi
        if [ $was = 1 ] && there "$rests"; then
            if there "$live"; then echo "$live is in the way of what lived there" >&2; exit 8; fi
            moves "$rests" "$live"
        fi
    fi
done
"#;

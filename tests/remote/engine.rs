//! A docker of another host that is made of files: volumes are directories there, and its one container is the host itself.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use crate::host::Host;

/// What docker says and does of volumes and of the container `db`, which runs as long as the file `db-runs` is there.
const DOCKER: &str = r#"#!/bin/bash
cd '@DIR@' || exit 1
echo "$*" >>engine
case "$1 $2" in
"volume ls") ls volumes ;;
"volume inspect")
    [ -d "volumes/$3" ] || { echo "Error response from daemon: get $3: no such volume" >&2; exit 1; }
    printf '[{"Name":"%s","Driver":"local","Mountpoint":"%s/_data","Labels":%s,"Options":%s}]\n' \
        "$3" "$PWD/volumes/$3" "$(cat "volumes/$3/labels")" "$(cat "volumes/$3/options" 2>/dev/null || echo null)" ;;
"volume create")
    name=${*: -1} labels=
    for word; do case $word in --label=*) word=${word#--label=}; labels="$labels,\"${word%%=*}\":\"${word#*=}\"" ;; esac; done
    mkdir -p "volumes/$name/_data" && echo "{${labels#,}}" >"volumes/$name/labels" && echo "$name" ;;
"ps --all") [ "$5" = label=org.example.db=1 ] && echo '0123abcd db,old/link' ;;
"inspect --type")
    [ "${*: -1}" = db ] || { echo 'Error: No such container' >&2; exit 1; }
    printf '{"Id":"0123abcd","Name":"/db","Image":"sha256:45","State":{"Running":%s},"Config":{"Env":%s},"Mounts":[]}\n' \
        "$([ -e db-runs ] && echo true || echo false)" "$(cat db-env 2>/dev/null || echo '[]')" ;;
"exec -i")
    [ "$3" = 0123abcd ] || [ "$3" = db ] && [ -e db-runs ] || { echo 'Error response from daemon: container is not running' >&2; exit 1; }
    shift 3; exec "$@" ;;
*) echo "unknown: $*" >&2; exit 1 ;;
esac
"#;

/// Puts it there.
pub(crate) fn plant(host: &Host) {
    for dir in ["bin", "sbin"] {
        host.write(&format!("{dir}/docker"), DOCKER, 0o755);
    }
    host.write("db-runs", "", 0o644);
    std::fs::create_dir_all(host.path("volumes")).unwrap();
}

/// What the engine calls a volume of an instance: as for any, an instance of root has its name before it.
pub(crate) fn full(instance: &str, name: &str) -> String {
    if rustix::process::geteuid().is_root() { format!("{instance}-{name}") } else { name.to_owned() }
}

/// Makes a volume, with a label.
pub(crate) fn volume(host: &Host, full: &str) -> PathBuf {
    host.write(&format!("volumes/{full}/labels"), "{\"org.example.of\":\"test\"}\n", 0o644);
    let dir = host.path(&format!("volumes/{full}/_data"));
    std::fs::create_dir(&dir).unwrap();
    std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o751)).unwrap();
    dir
}

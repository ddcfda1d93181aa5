# Sourced by the scripts beside it and by tests/system: other Debian suites, through this machine's own mirror.
# shellcheck shell=bash

# Prints the base URI of the archive that this machine's apt takes its packages from. Asked of apt itself, so that both
# formats of source lists and every option in them count. HOLDFAST_DEBIAN_MIRROR overrides it (needed on derivatives).
debian_mirror() {
    if [[ -n ${HOLDFAST_DEBIAN_MIRROR:-} ]]; then
        printf '%s\n' "$HOLDFAST_DEBIAN_MIRROR"
        return
    fi
    local mirror
    mirror=$(apt-get update --print-uris 2>/dev/null | sed -nE "s|^'(.*)/dists/[a-z]+/InRelease' .*|\1|p" | sed -n 1p)
    if [[ -z $mirror ]]; then
        echo "no Debian archive in the apt sources of this machine: set HOLDFAST_DEBIAN_MIRROR to one" >&2
        return 1
    fi
    printf '%s\n' "$mirror"
}

# debian_sources SUITE...: a deb822 source for these suites, signed as Debian signs.
debian_sources() {
    local mirror
    mirror=$(debian_mirror) || return 1
    printf 'Types: deb\nURIs: %s\nSuites: %s\nComponents: main\n' "$mirror" "$*"
    printf 'Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n'
}

# private_apt DIR ARGUMENT...: apt-get with lists, cache and sources below DIR only, for any user. The machine's own apt
# configuration (proxy, retries, certificates) still counts; its hooks after an update do not.
private_apt() {
    local dir=$1
    shift
    mkdir -p "$dir/sources" "$dir/state/lists/partial" "$dir/cache/archives/partial"
    cat >"$dir/apt.conf" <<CONF
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
Dir::State "$dir/state";
Dir::State::status "/dev/null";
Dir::Cache "$dir/cache";
Dir::Etc::SourceList "/dev/null";
Dir::Etc::SourceParts "$dir/sources";
Acquire::Retries "5";
Acquire::Languages "none";
Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";
Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled "false";
APT::Sandbox::User "";
CONF
    apt-get -q -c "$dir/apt.conf" "$@"
}

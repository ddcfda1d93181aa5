//! A node's data on another machine: looked at, packed, and made anew there.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::messages::{FILE, details, flags, member, members_in, name_of, same_node, unfit};
use crate::dump::laid::{Laid, Owner};
use crate::dump::record::Record;
use crate::dump::run::{self, Call};
use crate::dump::site::{Site, words};
use crate::dump::yard::Yard;

/// `$1` is what to do, `$2` the node's directory. A node that ends in order says so in each of its message stores.
const SCRIPT: &str = r#"set -eu
dir=$2
case $1 in
look)
    [ -d "$dir" ] || exit 0
    stat -L -c '%a %u %g' -- "$dir"
    if [ -e "$dir-feature_flags" ]; then echo 1; else echo 0; fi
    [ ! -e "$dir/cluster_nodes.config" ] || head -c 1048576 -- "$dir/cluster_nodes.config" ;;
rest | stopped)
    real=$(cd -- "$dir" && pwd -P)
    below=$(printf '%s' "$real" | sed 's/[*?[\\]/\\&/g')
    open=$(find /proc -ignore_readdir_race -maxdepth 3 -path '/proc/[0-9]*/fd/*' -lname "$below/*" -print -quit 2>/dev/null || :)
    [ -z "$open" ] || { echo "a server has $dir open" >&2; exit 8; }
    [ "$1" = stopped ] || exit 0
    for store in "$dir"/msg_stores/vhosts/*/msg_store_persistent; do
        if [ -d "$store" ] && ! [ -f "$store/clean.dot" ]; then
            echo "the node of $dir runs, or was killed: $store says that it has not ended in order; start it and let it stop" >&2
            exit 8
        fi
    done ;;
esac
"#;

/// What a node's directory is.
pub(super) struct Seen {
    pub(super) owner: Owner,
    pub(super) node: String,
    pub(super) members: usize,
    flags: bool,
}

fn call(site: &Site, verb: &str, dir: &Path) -> Call {
    // By its whole path: `client` names where RabbitMQ's own programs are.
    let mut argv = words(["/bin/sh", "-c", SCRIPT, "sh", verb]);
    argv.push(dir.into());
    let mut call = site.question(argv, &[]);
    call.name = "looking at `data_dir` there".to_owned();
    call
}

/// Looks at a node's directory; none: it is not there.
pub(super) async fn look(site: &Site, dir: &Path) -> Result<Option<Seen>> {
    let said = run::ask(call(site, "look", dir), &site.cancel).await?;
    let mut lines = said.lines();
    let Some(first) = lines.next() else { return Ok(None) };
    let owner = Owner::told(first).with_context(|| format!("stat says {first:?}"))?;
    let flags = lines.next() == Some("1");
    let members = members_in(&lines.collect::<Vec<_>>().join(" "));
    let node = name_of(dir, &members)?;
    Ok(Some(Seen { owner, node, members: members.len().max(1), flags }))
}

/// Makes sure that nobody has it open; with `ended` also that its node ended in order.
pub(super) async fn at_rest(site: &Site, dir: &Path, ended: bool) -> Result<()> {
    let verb = if ended { "stopped" } else { "rest" };
    run::ask(call(site, verb, dir), &site.cancel).await.map(drop)
}

/// Packs a node's directory, and the list of feature flags beside it.
pub(super) async fn pack(site: &Site, dir: &Path, seen: &Seen, path: &Path) -> Result<()> {
    let above = dir.parent().context("`data_dir` is not a directory of a node")?;
    let mut argv = words(["/usr/bin/env", "tar", "--create", "--format=gnu", "--sort=name"]);
    argv.extend(words(["--numeric-owner", "--directory"]));
    let name = |path: &Path| member(&path.file_name().unwrap_or_default().to_string_lossy());
    argv.extend([OsString::from(above), "--".into(), name(dir)]);
    argv.extend(seen.flags.then(|| name(&flags(dir))));
    run::into_file(site.client(argv, &[]), path, &site.cancel).await
}

/// Makes a data directory of the file there. Nothing live is touched.
pub(in crate::dump) async fn lay(
    site: &Site,
    dir: Option<&Path>,
    tree: &Path,
    record: &Record,
    yard: &Yard<'_>,
) -> Result<Vec<Laid>> {
    let live = dir.with_context(|| unfit(record))?;
    let details = details(record)?;
    let seen = look(site, live).await?;
    let name = match &seen {
        Some(seen) => seen.node.clone(),
        None => live.file_name().unwrap_or_default().to_string_lossy().into_owned(),
    };
    same_node(site, record, &details, live, &name).await?;
    let file = yard.put(&record.path(tree), FILE).await?;
    let made = yard.at("made");
    yard.make(&made).await?;
    let mut argv = words(["tar", "--extract", "--same-permissions", "--directory"]);
    argv.extend([made.clone().into(), "--file".into(), file.into()]);
    yard.ask(argv, &[]).await.context("laying the node's data there")?;
    let new = made.join(&details.directory);
    let owner = yard.give(&new, live, &details.owner).await?;
    let mut all = vec![laid(live.to_owned(), new.clone(), owner)];
    let list = flags(&new);
    let listed = yard.ask(vec!["test".into(), "-e".into(), list.clone().into()], &[]).await.is_ok();
    if listed {
        let owner = yard.give(&list, &flags(live), &details.owner.of_a_file()).await?;
        all.push(laid(flags(live), list, owner));
    }
    Ok(all)
}

fn laid(live: PathBuf, made: PathBuf, owner: Option<String>) -> Laid {
    Laid { live, made, rests: Vec::new(), within: false, owner }
}

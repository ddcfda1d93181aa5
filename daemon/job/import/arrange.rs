//! Parts of an unpacked archive become a tree, by renaming. Blocking. No link of the archive is ever walked through.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{DirBuilderExt, lchown};
use std::path::{Component, Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};

use super::layout::{Dumped, Form, Layout, children, is_dir};
use super::names::shown;
use super::{Part, Wishes};
use crate::definition::{Dump, Instance, Source};
use crate::target::{Cover, Root, RootKind, TreePath};

/// So many paths without a directory around them are no backup any more.
const MOST: usize = 10_000;
/// How many names an error tells.
const TOLD: usize = 5;

/// A tree that came to be.
#[derive(Debug, Default)]
pub(super) struct Arranged {
    pub(super) includes: Vec<TreePath>,
    pub(super) roots: Vec<Root>,
    pub(super) dumps: Vec<Placed>,
}

/// A dump that lies in the tree.
#[derive(Debug)]
pub(super) struct Placed {
    /// Where, as a path of the tree.
    pub(super) path: PathBuf,
    /// The dump of the instance that can load it.
    pub(super) dump: Option<Dump>,
    pub(super) form: Form,
    pub(super) database: Option<String>,
}

/// What is at work.
pub(super) struct Yard<'a> {
    pub(super) raw: &'a Path,
    pub(super) tree: &'a Path,
    pub(super) cover: &'a Cover,
    /// Directories that hold only a part of what they held once.
    pub(super) implied: BTreeSet<PathBuf>,
}

/// Removes what was asked to be left out.
pub(super) fn leave_out(raw: &Path, exclude: &[Part]) -> Result<()> {
    for part in exclude {
        let path = inside(raw, &part.0)?;
        let meta = path.symlink_metadata();
        let meta = meta.with_context(|| format!("the archive holds no {} to be left out", shown(&part.0)))?;
        match meta.is_dir() {
            true => fs::remove_dir_all(&path),
            false => fs::remove_file(&path),
        }
        .with_context(|| format!("leaving out {}", shown(&part.0)))?;
    }
    Ok(())
}

/// A path below a directory, with no link on its way.
fn inside(dir: &Path, path: &Path) -> Result<PathBuf> {
    let mut whole = dir.to_owned();
    let names: Vec<_> = path.components().collect();
    for (index, name) in names.iter().enumerate() {
        let Component::Normal(name) = name else { bail!("{} leads elsewhere", shown(path)) };
        whole.push(name);
        let link = index + 1 < names.len() && whole.symlink_metadata().is_ok_and(|meta| !meta.is_dir());
        ensure!(!link, "{} lies below a link or a file", shown(path));
    }
    Ok(whole)
}

impl Yard<'_> {
    /// Brings all to its place; whatever has none, or lies where no include of the instance is, is refused.
    pub(super) fn arrange(
        mut self,
        layout: &Layout,
        wishes: &Wishes,
        instance: &Instance,
    ) -> Result<Arranged> {
        let mut maps: Vec<_> = wishes.map.iter().collect();
        maps.sort_by_key(|(from, _)| std::cmp::Reverse(from.0.components().count()));
        for (from, to) in maps {
            let there = inside(self.raw, &from.0)?.symlink_metadata().is_ok();
            ensure!(there, "the archive holds no {} that --map speaks of", shown(&from.0));
            self.bring(&from.0, to)?;
        }
        let mut dumps = Vec::new();
        for dumped in &layout.dumps {
            let alone = layout.dumps.iter().all(|other| other.service == dumped.service);
            dumps.extend(self.bring_dump(dumped, instance, alone)?);
        }
        for part in &layout.moves {
            if inside(self.raw, &part.from)?.symlink_metadata().is_ok() {
                self.bring(&part.from, &part.to)?;
                own(&self.tree.join(&part.to), part.owner)?;
            }
        }
        self.drop_rest(layout)?;
        for child in children(self.raw)? {
            self.bring(&child, &Path::new("files").join(&child))?;
        }
        let (mut includes, mut outside) = (Vec::new(), Vec::new());
        for root in ["files", "state", "volumes"].map(Path::new) {
            if self.tree.join(root).symlink_metadata().is_ok() {
                self.gather(root, &mut includes, &mut outside)?;
            }
        }
        refuse(&outside, instance, layout)?;
        ensure!(
            includes.len() <= MOST,
            "the archive names its files and not their directories; pack it anew with them"
        );
        let roots = roots(self.tree, &includes)?;
        Ok(Arranged { includes: includes.into_iter().map(TreePath).collect(), roots, dumps })
    }

    /// Moves a part of the archive to a path of the tree.
    fn bring(&mut self, from: &Path, to: &Path) -> Result<()> {
        let target = inside(self.tree, to)?;
        let source = inside(self.raw, from)?;
        let mut above: Vec<&Path> =
            to.ancestors().skip(1).filter(|path| !path.as_os_str().is_empty()).collect();
        above.reverse();
        for dir in above {
            if self.tree.join(dir).symlink_metadata().is_err() {
                fs::DirBuilder::new().mode(0o755).create(self.tree.join(dir))?;
                self.implied.insert(dir.to_owned());
            }
        }
        self.merge(from, &source, to, &target)
    }

    fn merge(&mut self, from: &Path, source: &Path, to: &Path, target: &Path) -> Result<()> {
        // All of the archive: its own directory stays.
        let all = from.as_os_str().is_empty();
        if target.symlink_metadata().is_err() && !all {
            fs::rename(source, target).with_context(|| format!("moving {}", shown(from)))?;
            let moved: Vec<PathBuf> =
                self.implied.iter().filter(|dir| dir.starts_with(from)).cloned().collect();
            for dir in moved {
                self.implied.remove(&dir);
                let rest = dir.strip_prefix(from).unwrap_or(Path::new(""));
                self.implied.insert(if rest.as_os_str().is_empty() { to.to_owned() } else { to.join(rest) });
            }
            return Ok(());
        }
        if all && target.symlink_metadata().is_err() {
            fs::DirBuilder::new().mode(0o700).create(target)?;
            like(source, target)?;
        }
        ensure!(
            is_dir(source) && is_dir(target),
            "two parts of the archive would lie at {}; say --map",
            shown(to)
        );
        if !all && !self.implied.contains(from) {
            self.implied.remove(to);
        }
        for name in children(source)? {
            self.merge(&from.join(&name), &source.join(&name), &to.join(&name), &target.join(&name))?;
        }
        if !all {
            fs::remove_dir(source)?;
        }
        Ok(())
    }

    fn bring_dump(&mut self, dumped: &Dumped, instance: &Instance, alone: bool) -> Result<Option<Placed>> {
        let source = inside(self.raw, &dumped.from)?;
        // Mapped elsewhere, or left out.
        let Ok(meta) = source.symlink_metadata() else { return Ok(None) };
        ensure!(meta.is_file(), "{} is no file", shown(&dumped.from));
        let dump = fitting(instance, dumped, alone).cloned();
        let name = dump.as_ref().map_or(dumped.service.as_str(), |dump| dump.name.as_str());
        let file = dumped.from.file_name().context("a dump without a name")?;
        let path = Path::new("dumps").join(name).join(file);
        self.bring(&dumped.from, &path)?;
        let (form, database) = (dumped.form, dumped.database.clone());
        Ok(Some(Placed { path, dump, form, database }))
    }

    /// What is of the tool goes; a directory only when nothing is left in it.
    fn drop_rest(&self, layout: &Layout) -> Result<()> {
        for part in &layout.dropped {
            let path = inside(self.raw, part)?;
            match path.symlink_metadata() {
                Err(_) => {}
                Ok(meta) if !meta.is_dir() => fs::remove_file(&path)?,
                Ok(_) => drop_empty(&path)?,
            }
        }
        Ok(())
    }

    /// The paths that a restore may swap: never a directory that the archive holds only a part of.
    fn gather(&self, path: &Path, includes: &mut Vec<PathBuf>, outside: &mut Vec<PathBuf>) -> Result<()> {
        let dir = is_dir(&self.tree.join(path));
        match self.cover.holds(path) {
            Some(_) if !dir || !self.implied.contains(path) => includes.push(path.to_owned()),
            None if !dir => outside.push(path.to_owned()),
            _ => {
                for name in children(&self.tree.join(path))? {
                    self.gather(&path.join(name), includes, outside)?;
                }
            }
        }
        Ok(())
    }
}

fn refuse(outside: &[PathBuf], instance: &Instance, layout: &Layout) -> Result<()> {
    let Some(first) = outside.first() else { return Ok(()) };
    let names: Vec<String> = outside.iter().take(TOLD).map(|path| live(path)).collect();
    let more =
        if outside.len() > TOLD { format!(" and {} more", outside.len() - TOLD) } else { String::new() };
    let (from, left_out) = part_of(first, layout);
    bail!(
        "no include of {} holds {}{more}; say where it belongs with --map {from}=PLACE, leave it out with --exclude \
         {left_out}, or add it to the instance's `include`",
        instance.name,
        names.join(", ")
    )
}

/// A path of the tree as it would live.
fn live(path: &Path) -> String {
    match path.strip_prefix("files") {
        Ok(below) => format!("/{}", shown(below)),
        Err(_) => shown(path),
    }
}

/// What to call the part of the archive that a path of the tree is of: to be mapped, and to be left out. Of an export
/// that is what was included, of others what lies at the top.
fn part_of(path: &Path, layout: &Layout) -> (String, String) {
    if let Some(manifest) = &layout.manifest {
        let include = manifest.includes.iter().find(|include| path.starts_with(&include.0));
        let include = include.map_or(path, |include| &include.0);
        return (live(include), shown(include));
    }
    let part = path.strip_prefix("files").unwrap_or(path);
    let part = shown(part.iter().next().map_or(part, Path::new));
    (part.clone(), part)
}

/// The dump that can load this one: by its name; or the only one that can, where the archive is of one server.
fn fitting<'i>(instance: &'i Instance, dumped: &Dumped, alone: bool) -> Option<&'i Dump> {
    let can = |dump: &&Dump| match (&dump.source, dumped.form) {
        (Source::Postgresql(_), Form::PgArchive | Form::PgSql) => true,
        (Source::Mariadb(_) | Source::Mysql(_), Form::MariaSql) => true,
        (Source::Command(command), Form::PgSql | Form::MariaSql) => command.restore.is_some(),
        _ => false,
    };
    let fit: Vec<&Dump> = instance.dumps.iter().filter(can).collect();
    let named = fit.iter().find(|dump| *dump.name == *dumped.service);
    named.or(fit.first().filter(|_| alone && fit.len() == 1)).copied()
}

fn drop_empty(dir: &Path) -> Result<()> {
    for name in children(dir)? {
        if is_dir(&dir.join(&name)) {
            drop_empty(&dir.join(name))?;
        }
    }
    match fs::remove_dir(dir) {
        Err(error) if error.kind() == std::io::ErrorKind::DirectoryNotEmpty => Ok(()),
        other => Ok(other?),
    }
}

/// Gives a directory the owner and the mode of another one.
fn like(from: &Path, to: &Path) -> Result<()> {
    use std::os::unix::fs::MetadataExt;
    let meta = fs::symlink_metadata(from)?;
    if rustix::process::geteuid().is_root() {
        lchown(to, Some(meta.uid()), Some(meta.gid()))?;
    }
    fs::set_permissions(to, meta.permissions())?;
    Ok(())
}

/// All of a part belongs to somebody; only root can say so.
fn own(path: &Path, owner: Option<u32>) -> Result<()> {
    let Some(id) = owner.filter(|_| rustix::process::geteuid().is_root()) else { return Ok(()) };
    lchown(path, Some(id), Some(id)).with_context(|| format!("giving {} away", path.display()))?;
    if is_dir(path) {
        for name in children(path)? {
            own(&path.join(name), owner)?;
        }
    }
    Ok(())
}

/// The roots that a restore needs to know: volumes above all, which it makes where they are missing.
pub(super) fn roots(tree: &Path, includes: &[PathBuf]) -> Result<Vec<Root>> {
    let mut found: Vec<(PathBuf, RootKind)> = Vec::new();
    for include in includes {
        let mut names = include.iter();
        let root = match names.next().map(Path::new) {
            Some(root) if root == Path::new("state") => (root.to_owned(), RootKind::State),
            Some(root) if root == Path::new("files") => (root.to_owned(), RootKind::Files),
            Some(root) => (root.join(names.next().unwrap_or_default()), RootKind::Volume),
            None => continue,
        };
        if !found.contains(&root) {
            found.push(root);
        }
    }
    let mut roots = Vec::new();
    for (path, kind) in found {
        let Some(root) = Root::of(&TreePath(path.clone()), kind, &tree.join(&path))? else { continue };
        let whole = includes.contains(&path);
        let empty = whole && children(&tree.join(&path))?.is_empty();
        roots.push(Root { whole, empty, ..root });
    }
    Ok(roots)
}

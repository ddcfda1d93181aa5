//! The tree of one snapshot: links to live data, and the list of what restic is to read through them.
//!
//! Measured with restic 0.14, 0.18 and 0.19: run in a directory that holds `volumes/NAME -> real place`, and told
//! `volumes/NAME/child`, restic stores plain directories with the real owner and mode. A link that is itself named is
//! stored as a link, so roots are replaced by their children. 0.19 does not apply excludes to what is named, older ones
//! do: so names are filtered here, by the same rules.
//!
//! Ways are checked here, link by link, but restic walks them again by name: who owns a directory can still swap it for
//! a link in between. restic has no way against that; what is written on a restore must be checked anew.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};

use super::exclude::Excludes;
use super::include::ALWAYS;
use super::include::Include;
use super::manifest::{JOB_LOG, MANIFEST, Manifest, TreePath};
use super::pattern::escape;
use super::resolve::LOCAL;
use super::root::{Root, RootKind, describe};
use super::walk::{self, Dir, Entry, Kind, Links};
use super::{Place, include::Root as From, include::Step};

/// Always included where there is an install dir, whatever the excludes say.
const ENVIRONMENT: &str = "state/environment";

/// What the kernel and the running system make up; never included with `/` as a whole.
const NOT_DATA: [&str; 4] = ["dev", "proc", "run", "sys"];

/// A tree, laid and listed.
#[derive(Debug, Clone)]
pub struct Tree {
    /// Where it lies and restic is to run.
    pub dir: PathBuf,
    /// What restic is to read: literal paths relative to [`Tree::dir`].
    pub targets: Vec<PathBuf>,
    /// The text of restic's `--exclude-file`; empty: none is needed.
    pub exclude_text: Vec<u8>,
    /// What was included, as found; none lies inside another.
    pub includes: Vec<TreePath>,
    /// What is left out, as patterns over the tree.
    pub excludes: Vec<String>,
    /// Literal includes that are not there, with the reason where it is another one.
    pub missing: Vec<String>,
    /// Patterns that match nothing.
    pub unmatched: Vec<String>,
    /// The roots.
    pub roots: Vec<Root>,
    /// What else was noticed.
    pub warnings: Vec<String>,
}

impl Tree {
    /// Lays the tree in an empty directory (real and absolute, of [`super::Staging`]) and lists what it holds. To be
    /// called after the dump, for that may make what is included. `own_dirs` are the daemon's own directories and local
    /// repositories: left out where an include contains them, refused where they themselves are included.
    ///
    /// Blocking: reads directories.
    ///
    /// # Errors
    /// A pattern that is none, an include of our own directories, nothing at all to back up, with `strict` also a
    /// missing include. Nothing but the empty directory was touched.
    pub fn build(place: &Place, dir: &Path, own_dirs: &[PathBuf]) -> Result<Self> {
        let build = || -> Result<Self> {
            let mut survey = Survey::new(place)?;
            for include in place.includes(&mut survey.warnings)? {
                survey.take(&include)?;
            }
            survey.drop_nested();
            let own = survey.own_dirs(own_dirs)?;
            survey.list(dir, own)
        };
        build().with_context(|| format!("instance {}", place.instance.name))
    }

    /// Adds what commits the set: `dumps/` if there are any, and last the manifest, written with mode 0600.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn commit(&mut self, manifest: &Manifest) -> Result<()> {
        use std::io::Write;
        use std::os::unix::fs::OpenOptionsExt;
        let dumps = self.dir.join("dumps");
        if std::fs::read_dir(&dumps).is_ok_and(|mut entries| entries.next().is_some()) {
            self.targets.push("dumps".into());
        }
        if self.dir.join(JOB_LOG).is_file() {
            self.targets.push(JOB_LOG.into());
        }
        let path = self.dir.join(MANIFEST);
        let text = manifest.to_json()?;
        let writing = || format!("writing {}", path.display());
        let mut options = std::fs::OpenOptions::new();
        let mut file = options.write(true).create_new(true).mode(0o600).open(&path).with_context(writing)?;
        file.write_all(&text).with_context(writing)?;
        self.targets.push(MANIFEST.into());
        Ok(())
    }

    /// The targets as restic's `--files-from-raw` wants them: each ended by a NUL.
    pub fn files_from_raw(&self) -> Vec<u8> {
        let mut raw = Vec::new();
        for target in &self.targets {
            raw.extend_from_slice(target.as_os_str().as_bytes());
            raw.push(0);
        }
        raw
    }
}

/// The search for what is included.
struct Survey<'a> {
    place: &'a Place,
    excludes: Excludes,
    /// Open roots by their path in the tree.
    roots: BTreeMap<PathBuf, (Dir, RootKind)>,
    /// What was found, by its path in the tree. Path order: what lies inside a directory follows it.
    entries: BTreeMap<PathBuf, Entry>,
    /// Paths that were named, not matched.
    named: BTreeSet<PathBuf>,
    missing: Vec<String>,
    unmatched: Vec<String>,
    warnings: Vec<String>,
}

impl<'a> Survey<'a> {
    fn new(place: &'a Place) -> Result<Self> {
        let mut warnings = place.warnings.clone();
        Ok(Self {
            place,
            excludes: Excludes::of(place, &mut warnings)?,
            roots: BTreeMap::new(),
            entries: BTreeMap::new(),
            named: BTreeSet::new(),
            missing: Vec::new(),
            unmatched: Vec::new(),
            warnings,
        })
    }

    /// Looks for one include.
    fn take(&mut self, include: &Include) -> Result<()> {
        let before = self.missing.len();
        let found = match include.root {
            From::State => self.below("state".into(), RootKind::State, &include.steps, include)?,
            From::Files => self.below("files".into(), RootKind::Files, &include.steps, include)?,
            From::Local => self.below(LOCAL.into(), RootKind::Files, &include.steps, include)?,
            From::Volumes => {
                let mut found = 0;
                for name in self.volumes(include.steps.first()) {
                    let rest = include.steps.get(1..).unwrap_or_default();
                    found += self.below(Path::new("volumes").join(name), RootKind::Volume, rest, include)?;
                }
                found
            }
        };
        let reported = self.missing.len() > before;
        if found == 0 && !reported {
            let asked_for = include.literal() && include.origin != ALWAYS;
            let list = if asked_for { &mut self.missing } else { &mut self.unmatched };
            list.push(include.shown());
        }
        Ok(())
    }

    fn volumes(&self, step: Option<&Step>) -> Vec<String> {
        let fits = |name: &str| match step {
            None => true,
            Some(Step::Name(wanted)) => wanted == name.as_bytes(),
            Some(Step::Glob(glob)) => glob.matches(name.as_bytes()),
        };
        self.place.volumes.keys().filter(|name| fits(name)).cloned().collect()
    }

    /// Looks below one root; answers with how much was found.
    fn below(&mut self, root: PathBuf, kind: RootKind, steps: &[Step], include: &Include) -> Result<usize> {
        if !self.roots.contains_key(&root) {
            let Some(dir) = walk::open(&self.place.live_path(&root)?)? else { return Ok(0) };
            self.roots.insert(root.clone(), (dir, kind));
        }
        let Some((dir, _)) = self.roots.get(&root) else { return Ok(0) };
        if steps.is_empty() {
            let entry = Entry { path: root.clone(), real: dir.real.clone(), kind: Kind::Dir };
            self.entries.insert(root, entry);
            return Ok(1);
        }
        // A link of another machine would lead about in this one.
        let mirrored = self.mirrored(&root);
        let links = if kind == RootKind::Files && !mirrored { Links::Trusted } else { Links::Refused };
        let found = walk::find(dir, steps, links);
        self.missing.extend(found.problems.iter().map(|why| format!("{}: {why}", include.shown())));
        let count = found.entries.len();
        for entry in found.entries {
            let path = root.join(&entry.path);
            if include.literal() {
                self.note_link(&entry, include);
                self.named.insert(path.clone());
            }
            self.entries.insert(path, entry);
        }
        Ok(count)
    }

    /// Whether a path of the tree is what was mirrored from another machine.
    fn mirrored(&self, path: &Path) -> bool {
        self.place.instance.remote.is_some() && !path.starts_with(LOCAL)
    }

    /// Whether a path of the tree is in a volume that was brought into a directory of ours.
    fn brought(&self, path: &Path) -> bool {
        self.place.brought.iter().any(|name| path.starts_with(Path::new("volumes").join(name)))
    }

    fn note_link(&mut self, entry: &Entry, include: &Include) {
        if entry.kind == Kind::Link {
            let shown = include.shown();
            self.warnings
                .push(format!("{shown} is a symbolic link: the link is stored, not what it leads to"));
        }
    }

    /// What lies in an included directory is in the tree already. A link of which something behind it is included gives
    /// way to that: restic cannot store both.
    fn drop_nested(&mut self) {
        let paths: Vec<&PathBuf> = self.entries.keys().collect();
        let covered = paths.windows(2).filter(|pair| pair[1].starts_with(pair[0]));
        let covered: BTreeSet<PathBuf> = covered.map(|pair| pair[0].clone()).collect();
        self.entries.retain(|path, entry| entry.kind != Kind::Link || !covered.contains(path));
        let mut outer: Option<PathBuf> = None;
        self.entries.retain(|path, entry| {
            if outer.as_ref().is_some_and(|outer| path.starts_with(outer)) {
                return false;
            }
            outer = (entry.kind == Kind::Dir).then(|| path.clone());
            true
        });
    }

    /// Patterns for our own directories inside includes.
    fn own_dirs(&mut self, own_dirs: &[PathBuf]) -> Result<Vec<Vec<u8>>> {
        let mut patterns = Vec::new();
        for own in own_dirs.iter().map(|dir| real_of(dir)) {
            for (path, entry) in &self.entries {
                if entry.kind == Kind::Link || self.mirrored(path) || self.brought(path) {
                    continue;
                }
                if entry.real.starts_with(&own) {
                    let (include, own) = (path.display(), own.display());
                    bail!(
                        "include {include} lies in {own}, which Holdfast itself writes during the backup; name other directories"
                    );
                }
                let Ok(below) = own.strip_prefix(&entry.real) else { continue };
                let tree_path = path.join(below);
                // Who leaves it out knows.
                let known = |path: &Path| self.excludes.leave_out(path.as_os_str().as_bytes());
                if !tree_path.ancestors().any(known) {
                    self.warnings.push(format!("{} is Holdfast's own and is left out", tree_path.display()));
                }
                patterns.push(escape(tree_path.as_os_str().as_bytes()));
            }
        }
        patterns.sort();
        patterns.dedup();
        Ok(patterns)
    }

    /// Makes the links and the final list.
    fn list(mut self, dir: &Path, own: Vec<Vec<u8>>) -> Result<Tree> {
        let shown = self.excludes.shown();
        self.protect(own)?;
        let mut tree = Tree {
            dir: dir.to_owned(),
            targets: Vec::new(),
            exclude_text: Vec::new(),
            includes: self.entries.keys().cloned().map(TreePath).collect(),
            excludes: shown,
            missing: Vec::new(),
            unmatched: Vec::new(),
            roots: Vec::new(),
            warnings: Vec::new(),
        };
        for (path, entry) in std::mem::take(&mut self.entries) {
            self.target(path, &entry, &mut tree)?;
        }
        self.check_missing(&tree)?;
        self.lay(&mut tree)?;
        tree.exclude_text = self.excludes.text(dir.as_os_str().as_bytes());
        (tree.missing, tree.unmatched, tree.warnings) = (self.missing, self.unmatched, self.warnings);
        Ok(tree)
    }

    /// Our own files must not fall to a pattern like `*.json`, and our own directories never come back in.
    fn protect(&mut self, own: Vec<Vec<u8>>) -> Result<()> {
        if !self.excludes.is_empty() {
            for kept in [ENVIRONMENT, "dumps", JOB_LOG, MANIFEST] {
                self.excludes.add(format!("!/{kept}").as_bytes(), true)?;
            }
        }
        for pattern in own {
            self.excludes.add(&pattern, true)?;
        }
        Ok(())
    }

    /// Adds an entry, or the children of a root, unless it is left out.
    fn target(&mut self, path: PathBuf, entry: &Entry, tree: &mut Tree) -> Result<()> {
        let Some((root, kind)) = self.roots.get(&path) else {
            if !self.excludes.leave_out(path.as_os_str().as_bytes()) {
                tree.targets.push(path);
            } else if self.named.contains(&path) {
                self.warnings.push(format!("{} is included and excluded: it is left out", path.display()));
            }
            return Ok(());
        };
        let names = root.names()?;
        let everything = *kind == RootKind::Files;
        tree.roots.push(describe(&path, root, *kind, Some(names.is_empty()))?);
        for name in names {
            let child = path.join(walk::path_of(name.clone()));
            let made_up = everything && NOT_DATA.iter().any(|n| n.as_bytes() == name);
            if !made_up && !self.excludes.leave_out(child.as_os_str().as_bytes()) {
                tree.targets.push(child);
            }
        }
        debug_assert!(entry.kind == Kind::Dir, "a root is a directory");
        Ok(())
    }

    fn check_missing(&self, tree: &Tree) -> Result<()> {
        if self.place.instance.strict && !self.missing.is_empty() {
            bail!("missing, and `strict` is set: {}", self.missing.join(", "));
        }
        if tree.targets.is_empty() && tree.roots.is_empty() && self.place.instance.dumps.is_empty() {
            let looked: Vec<_> = self.missing.iter().chain(&self.unmatched).cloned().collect();
            let looked = if looked.is_empty() { "no includes".to_owned() } else { looked.join(", ") };
            return Err(anyhow!("there is nothing to back up; not found: {looked}; add `include` entries"));
        }
        Ok(())
    }

    /// Makes the links that the targets need, and describes the roots that are not included as a whole.
    fn lay(&self, tree: &mut Tree) -> Result<()> {
        for (path, (root, kind)) in &self.roots {
            let whole = tree.roots.iter().any(|known| known.path.as_path() == path);
            if !whole && !tree.targets.iter().any(|target| target.starts_with(path)) {
                continue;
            }
            if !whole {
                tree.roots.push(describe(path, root, *kind, None)?);
            }
            let link = tree.dir.join(path);
            let laying = || format!("laying {}", link.display());
            if let Some(parent) = link.parent().filter(|parent| !parent.is_dir()) {
                private_dir(parent).with_context(laying)?;
            }
            std::os::unix::fs::symlink(&root.real, &link).with_context(laying)?;
        }
        for root in &mut tree.roots {
            let make = root.volume().and_then(|name| self.place.makes.get(&name));
            root.make = make.cloned().unwrap_or_default();
        }
        tree.roots.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(())
    }
}

/// A path without links as far as it exists.
fn real_of(path: &Path) -> PathBuf {
    for ancestor in path.ancestors() {
        if let (Ok(real), Ok(rest)) = (ancestor.canonicalize(), path.strip_prefix(ancestor)) {
            return if rest.as_os_str().is_empty() { real } else { real.join(rest) };
        }
    }
    path.to_owned()
}

fn private_dir(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().mode(0o700).create(path)
}

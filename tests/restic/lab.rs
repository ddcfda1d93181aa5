//! A temporary repository, a source, and one restic.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use holdfast::restic::{Access, BackupRequest, BackupSummary, Error, Restic, Terms};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

/// The password of every repository here; searched for where it must not be.
pub(crate) const PASSWORD: &str = "canary-password-7261";

/// Runs a test once for each restic: `each_restic!(name, |lab| …)`.
#[macro_export]
macro_rules! each_restic {
    ($(#[$doc:meta])* $name:ident, |$lab:ident| $body:expr) => {
        $(#[$doc])*
        mod $name {
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn restic_0_14() {
                super::$name($crate::lab::Lab::new("0.14").await).await
            }
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn restic_0_18() {
                super::$name($crate::lab::Lab::new("0.18").await).await
            }
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn restic_0_19() {
                super::$name($crate::lab::Lab::new("0.19").await).await
            }
        }

        async fn $name($lab: $crate::lab::Lab) {
            $body
        }
    };
}

/// Where the programs are.
pub(crate) fn deps() -> PathBuf {
    let given = std::env::var_os("HOLDFAST_DEPS_DIR").map(PathBuf::from);
    given.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("target/deps"))
}

/// The restic of one version.
pub(crate) fn program(version: &str) -> PathBuf {
    let path = deps().join(format!("restic-{version}/usr/bin/restic"));
    assert!(path.is_file(), "{} is missing: run `make deps`", path.display());
    path
}

/// A temporary repository, a source, and one restic.
pub(crate) struct Lab {
    pub(crate) dir: TempDir,
    pub(crate) restic: Restic,
    pub(crate) access: Access,
    pub(crate) terms: Terms,
}

impl Lab {
    /// A lab without a repository yet; its source holds one file `tree/hello`.
    pub(crate) async fn new(version: &str) -> Self {
        Self::with(Restic::probe(&program(version)).await.unwrap(), None)
    }

    /// The same with another program, or with a URL instead of a directory.
    pub(crate) fn with(restic: Restic, url: Option<&str>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (password, url) = (
            dir.path().join("password"),
            url.map_or(dir.path().join("repo").display().to_string(), Into::into),
        );
        holdfast::restic::write_private(&password, PASSWORD.as_bytes()).unwrap();
        let access =
            Access::prepare(&dir.path().join("run"), &url, &password, vec![], &dir.path().join("cache"))
                .unwrap();
        let terms = Terms {
            stall: Some(Duration::from_secs(60)),
            grace: Duration::from_secs(5),
            ..Terms::new(&CancellationToken::new())
        };
        let lab = Self { dir, restic, access, terms };
        lab.write("tree/hello", b"hello");
        lab
    }

    /// A lab with its repository made.
    pub(crate) async fn initialised(self) -> Self {
        self.restic.init(&self.access, &self.terms).await.unwrap();
        self
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, content: &[u8]) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    /// A file of so many megabytes that do not compress.
    pub(crate) fn write_noise(&self, name: &str, megabytes: usize) {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut noise = Vec::with_capacity(megabytes << 20);
        while noise.len() < megabytes << 20 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            noise.extend_from_slice(&state.to_le_bytes());
        }
        self.write(name, &noise);
    }

    /// What saves these names below `tree`.
    pub(crate) fn request(&self, names: &[&str]) -> BackupRequest {
        let list =
            tempfile::Builder::new().tempfile_in(self.dir.path()).unwrap().into_temp_path().keep().unwrap();
        fs::write(&list, names.iter().map(|n| format!("{n}\0")).collect::<String>()).unwrap();
        BackupRequest {
            dir: self.path("tree"),
            files_from_raw: vec![list],
            tags: vec!["holdfast".into(), "set=j1".into()],
            host: "testhost".into(),
            ..BackupRequest::default()
        }
    }

    pub(crate) async fn backup(&self, names: &[&str]) -> Result<BackupSummary, Error> {
        self.restic.backup(&self.access, &self.request(names), &self.terms, |_| ()).await
    }

    /// The locks in the repository; restic's temporary files beside them are none.
    pub(crate) fn locks(&self) -> Vec<PathBuf> {
        let dir = fs::read_dir(self.path("repo/locks")).unwrap();
        dir.map(|e| e.unwrap().path()).filter(|p| !p.to_string_lossy().contains("-tmp-")).collect()
    }

    /// A file that restic reads for a minute and that takes no space.
    pub(crate) fn write_long(&self, name: &str) {
        self.write(name, b"");
        fs::File::options().write(true).open(self.path(name)).unwrap().set_len(100 << 30).unwrap();
    }
}

/// A shell script that stands for a program.
pub(crate) fn script(dir: &Path, name: &str, body: &str) -> PathBuf {
    let path = dir.join(name);
    fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

/// Waits for something to become true; fails after 20 s.
pub(crate) async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < end, "waited 20 s for: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

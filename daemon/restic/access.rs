//! Which repository, and the secrets that open it: in files and environment, never in arguments or messages.

use std::ffi::OsString;
use std::fs::{DirBuilder, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret, SecretString};

/// Which repository, and how to open it.
#[derive(Debug, Clone)]
pub struct Access {
    /// A 0600 file that holds the URL: a URL may hold a password.
    pub repository_file: PathBuf,
    /// A 0600 file that holds the password.
    pub password_file: PathBuf,
    /// Credentials of the storage backend.
    pub environment: Vec<(String, SecretString)>,
    /// restic's cache; 0700. Shared by all calls to one repository.
    pub cache_dir: PathBuf,
    /// Where the repository lies when it is a local directory: lets us look for ourselves.
    pub local_path: Option<PathBuf>,
    /// From which age a lock of another host that is in the way is removed; none: never. restic's own rule for dead locks
    /// (30 minutes without renewal) holds besides.
    pub unlock_foreign_after: Option<std::time::Duration>,
}

impl Access {
    /// Writes the URL to a private file in `dir` (made 0700 if missing) and takes the password from where it is.
    ///
    /// # Errors
    /// When the directory or the file cannot be written.
    pub fn prepare(
        dir: &Path,
        url: &str,
        password_file: &Path,
        environment: Vec<(String, SecretString)>,
        cache_dir: &Path,
    ) -> io::Result<Self> {
        private_dir(dir)?;
        private_dir(cache_dir)?;
        let repository_file = dir.join("repository");
        if !holds(&repository_file, url.as_bytes()) {
            write_private(&repository_file, url.as_bytes())?;
        }
        Ok(Self {
            repository_file,
            password_file: password_file.into(),
            environment,
            cache_dir: cache_dir.into(),
            local_path: local_path(url),
            unlock_foreign_after: None,
        })
    }

    /// What restic finds in its environment. Times in its messages are then in UTC.
    pub(super) fn environment(&self) -> Vec<(OsString, OsString)> {
        let mut env: Vec<(OsString, OsString)> = Vec::with_capacity(self.environment.len() + 6);
        env.extend(std::env::var_os("TMPDIR").map(|dir| ("TMPDIR".into(), dir)));
        env.extend(self.environment.iter().map(|(k, v)| (k.into(), v.expose_secret().into())));
        env.push(("RESTIC_REPOSITORY_FILE".into(), self.repository_file.clone().into()));
        env.push(("RESTIC_PASSWORD_FILE".into(), self.password_file.clone().into()));
        env.push(("RESTIC_CACHE_DIR".into(), self.cache_dir.clone().into()));
        env.push(("RESTIC_PROGRESS_FPS".into(), "2".into()));
        env.push(("TZ".into(), "UTC".into()));
        env
    }

    /// A text of restic's without any of our secrets in it.
    pub(super) async fn mask(&self, text: &str) -> String {
        let mut secrets: Vec<String> =
            self.environment.iter().map(|(_, v)| v.expose_secret().to_owned()).collect();
        // Names of regions and the like are short; what is long enough to be a key is hidden.
        secrets.retain(|s| s.len() >= 8);
        let url = tokio::fs::read_to_string(&self.repository_file).await.unwrap_or_default();
        secrets.extend(url_password(&url).map(str::to_owned));
        let password = tokio::fs::read_to_string(&self.password_file).await.unwrap_or_default();
        secrets.extend(Some(password.trim().to_owned()).filter(|p| p.len() >= 4));
        // The longest first: one may be part of another.
        secrets.sort_by_key(|s| std::cmp::Reverse(s.len()));
        secrets.iter().fold(text.to_owned(), |text, secret| text.replace(secret, "***"))
    }
}

/// The password in `scheme://user:password@host`.
fn url_password(url: &str) -> Option<&str> {
    let rest = url.split_once("://")?.1;
    let authority = rest.split('/').next()?;
    let password = authority.rsplit_once('@')?.0.split_once(':')?.1;
    (!password.is_empty()).then_some(password)
}

/// The directory that a repository URL means, when it means one.
pub fn local_path(url: &str) -> Option<PathBuf> {
    const REMOTE: [&str; 9] = ["sftp", "rest", "s3", "swift", "b2", "azure", "gs", "rclone", "webdav"];
    let path = match url.trim().split_once(':') {
        Some(("local", path)) => path,
        Some((scheme, _)) if REMOTE.contains(&scheme) => return None,
        _ => url.trim(),
    };
    Path::new(path).is_absolute().then(|| path.into())
}

/// Makes a directory that only we can enter, and its parents, whatever the umask.
///
/// # Errors
/// When it cannot be made, or is there and not ours.
pub fn private_dir(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    std::fs::set_permissions(path, Permissions::from_mode(0o700))
}

/// Whether a private file of ours has this content already: then the disk need not be waited for.
fn holds(path: &Path, content: &[u8]) -> bool {
    let private = std::fs::symlink_metadata(path)
        .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o777 == 0o600);
    private && std::fs::read(path).is_ok_and(|found| found == content)
}

/// Writes a file that only we can read, in one step: the old content or the new, whatever the umask.
///
/// # Errors
/// When its directory cannot be written.
pub fn write_private(path: &Path, content: &[u8]) -> io::Result<()> {
    let dir = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new().permissions(Permissions::from_mode(0o600)).tempfile_in(dir)?;
    file.as_file().set_permissions(Permissions::from_mode(0o600))?;
    file.write_all(content)?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    std::fs::File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_directories_are_local() {
        for (url, path) in [
            ("/srv/r", Some("/srv/r")),
            ("local:/srv/r\n", Some("/srv/r")),
            ("/srv/a:b", Some("/srv/a:b")),
            ("rest:http://h/x", None),
            ("b2:bucket:/path", None),
            ("sftp:u@h:/srv", None),
            ("relative", None),
        ] {
            assert_eq!(local_path(url), path.map(PathBuf::from), "{url}");
        }
    }

    #[tokio::test]
    async fn no_secret_survives_masking() {
        let dir = tempfile::tempdir().unwrap();
        let password = dir.path().join("pw");
        write_private(&password, b"s3same-open\n").unwrap();
        let environment =
            vec![("AWS_SECRET_ACCESS_KEY".into(), "AKIAverysecret".into()), ("R".into(), "eu".into())];
        let url = "rest:https://user:p%40ss@host/x";
        let access =
            Access::prepare(&dir.path().join("run"), url, &password, environment, &dir.path().join("c"))
                .unwrap();
        let text = access.mask("eu: https://user:p%40ss@host key AKIAverysecret pw s3same-open").await;
        assert_eq!(text, "eu: https://user:***@host key *** pw ***");
        let debug = format!("{access:?}");
        assert!(!debug.contains("AKIA"), "{debug}");
    }

    #[test]
    fn a_changed_url_or_a_file_that_others_can_read_is_written_anew() {
        let dir = tempfile::tempdir().unwrap();
        let (run, cache) = (dir.path().join("run"), dir.path().join("cache"));
        let prepare = |url| {
            let access = Access::prepare(&run, url, Path::new("/pw"), Vec::new(), &cache).unwrap();
            let meta = std::fs::metadata(&access.repository_file).unwrap();
            assert_eq!(meta.permissions().mode() & 0o777, 0o600);
            (std::fs::read_to_string(&access.repository_file).unwrap(), access.repository_file)
        };
        assert_eq!(prepare("/srv/a").0, "/srv/a");
        let (text, file) = prepare("/srv/b");
        assert_eq!(text, "/srv/b");
        std::fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
        assert_eq!(prepare("/srv/b").0, "/srv/b");
        std::fs::remove_file(&file).unwrap();
        std::os::unix::fs::symlink("/dev/null", &file).unwrap();
        assert_eq!(prepare("/srv/b").0, "/srv/b");
    }

    #[test]
    fn private_files_are_private_and_replaced_in_one_step() {
        let dir = tempfile::tempdir().unwrap();
        let (inner, file) = (dir.path().join("a/b"), dir.path().join("a/b/secret"));
        private_dir(&inner).unwrap();
        write_private(&file, b"one").unwrap();
        write_private(&file, b"two").unwrap();
        let mode = |p: &Path| std::fs::metadata(p).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&inner), mode(&file)), (0o700, 0o600));
        assert_eq!(std::fs::read(&file).unwrap(), b"two");
        assert_eq!(std::fs::read_dir(&inner).unwrap().count(), 1);
    }
}

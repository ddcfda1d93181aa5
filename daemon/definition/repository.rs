//! A place that holds snapshots, with its password and credentials.

use std::path::PathBuf;

use super::Name;
use crate::calendar::Schedule;

/// A repository as defined. Never holds a secret itself, only where the secret is.
#[derive(Debug, Clone, PartialEq)]
pub struct Repository {
    /// Its name.
    pub name: Name,
    /// Where it is, in restic's own syntax. May hold a password (`rest:https://user:pw@host`): show [`Repository::shown_url`].
    pub url: String,
    /// Where its password comes from.
    pub password: Password,
    /// A file of `NAME=value` lines with credentials of the storage backend.
    pub environment_file: Option<PathBuf>,
    /// One restic repository for all instances, or one each.
    pub layout: Layout,
    /// The storage refuses deletes: forget and prune are never tried.
    pub append_only: bool,
    /// When unused data is removed; none: never by itself.
    pub prune: Option<Prune>,
    /// When the repository is checked; none: never by itself.
    pub check: Option<Check>,
    /// From which age a lock of another host may be removed; none: never.
    pub unlock_foreign_after: Option<std::time::Duration>,
}

/// Where a repository's password comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Password {
    /// A file that the administrator keeps: first line, without its newline.
    File(PathBuf),
    /// A systemd credential of this name, in `$CREDENTIALS_DIRECTORY`.
    Credential(String),
    /// A program that prints it.
    Command(Vec<String>),
    /// This file, made once with 256 random bits when it is first needed.
    Generated(PathBuf),
}

/// How instances share a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// `<url>/<module>/<instance uuid>`: a restic repository for each instance.
    PerInstance,
    /// One restic repository; tags tell instances apart.
    Shared,
}

/// When and how unused data is removed.
#[derive(Debug, Clone, PartialEq)]
pub struct Prune {
    /// When.
    pub schedule: Schedule,
    /// restic's `--max-unused`: a percentage, a size, or `unlimited`.
    pub max_unused: String,
}

/// When and how a repository is checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Check {
    /// When.
    pub schedule: Schedule,
    /// How much data is read back: `n/t` (rotating through all t parts), a percentage, `all`; none: structure only.
    pub read_data: Option<String>,
}

impl Repository {
    /// The URL without a password, fit for eyes and logs.
    pub fn shown_url(&self) -> String {
        let Some(scheme) = self.url.find("://") else { return self.url.clone() };
        let rest = &self.url[scheme + 3..];
        let host_end = rest.find('/').unwrap_or(rest.len());
        match (rest[..host_end].rfind('@'), rest[..host_end].find(':')) {
            (Some(at), Some(colon)) if colon < at => {
                format!("{}{}:***{}", &self.url[..scheme + 3], &rest[..colon], &rest[at..])
            }
            _ => self.url.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_in_the_url_is_not_shown() {
        let repository = |url: &str| Repository {
            name: Name::parse("r").unwrap(),
            url: url.into(),
            password: Password::Generated("/x".into()),
            environment_file: None,
            layout: Layout::Shared,
            append_only: false,
            prune: None,
            check: None,
            unlock_foreign_after: None,
        };
        assert_eq!(repository("rest:https://u:p%40:x@h:80/a").shown_url(), "rest:https://u:***@h:80/a");
        for plain in ["/srv/r", "rest:http://h:8000/u:p@x", "sftp:u@h:/srv", "b2:bucket:path"] {
            assert_eq!(repository(plain).shown_url(), plain);
        }
    }
}

//! From an exit code and restic's words to an error. restic is not translated, so its words are stable; where they
//! differ between versions, all are here. What is not known stays unknown, and is a failure.

use super::{Error, LockInfo};

/// What is said when a configuration file is definitely not there, by backend.
const NO_CONFIG: [&str; 9] = [
    "config: no such file or directory", // local
    "<config/> does not exist",          // rest, rclone
    "file does not exist",               // sftp
    "specified key does not exist",      // s3
    "NoSuchKey",                         // s3
    "object doesn't exist",              // gs
    "BlobNotFound",                      // azure
    "Object Not Found",                  // swift
    "no such file with name",            // b2
];

const DAMAGED: [&str; 12] = [
    "config file has zero size",
    "ciphertext verification failed",
    "invalid data returned",
    "config cannot be loaded",
    "config is invalid",
    "unable to decode",
    "hash mismatch",
    "does not match",
    "not found in repository",
    "not found in the index",
    "repository contains errors",
    "already contains keys",
];

const NO_SPACE: [&str; 4] = ["no space left on device", "disk quota exceeded", "507 Insufficient", "(507)"];

const DENIED: [&str; 9] = [
    "no credentials found",
    "401 Unauthorized",
    "(401)",
    "403 Forbidden",
    "(403)",
    "Access Denied",
    "AccessDenied",
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
];

/// Why a local place cannot hold a repository, until somebody changes something.
const NO_PLACE: [&str; 3] = ["not a directory", "permission denied", "read-only file system"];

const UNREACHABLE: [&str; 24] = [
    "connection refused",
    "connection reset",
    "connection timed out",
    "no such host",
    "no route to host",
    "network is unreachable",
    "i/o timeout",
    "TLS handshake",
    "x509:",
    "tls:",
    "deadline exceeded",
    "server misbehaving",
    "name resolution",
    "unexpected HTTP response (5",
    "502 Bad Gateway",
    "503 Service Unavailable",
    "504 Gateway",
    "broken pipe",
    "unexpected EOF",
    "ssh: ",
    "unable to start the sftp session",
    "Connection closed",
    "error talking HTTP to rclone",
    "dial tcp",
];

const NO_SNAPSHOT: [&str; 5] = [
    "no matching ID found",
    "no snapshot found",
    "multiple IDs with prefix",
    "not found in snapshot",
    "invalid id",
];

/// The error that a code and text mean, if they are known.
pub(super) fn classify(code: i32, text: &str) -> Option<Error> {
    match code {
        10 => return Some(Error::NoRepository),
        11 => return Some(Error::Locked { holder: LockInfo::from_message(text).map(Box::new) }),
        12 => return Some(Error::WrongPassword),
        130 => return Some(Error::Killed { signal: 2 }),
        _ => {}
    }
    let has = |word: &&str| text.contains(*word);
    if has(&"config file already exists") {
        return Some(Error::AlreadyExists);
    }
    if has(&"repository is already locked") {
        return Some(Error::Locked { holder: LockInfo::from_message(text).map(Box::new) });
    }
    if has(&"wrong password or no key found") {
        return Some(Error::WrongPassword);
    }
    if has(&"esolving password failed") || has(&"an empty password is not") {
        return Some(Error::NoPassword(brief(text)));
    }
    if has(&"directories/files do not exist") || has(&"nothing to backup") {
        return Some(Error::NothingToBackUp);
    }
    let signals = [("signal interrupt received", 2), ("signal terminated received", 15)];
    if let Some((_, signal)) = signals.into_iter().find(|(words, _)| text.contains(words)) {
        return Some(Error::Killed { signal });
    }
    storage(text)
}

/// What the storage did to us. Order matters: a full disk is no damage, and a network error may look like an absence.
pub(super) fn storage(text: &str) -> Option<Error> {
    let any = |words: &[&str]| words.iter().any(|w| text.contains(w));
    if any(&NO_SPACE) {
        return Some(Error::NoSpace(brief(text)));
    }
    if text.contains("unable to open config file") && any(&NO_CONFIG) {
        return Some(Error::NoRepository);
    }
    if any(&UNREACHABLE) {
        return Some(Error::Unreachable(brief(text)));
    }
    if any(&DENIED) {
        return Some(Error::Denied(brief(text)));
    }
    if any(&NO_SNAPSHOT) {
        return Some(Error::NoSnapshot(brief(text)));
    }
    if text.contains("unable to open repository") && any(&NO_PLACE) {
        return Some(Error::Denied(brief(text)));
    }
    any(&DAMAGED).then(|| Error::Damaged(brief(text)))
}

/// The first lines that say something, on one line.
pub(super) fn brief(text: &str) -> String {
    let lines = text.lines().map(|l| l.trim().trim_start_matches("Fatal: ")).filter(|l| !l.is_empty());
    let joined = lines.take(3).collect::<Vec<_>>().join("; ");
    match joined.char_indices().nth(400) {
        Some((end, _)) => format!("{}…", &joined[..end]),
        None => joined,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(code: i32, text: &str) -> String {
        let error = classify(code, text).map_or_else(|| "?".to_owned(), |e| format!("{e:?}"));
        error.split([' ', '(', '{']).next().unwrap().to_owned()
    }

    #[test]
    fn words_of_all_versions_mean_the_same() {
        for (text, expected) in [
            (
                "Fatal: unable to open config file: stat /r/config: no such file or directory\nIs there",
                "NoRepository",
            ),
            ("Fatal: unable to open config file: <config/> does not exist\nIs there", "NoRepository"),
            ("Fatal: unable to open config file: Lstat: file does not exist\nIs there", "NoRepository"),
            ("Fatal: unable to open config file: Stat: The specified key does not exist.", "NoRepository"),
            (
                "Fatal: unable to open config file: client.Head: Head \"http://h/config\": dial tcp: connect: connection refused",
                "Unreachable",
            ),
            ("Fatal: unable to open config file: dial tcp: lookup h: no such host", "Unreachable"),
            ("Fatal: unable to open config file: unexpected HTTP response (401): 401 Unauthorized", "Denied"),
            ("Fatal: unable to open repository at /f/r: ReadDir: open /f/r/keys: not a directory", "Denied"),
            ("Fatal: wrong password or no key found", "WrongPassword"),
            ("Resolving password failed: Fatal: /x does not exist", "NoPassword"),
            ("Fatal: Fatal: create repository at /r failed: config file already exists", "AlreadyExists"),
            ("Fatal: create key in repository at /r failed: repository already contains keys", "Damaged"),
            ("config file has zero size, invalid repository?", "Damaged"),
            ("Fatal: config cannot be loaded: ciphertext verification failed", "Damaged"),
            ("Fatal: unable to save snapshot: write /r/x: no space left on device", "NoSpace"),
            ("Fatal: invalid id \"00\": no matching ID found for prefix \"00\"", "NoSnapshot"),
            ("Fatal: all target directories/files do not exist", "NothingToBackUp"),
            ("something new", "?"),
        ] {
            assert_eq!(name(1, text), expected, "{text}");
        }
        assert_eq!(
            [name(10, ""), name(11, ""), name(12, ""), name(77, "")],
            ["NoRepository", "Locked", "WrongPassword", "?"]
        );
    }

    #[test]
    fn a_brief_text_is_one_short_line() {
        assert_eq!(brief("Fatal: a\n\n b\nc\nd"), "a; b; c");
        assert_eq!(brief(&"é".repeat(1000)).chars().count(), 401);
    }
}

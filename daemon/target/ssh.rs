//! Commands on another machine: what is to run there becomes one `ssh`, and its end is told from that of the connection.
//!
//! ssh hands over one string, which the login shell of the other side reads; so every word is quoted for a POSIX shell.
//! Nothing is asked at a terminal, no unknown host is trusted, nothing is forwarded. A user's own `ssh_config` counts
//! for what is not said here, so that a jump host may stand there.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use crate::definition::Remote;
use crate::process::{Ended, How};

/// The exit code by which ssh says that it, and not the command, failed.
const CONNECTION: i32 = 255;

/// What ssh is told each time. The first word on a subject counts, so no `ssh_config` overrules these.
const OPTIONS: [&str; 18] = [
    "BatchMode=yes",
    "StrictHostKeyChecking=yes",
    "UpdateHostKeys=no",
    "IdentitiesOnly=yes",
    "IdentityAgent=none",
    "PreferredAuthentications=publickey",
    "ForwardAgent=no",
    "ForwardX11=no",
    "ClearAllForwardings=yes",
    "PermitLocalCommand=no",
    "RequestTTY=no",
    "EscapeChar=none",
    "ControlMaster=no",
    "ControlPath=none",
    "ConnectTimeout=15",
    "ServerAliveInterval=15",
    "ServerAliveCountMax=4",
    "LogLevel=ERROR",
];

/// Why a command over ssh did not even run, or was lost.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SshError {
    /// The machine does not answer, or the connection broke. It may pass.
    #[error("{login} cannot be reached over ssh{}: look whether it runs and its network does", words(.said))]
    Unreachable {
        /// Whom we logged in as, and where.
        login: String,
        /// ssh's words.
        said: String,
    },
    /// It is not known, or not the one that was known.
    #[error(
        "the host key of {login} is not the one in {known_hosts}: the machine was made anew, or somebody stands in \
         between{}. Compare it on the machine itself; then `holdfast setup` of the instance trusts it",
        words(.said)
    )]
    HostKey {
        /// Whom we logged in as, and where.
        login: String,
        /// What is trusted.
        known_hosts: String,
        /// ssh's words.
        said: String,
    },
    /// It does not let us in.
    #[error(
        "{login} does not take our key {key}{}: add {key}.pub to its ~/.ssh/authorized_keys, or run `holdfast setup` of the \
         instance",
        words(.said)
    )]
    Refused {
        /// Whom we logged in as, and where.
        login: String,
        /// Our key.
        key: String,
        /// ssh's words.
        said: String,
    },
    /// Its sudo wants a password, or does not allow the program.
    #[error(
        "sudo on {login} does not run this without asking{}: `holdfast setup` of the instance writes the lines for \
         /etc/sudoers.d",
        words(.said)
    )]
    Sudo {
        /// Whom we logged in as, and where.
        login: String,
        /// sudo's words.
        said: String,
    },
}

fn words(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!(" ({text})") }
}

impl SshError {
    /// Whether it may be otherwise later, with nobody doing anything here.
    pub fn retryable(&self) -> bool {
        matches!(self, Self::Unreachable { .. })
    }
}

/// The `ssh` that runs a program there: its words arrive exactly as they are here.
pub fn over_ssh<I>(remote: &Remote, argv: I) -> Vec<OsString>
where
    I: IntoIterator,
    I::Item: AsRef<OsStr>,
{
    let mut ssh = client(remote);
    ssh.extend(["--".into(), remote.login().into(), command_line(argv)]);
    ssh
}

/// What runs a program there that is not to outlive the connection: its standard input is the tie. When that ends, by a
/// lost connection or a cancelled job, the program is told to end. Needs [`crate::process::Stdin::Held`]. All that it begins it
/// waits for: in a container an orphan goes to the first process there, and a PostgreSQL that is that takes one that was killed
/// for a crash of its own, and restarts (measured with 15.18).
const TIED: &str = "exec 3<&0; \"$@\" </dev/null 3<&- & c=$!; \
    { IFS= read -r x <&3; kill $c; } >/dev/null 2>&1 & w=$!; \
    wait $c; s=$?; kill $w 2>/dev/null; wait $w 2>/dev/null; exit $s";

/// The words that tie a program to its connection; see `TIED`.
pub fn tied<I>(argv: I) -> Vec<OsString>
where
    I: IntoIterator,
    I::Item: Into<OsString>,
{
    let head = ["sh", "-c", TIED, "sh"].map(OsString::from);
    head.into_iter().chain(argv.into_iter().map(Into::into)).collect()
}

/// `sudo -n` before a program: as root, or as `user`. Nothing where the machine needs none.
pub fn sudo<I>(remote: &Remote, user: Option<&str>, argv: I) -> Vec<OsString>
where
    I: IntoIterator,
    I::Item: Into<OsString>,
{
    let mut all: Vec<OsString> = match (user, remote.sudo) {
        (Some(user), _) => ["sudo", "-n", "-u", user, "--"].map(OsString::from).to_vec(),
        (None, true) => ["sudo", "-n"].map(OsString::from).to_vec(),
        (None, false) => Vec::new(),
    };
    all.extend(argv.into_iter().map(Into::into));
    all
}

/// What rsync is to reach the machine with: its `--rsh`, which it splits at blanks outside quotes.
pub fn rsync_shell(remote: &Remote) -> OsString {
    let words = client(remote);
    let mut all = Vec::new();
    for word in &words {
        let bytes = word.as_bytes();
        let mark: &[u8] = if bytes.contains(&b'\'') { b"\"" } else { b"'" };
        all.extend_from_slice(mark);
        all.extend_from_slice(bytes);
        all.extend_from_slice(mark);
        all.push(b' ');
    }
    all.pop();
    OsString::from_vec(all)
}

/// A path there, as rsync takes it.
pub fn rsync_path(remote: &Remote, path: &OsStr) -> OsString {
    let host = if remote.host.contains(':') { format!("[{}]", remote.host) } else { remote.host.clone() };
    let user = remote.user.as_ref().map(|user| format!("{user}@")).unwrap_or_default();
    let mut all = OsString::from(format!("{user}{host}:"));
    all.push(path);
    all
}

/// ssh with its options, without the host.
fn client(remote: &Remote) -> Vec<OsString> {
    let mut ssh: Vec<OsString> = vec!["ssh".into(), "-T".into()];
    for option in OPTIONS {
        ssh.extend(["-o".into(), option.into()]);
    }
    let mut known = OsString::from("UserKnownHostsFile=");
    known.push(file_option(remote.known_hosts.as_os_str()));
    ssh.extend(["-o".into(), known, "-i".into(), remote.key.clone().into()]);
    ssh.extend(remote.port.into_iter().flat_map(|port| ["-p".into(), port.to_string().into()]));
    ssh
}

/// ssh splits file names in options at blanks and expands `%`.
pub fn file_option(path: &OsStr) -> OsString {
    let text = path.to_string_lossy().replace('%', "%%");
    if text.contains([' ', '\t']) { format!("\"{text}\"").into() } else { text.into() }
}

/// One line for a shell of the other side.
pub fn command_line<I>(argv: I) -> OsString
where
    I: IntoIterator,
    I::Item: AsRef<OsStr>,
{
    let words: Vec<Vec<u8>> = argv.into_iter().map(|word| quoted(word.as_ref().as_bytes())).collect();
    OsString::from_vec(words.join(&b' '))
}

/// A word that a POSIX shell reads as exactly these bytes.
fn quoted(word: &[u8]) -> Vec<u8> {
    let plain = |b: &u8| b.is_ascii_alphanumeric() || b"_-./:,+@%".contains(b);
    if !word.is_empty() && word.iter().all(plain) {
        return word.to_vec();
    }
    let mut all = vec![b'\''];
    for byte in word {
        match byte {
            b'\'' => all.extend_from_slice(b"'\\''"),
            other => all.push(*other),
        }
    }
    all.push(b'\'');
    all
}

/// Whether the connection, the key or sudo failed rather than the program; judged by the code and what was said.
///
/// # Errors
/// Which of them.
pub fn judge(remote: &Remote, ended: &Ended) -> Result<(), SshError> {
    let text = ended.stderr_tail.trim();
    let (login, said) = (remote.login(), text.lines().next_back().unwrap_or_default().to_owned());
    if matches!(ended.how, How::Exited(1)) && asks_for_a_password(text) {
        return Err(SshError::Sudo { login, said });
    }
    if ended.stopped.is_some() || ended.how != How::Exited(CONNECTION) {
        return Ok(());
    }
    Err(of_connection(remote, text))
}

/// What ssh's own words mean.
pub fn of_connection(remote: &Remote, text: &str) -> SshError {
    let (login, said) = (remote.login(), text.trim().lines().next_back().unwrap_or_default().to_owned());
    if text.contains("Host key verification failed") || text.contains("host key is known") {
        let known_hosts = remote.known_hosts.display().to_string();
        return SshError::HostKey { login, known_hosts, said };
    }
    if text.contains("Permission denied (") || text.contains("Too many authentication failures") {
        return SshError::Refused { login, key: remote.key.display().to_string(), said };
    }
    SshError::Unreachable { login, said }
}

/// sudo's words when it may not run something without asking.
pub fn asks_for_a_password(text: &str) -> bool {
    text.lines().any(|line| {
        let line = line.trim_start();
        line.starts_with("sudo:")
            && ["password is required", "terminal is required", "not allowed", "must have a tty"]
                .iter()
                .any(|words| line.contains(words))
            || line.starts_with("Sorry, user ") && line.contains("is not allowed to execute")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remote() -> Remote {
        Remote {
            user: Some("vcap".into()),
            host: "director".into(),
            port: Some(2222),
            key: "/var/lib/holdfast/ssh/bosh".into(),
            known_hosts: "/var/lib/hold fast/known".into(),
            sudo: true,
            mirror: "/var/cache/holdfast/remote/bosh".into(),
        }
    }

    /// What a shell makes of the line, word by word.
    #[expect(clippy::disallowed_methods, reason = "a shell is the judge of what it reads")]
    fn read_by_a_shell(line: &OsStr) -> Vec<Vec<u8>> {
        let mut script = OsString::from("set -- ");
        script.push(line);
        script.push("\nfor w in \"$@\"; do printf '%s\\0' \"$w\"; done");
        let out = std::process::Command::new("sh").arg("-c").arg(script).output().unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        let mut words: Vec<Vec<u8>> = out.stdout.split(|b| *b == 0).map(<[u8]>::to_vec).collect();
        words.pop();
        words
    }

    #[test]
    fn every_word_arrives_as_it_is() {
        let every: Vec<u8> = (1..=255).collect();
        let words: Vec<Vec<u8>> = [
            "",
            "plain",
            "a b",
            "it's",
            "''",
            "\"q\"",
            "a;rm -rf /",
            "$(x) `y` $HOME ${X}",
            "line\nbreak\n",
            "\ttab",
            "*?[a]",
            "~",
            "~root",
            "-n",
            "--",
            "#no",
            "a\\b\\",
            "&& || | > <",
            "!h",
            "grün 雪",
            "{a,b}",
            "x=y",
            "a=$b",
        ]
        .iter()
        .map(|word| word.as_bytes().to_vec())
        .chain([every])
        .collect();
        let argv: Vec<OsString> = words.iter().map(|word| OsString::from_vec(word.clone())).collect();
        assert_eq!(read_by_a_shell(&command_line(&argv)), words);
    }

    #[test]
    fn ssh_asks_nothing_and_trusts_nobody() {
        let argv = over_ssh(&remote(), ["monit", "status; reboot"]);
        let shown: Vec<_> = argv.iter().map(|word| word.to_string_lossy().into_owned()).collect();
        let all = shown.join("\n");
        for wanted in [
            "BatchMode=yes",
            "StrictHostKeyChecking=yes",
            "ForwardAgent=no",
            "UserKnownHostsFile=\"/var/lib/hold fast/known\"",
            "-p\n2222",
        ] {
            assert!(all.contains(wanted), "{all}");
        }
        assert!(all.ends_with("--\nvcap@director\nmonit 'status; reboot'"), "{all}");
    }

    #[test]
    fn the_failures_of_a_connection_are_told_apart() {
        let of = |code: i32, text: &str| {
            let how = How::Exited(code);
            judge(
                &remote(),
                &Ended { how, stopped: None, stderr_tail: text.into(), duration: std::time::Duration::ZERO },
            )
        };
        assert_eq!(of(1, "no such process"), Ok(()));
        assert!(matches!(of(1, "sudo: a password is required"), Err(SshError::Sudo { .. })));
        assert!(matches!(
            of(255, "ssh: connect to host x port 22: Connection refused"),
            Err(SshError::Unreachable { .. })
        ));
        assert!(matches!(of(255, ""), Err(SshError::Unreachable { .. })));
        assert!(matches!(of(255, "@@@\nHost key verification failed."), Err(SshError::HostKey { .. })));
        assert!(matches!(
            of(255, "a@b: Permission denied (publickey,password)."),
            Err(SshError::Refused { .. })
        ));
        assert!(of(255, "").unwrap_err().retryable());
    }
}

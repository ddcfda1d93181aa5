//! A machine that is reached over ssh.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// A machine with all that is needed to reach it: undo steps hold it, so that it is found after a crash whatever the
/// definitions say by then.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Remote {
    /// Whom we log in as; none: what ssh makes of it.
    pub user: Option<String>,
    /// Its name or address, without brackets.
    pub host: String,
    /// Its port; none: the usual one.
    pub port: Option<u16>,
    /// Our private key.
    pub key: PathBuf,
    /// The host keys that are trusted; nothing is ever added to it but by `holdfast setup`.
    pub known_hosts: PathBuf,
    /// Services are spoken to, and files are read and written, with `sudo -n`.
    pub sudo: bool,
    /// Where its files are mirrored here, for restic to read them.
    pub mirror: PathBuf,
}

impl Remote {
    /// Where keys and known hosts lie, below the state directory.
    pub const DIR: &'static str = "ssh";
    /// The file of known hosts there.
    pub const KNOWN_HOSTS: &'static str = "known_hosts";
    /// Where mirrors lie, below the cache directory.
    pub const MIRRORS: &'static str = "remote";

    /// The machine that `address` names: `[USER@]HOST[:PORT]`, an IPv6 address in brackets. `instance` is whose key is
    /// used; `state` and `cache` are the daemon's directories.
    pub fn new(address: &Address, instance: &str, state: &Path, cache: &Path) -> Self {
        let Address { user, host, port } = address.clone();
        let dir = state.join(Self::DIR);
        let (key, known_hosts) = (dir.join(instance), dir.join(Self::KNOWN_HOSTS));
        let mirror = cache.join(Self::MIRRORS).join(instance);
        Self { user, host, port, key, known_hosts, sudo: false, mirror }
    }

    /// Where its `/` is mirrored here.
    pub fn root(&self) -> PathBuf {
        self.mirror.join("files")
    }

    /// Where its volumes are mirrored here.
    pub fn volumes(&self) -> PathBuf {
        self.mirror.join("volumes")
    }

    /// Where one of its volumes is mirrored here, by the name that the tree gives it.
    pub fn volume(&self, name: &str) -> PathBuf {
        self.volumes().join(name)
    }

    /// What ssh and people call it: `user@host`.
    pub fn login(&self) -> String {
        match &self.user {
            Some(user) => format!("{user}@{}", self.host),
            None => self.host.clone(),
        }
    }
}

/// `[USER@]HOST[:PORT]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// Whom we log in as.
    pub user: Option<String>,
    /// The name or address, without brackets.
    pub host: String,
    /// The port.
    pub port: Option<u16>,
}

impl Address {
    /// Reads it.
    ///
    /// # Errors
    /// The rule that it breaks.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (user, rest) = match text.rsplit_once('@') {
            Some((user, rest)) => (Some(user.to_owned()), rest),
            None => (None, text),
        };
        let (host, port) = match rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, "")) => (host, None),
            Some((host, rest)) => (host, rest.strip_prefix(':').or(Some(""))),
            None => rest.rsplit_once(':').map_or((rest, None), |(host, port)| (host, Some(port))),
        };
        let good = |text: &str, more: &str| {
            text.starts_with(|c: char| {
                c.is_ascii_alphanumeric() || c == '_' || (c == ':' && more.contains(':'))
            }) && text.chars().all(|c| c.is_ascii_alphanumeric() || more.contains(c))
        };
        if user.as_deref().is_some_and(|user| !good(user, "._-")) {
            return Err(format!("{text:?}: the user is not one"));
        }
        let bracketed = rest.starts_with('[');
        if !good(host, if bracketed { ".:%_-" } else { "._-" }) {
            return Err(format!("{text:?}: the host is not one; an IPv6 address stands in brackets"));
        }
        let port = port.map(|port| port.parse::<u16>().ok().filter(|port| *port > 0));
        match port {
            Some(None) => Err(format!("{text:?}: the port is not 1 to 65535")),
            port => Ok(Self { user, host: host.to_owned(), port: port.flatten() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_options_are_none() {
        let is = |text: &str| Address::parse(text).map(|a| (a.user.unwrap_or_default(), a.host, a.port));
        let of = |user: &str, host: &str, port| Ok((user.to_owned(), host.to_owned(), port));
        assert_eq!(is("vcap@director.example"), of("vcap", "director.example", None));
        assert_eq!(is("director:2222"), of("", "director", Some(2222)));
        assert_eq!(is("a_b@[fe80::1%eth0]:22"), of("a_b", "fe80::1%eth0", Some(22)));
        assert_eq!(is("[::1]"), of("", "::1", None));
        for bad in [
            "",
            "@h",
            "-oProxyCommand=x",
            "u@-x",
            "a b@h",
            "h:0",
            "h:70000",
            "h:",
            "::1",
            "u@h/x",
            "[::1]x",
            "$(x)@h",
            "-l@h",
        ] {
            assert!(is(bad).is_err(), "{bad}");
        }
    }
}

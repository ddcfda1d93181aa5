//! Where a repository lies, how much of it is pruned and read back, what is kept in it.

use serde_json::json;
use toml::de::DeValue;

use super::{Limit, Node, Reader, Value, nearest, table};
use crate::definition::Retention;

/// restic's backends. Source: restic manual, "Preparing a new repository" (0.19).
const BACKENDS: [&str; 10] =
    ["local", "sftp", "rest", "s3", "b2", "azure", "gs", "swift", "rclone", "swift-temp"];

/// Where a repository lies, in restic's syntax.
#[derive(Debug, Clone)]
pub(in crate::config) struct Url(pub(in crate::config) String);

impl Value for Url {
    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        let text = reader.text(node, "the address of a repository")?;
        match check_url(text) {
            Ok(()) => Some(Self(text.to_owned())),
            Err((message, help)) => reader.refuse(node, message, help),
        }
    }

    fn schema() -> serde_json::Value {
        json!({ "type": "string", "minLength": 1, "examples": ["/srv/restic", "sftp:user@host:/srv", "b2:bucket:path"] })
    }
}

/// What is wrong with an address, and the way out. Says nothing of what may be a password in it.
fn check_url(url: &str) -> Result<(), (String, String)> {
    let no = |message: &str, help: &str| Err((message.to_owned(), help.to_owned()));
    let ways =
        "write an absolute path, or one of restic's: sftp:, rest:, s3:, b2:, azure:, gs:, swift:, rclone:";
    if url.trim().is_empty() || url != url.trim() || url.contains(char::is_control) {
        return no("`url` is empty, or holds white space around it or control characters", ways);
    }
    if url.starts_with('/') {
        return local(url);
    }
    let Some((scheme, rest)) = url.split_once(':').filter(|(scheme, _)| !scheme.contains('/')) else {
        return no("`url` is a relative path", "write it from the root: \"/…\"");
    };
    match scheme {
        "local" => local(rest),
        "http" | "https" => {
            no(&format!("{scheme}: is not a backend of restic"), &format!("write \"rest:{scheme}:…\""))
        }
        "rest"
            if !(rest.starts_with("http://")
                || rest.starts_with("https://")
                || rest.starts_with("unix://")) =>
        {
            no("a rest: address needs http:// or https://", "write \"rest:https://host:8000/\"")
        }
        _ if BACKENDS[1..9].contains(&scheme) && rest.trim_start_matches('/').is_empty() => {
            no(&format!("after {scheme}: nothing follows"), "write the whole address as for `restic -r`")
        }
        _ if BACKENDS[1..9].contains(&scheme) => authority(rest),
        _ => match nearest(scheme, &BACKENDS[..9]) {
            Some(near) => {
                no(&format!("{scheme:?} is not a backend of restic"), &format!("did you mean \"{near}:\"?"))
            }
            None => no(&format!("{scheme:?} is not a backend of restic"), ways),
        },
    }
}

fn local(path: &str) -> Result<(), (String, String)> {
    match path {
        _ if !path.starts_with('/') => {
            Err(("`url` is a relative path".into(), "write it from the root: \"/…\"".into()))
        }
        _ if path.split('/').any(|part| part == "..") => {
            Err(("`url` holds \"..\"".into(), "write the path itself".into()))
        }
        _ if path.trim_end_matches('/').is_empty() => {
            Err(("`url` is the root directory".into(), "give the repository a directory of its own".into()))
        }
        _ => Ok(()),
    }
}

/// A password with `/` or `@` unescaped would be taken for the host or path, and shown.
fn authority(rest: &str) -> Result<(), (String, String)> {
    let Some((_, after)) = rest.split_once("://") else { return Ok(()) };
    let (authority, path) = after.split_once('/').unwrap_or((after, ""));
    let (user, host) = authority.rsplit_once('@').unwrap_or(("", authority));
    let port = host.rsplit_once(':').filter(|_| !host.ends_with(']')).map_or("", |(_, port)| port);
    let wrong = user.contains('@') || (port.parse::<u16>().is_err() && !port.is_empty());
    if wrong || (path.contains('@') && host.contains(':') && port.is_empty()) {
        return Err((
            "the user, host or port in `url` cannot be read".into(),
            "in a password write %2F for /, %40 for @, %3A for :".into(),
        ));
    }
    Ok(())
}

/// restic's `--max-unused`.
#[derive(Debug, Clone)]
pub(in crate::config) struct MaxUnused(pub(in crate::config) String);

impl Value for MaxUnused {
    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        let text = reader.text(node, "a percentage, a size or \"unlimited\"")?;
        let size = || {
            text.starts_with(|c: char| c.is_ascii_digit())
                .then(|| text.parse::<bytesize::ByteSize>().ok())
                .flatten()
        };
        match () {
            () if text == "unlimited" || percentage(text) => Some(Self(text.to_owned())),
            // restic knows no "MiB"; bytes it reads in every version.
            () => match size() {
                Some(size) => Some(Self(size.as_u64().to_string())),
                None => {
                    let help = "write \"10%\" (less than 100%), \"500MiB\" or \"unlimited\"";
                    reader.refuse(node, format!("{text:?} is no percentage and no size"), help)
                }
            },
        }
    }

    fn schema() -> serde_json::Value {
        json!({ "type": "string", "examples": ["10%", "500MiB", "unlimited"] })
    }
}

/// A percentage that restic takes: 0 to less than 100, with a fraction if wanted.
fn percentage(text: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    let value =
        text.strip_suffix('%').filter(|number| digits(number)).and_then(|number| number.parse::<f64>().ok());
    value.is_some_and(|value| (0.0..100.0).contains(&value))
}

/// How much is read back in a check.
#[derive(Debug, Clone)]
pub(in crate::config) struct ReadData(pub(in crate::config) String);

/// restic sorts packs by the first byte of their name into at most this many parts.
const MAX_PARTS: u32 = 256;

/// Whether a text says how much of a repository is read back in a check.
///
/// # Errors
/// What to write instead.
pub fn check_read_data(text: &str) -> Result<(), String> {
    let part = |text: &str| {
        let (n, t) = text.split_once('/')?;
        Some((n.parse::<u32>().ok()?, t.parse::<u32>().ok()?))
    };
    let parts = part(text).is_some_and(|(n, t)| n >= 1 && n <= t && t <= MAX_PARTS);
    let some = percentage(text) && text.bytes().any(|b| (b'1'..=b'9').contains(&b));
    if parts || some || text == "all" || text == "100%" {
        return Ok(());
    }
    Err("write \"1/12\" (a twelfth each time, at most 256 parts), \"5%\" or \"all\"; leave it out to read none".into())
}

impl Value for ReadData {
    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        let text = reader.text(node, "\"n/t\", a percentage or \"all\"")?;
        match check_read_data(text) {
            Ok(()) => Some(Self(text.to_owned())),
            Err(help) => reader.refuse(node, format!("{text:?} does not say how much to read"), &help),
        }
    }

    fn schema() -> serde_json::Value {
        json!({ "type": "string", "pattern": "^([0-9]+/[0-9]+|[0-9.]+%|all)$" })
    }
}

table! {
    /// The table form of `retention`.
    RawRetention {
        /// The newest so many sets.
        last: u32,
        /// The newest set of each of so many hours.
        hourly: u32,
        /// The newest set of each of so many days.
        daily: u32,
        /// The newest set of each of so many ISO weeks.
        weekly: u32,
        /// The newest set of each of so many months.
        monthly: u32,
        /// The newest set of each of so many years.
        yearly: u32,
        /// Every set younger than this, counted back from the newest.
        within: Limit,
        /// Only sets of so many versions, those seen last; of the others none. Default: of all.
        versions: u32,
    }
}

impl Value for Retention {
    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        let before = reader.noted();
        let kept = match node.get_ref() {
            DeValue::Integer(_) => Self { last: u32::read(node, reader)?, ..Self::default() },
            DeValue::Table(_) => from_table(reader.table(node)?),
            _ => {
                return reader.wrong_type(
                    node,
                    "a number of sets to keep, or a table",
                    Some("write 7, or { daily = 7 }".into()),
                );
            }
        };
        if kept == Self::default() && reader.noted() == before {
            let help = "write how many to keep, or leave `retention` out to keep all";
            return reader.refuse(node, "`retention` would keep nothing", help);
        }
        Some(kept)
    }

    fn schema() -> serde_json::Value {
        json!({ "anyOf": [{ "type": "integer", "minimum": 1 }, RawRetention::schema()] })
    }
}

fn from_table(raw: RawRetention) -> Retention {
    let RawRetention { last, hourly, daily, weekly, monthly, yearly, within, versions } = raw;
    let number = |value: Option<toml::Spanned<u32>>| value.map_or(0, toml::Spanned::into_inner);
    Retention {
        last: number(last),
        hourly: number(hourly),
        daily: number(daily),
        weekly: number(weekly),
        monthly: number(monthly),
        yearly: number(yearly),
        within: within.map(|limit| limit.into_inner().0),
        versions: number(versions),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_restic_takes_are_taken() {
        for good in [
            "/srv/restic",
            "local:/srv/restic",
            "sftp:user@host:/srv",
            "sftp://user@[::1]:2222//srv",
            "rest:https://u:p@host:8000/",
            "s3:s3.amazonaws.com/bucket",
            "s3:https://host/bucket",
            "b2:bucket:path",
            "azure:container:/",
            "gs:bucket:/x",
            "swift:container:/x",
            "rclone:remote:path",
        ] {
            assert_eq!(check_url(good), Ok(()), "{good}");
        }
    }

    #[test]
    fn other_addresses_are_refused_without_showing_a_password() {
        for bad in [
            "",
            " ",
            "srv/restic",
            "./x",
            "~/x",
            "/",
            "/srv/../x",
            "b3:bucket",
            "https://u:geheim@host/",
            "rest:host",
            "b2:",
            "sftp:",
            "rest:https://u:ge/heim@host/",
            "rest:https://u:ge@heim@host/",
            "c:\\x",
            "nosuch:x",
            "local:x",
            "/srv\n",
        ] {
            let (message, help) = check_url(bad).unwrap_err();
            assert!(!message.contains("heim") && !help.is_empty(), "{bad}: {message}");
        }
    }
}

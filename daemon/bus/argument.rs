//! Arguments as callers give them: checked for size and shape before anything else looks at them.

use jiff::Timestamp;

use super::error::{Error, Result};
use crate::definition::Name;

/// The longest string that is looked at at all, in bytes.
pub(super) const MAX_TEXT: usize = 4096;

/// The longest pause, in seconds: ten years.
const MAX_PAUSE: u64 = 10 * 366 * 86_400;

/// Refuses a string that no argument may be.
pub(super) fn limit(what: &str, text: &str) -> Result<()> {
    if text.len() > MAX_TEXT {
        return Err(Error::argument(format!("the {what} has {} bytes, {MAX_TEXT} is the most", text.len())));
    }
    Ok(())
}

/// A name of something defined.
pub(super) fn name(what: &str, text: &str) -> Result<Name> {
    limit(what, text)?;
    Name::parse(text)
        .map_err(|rule| Error::argument(format!("the {what} {} is no name: {rule}", shown(text))))
}

/// An instance, or where one lies that is not defined here: `REPOSITORY:MODULE/UUID`, which `control` reads.
pub(super) fn subject(text: &str) -> Result<String> {
    if text.contains(':') {
        limit("instance", text)?;
        return Ok(text.to_owned());
    }
    name("instance", text).map(|name| name.to_string())
}

/// A snapshot: `""` or `latest`, at least four hexadecimal digits of its id, or the id of its set. The newest is `""`.
pub(super) fn snapshot(text: &str) -> Result<&str> {
    limit("snapshot", text)?;
    let hexadecimal = text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let set = text.starts_with('j') && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    match text {
        "" | "latest" => Ok(""),
        _ if set && text.len() <= 64 => Ok(text),
        _ if hexadecimal && (4..=64).contains(&text.len()) => Ok(text),
        _ => Err(Error::argument(format!(
            "the snapshot {} is no snapshot id: give 4 to 64 hexadecimal digits as ListSnapshots shows them, \
             or \"\" for the latest set",
            shown(text)
        ))),
    }
}

/// How long to pause, in seconds; 0: until resumed.
pub(super) fn pause(seconds: u64) -> Result<u64> {
    if seconds > MAX_PAUSE {
        return Err(Error::argument(format!(
            "a pause of {seconds} s is too long: {MAX_PAUSE} s is the most, 0 is until Resume"
        )));
    }
    Ok(seconds)
}

/// A time in microseconds since the epoch.
pub(super) fn time(what: &str, microseconds: u64) -> Result<Timestamp> {
    i64::try_from(microseconds)
        .ok()
        .and_then(|at| Timestamp::from_microsecond(at).ok())
        .ok_or_else(|| Error::argument(format!("{what}: {microseconds} µs since the epoch is no time")))
}

/// What a caller gave, fit for a log line or an error: quoted, control characters escaped, shortened.
pub(super) fn shown(text: &str) -> String {
    let short: String = text.chars().take(100).collect();
    if short.len() < text.len() { format!("{short:?}…") } else { format!("{short:?}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_name_is_refused_and_shown_without_control_characters() {
        for bad in [
            "../../etc/x",
            "/etc/x",
            "",
            &"a".repeat(255),
            "a\nb",
            "a\u{1b}[2J",
            "-a",
            "--password-command=id",
            "-o sftp.command=id",
            "latest:/etc",
            "a\0b",
        ] {
            let Err(Error::InvalidArgument(message)) = name("backup", bad) else {
                panic!("{bad:?} was taken")
            };
            assert!(!message.contains(|c: char| c.is_control()), "{message:?}");
        }
        assert!(name("backup", "my-backup.1").is_ok());
    }

    #[test]
    fn long_strings_are_refused_by_length_alone() {
        let Err(Error::InvalidArgument(message)) = name("backup", &"\n".repeat(MAX_TEXT + 1)) else {
            panic!()
        };
        assert!(message.contains("4097 bytes"), "{message}");
    }

    #[test]
    fn a_snapshot_is_an_id_of_it_or_of_its_set_or_the_latest() {
        assert_eq!(snapshot("latest"), Ok(""));
        assert_eq!(snapshot(""), Ok(""));
        assert_eq!(snapshot("00ff"), Ok("00ff"));
        assert_eq!(snapshot("j20261121T074500Z_3f9a2c"), Ok("j20261121T074500Z_3f9a2c"));
        for bad in
            ["latest:/etc", "0f", "00FF", "--tag", "../aaaa", &"a".repeat(65), "abcd\n", "j-x", "j/../x"]
        {
            assert!(snapshot(bad).is_err(), "{bad:?} was taken");
        }
    }

    #[test]
    fn a_time_beyond_the_calendar_is_refused() {
        assert!(time("before", u64::MAX).is_err());
        assert!(time("before", i64::MAX as u64).is_err());
        assert_eq!(time("before", 1_000_000).unwrap().as_second(), 1);
    }
}

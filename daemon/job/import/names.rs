//! What the names of other tools' backups say: pure.

use std::path::Path;

use jiff::Timestamp;
use jiff::civil::{Date, DateTime, Time};
use jiff::tz::TimeZone;

/// What a name says of the backup in it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Told {
    /// When it was made.
    pub time: Option<Timestamp>,
    /// Of which project it is.
    pub project: Option<String>,
    /// Of which version it is.
    pub version: Option<String>,
}

/// `20231105120000`, also with a dash between day and time.
fn stamp(text: &str) -> Option<DateTime> {
    let digits = match text.len() {
        15 => text.split_once('-').map(|(day, time)| format!("{day}{time}"))?,
        _ => text.to_owned(),
    };
    if digits.len() != 14 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number = |range: std::ops::Range<usize>| digits[range].parse::<i16>().ok();
    let small = |range| number(range).and_then(|number| i8::try_from(number).ok());
    let date = Date::new(number(0..4)?, small(4..6)?, small(6..8)?).ok()?;
    let time = Time::new(small(8..10)?, small(10..12)?, small(12..14)?, 0).ok()?;
    Some(date.to_datetime(time))
}

fn in_zone(time: DateTime, zone: &TimeZone) -> Option<Timestamp> {
    zone.to_timestamp(time).ok()
}

/// `YYYYMMDDHHMMSS_VERSION`, the time local: a backup of MicroShift. A version may hold `_`.
pub fn microshift(name: &str, zone: &TimeZone) -> Option<Told> {
    let (time, version) = name.split_once('_')?;
    if time.len() != 14 || version.is_empty() {
        return None;
    }
    let time = in_zone(stamp(time)?, zone)?;
    Some(Told { time: Some(time), version: Some(version.to_owned()), project: None })
}

/// `backup_PROJECT_TIMESTAMP_UUID.tar.zst`, also with dashes: an archive of the compose sidecar, whose clock is UTC.
pub(super) fn sidecar(name: &str) -> Option<Told> {
    let stem = name.strip_suffix(".tar.zst")?;
    let rest = stem.strip_prefix("backup_").or_else(|| stem.strip_prefix("backup-"))?;
    // A project may hold everything that separates: the time is looked for from the end.
    for (at, _) in rest.char_indices().rev().filter(|(_, c)| matches!(c, '_' | '-')) {
        let after = &rest[at + 1..];
        let found = [15, 14].into_iter().find_map(|length| Some((stamp(after.get(..length)?)?, length)));
        let Some((time, length)) = found else { continue };
        let ends = after[length..].is_empty() || after[length..].starts_with(['_', '-']);
        if ends && at > 0 {
            let project = Some(rest[..at].to_owned());
            return Some(Told { time: in_zone(time, &TimeZone::UTC), project, version: None });
        }
    }
    None
}

/// `hoss-backup-2022-03-04T101112Z.tar.gz`.
pub(super) fn hoss(name: &str) -> Option<Timestamp> {
    let rest = name.strip_prefix("hoss-backup-")?;
    let text: String = rest.get(..18)?.chars().filter(char::is_ascii_digit).collect();
    in_zone(stamp(&text)?, &TimeZone::UTC)
}

/// `postgres_20150304101112.dump.bosh`, the time of the host's clock: the database, or `all`.
pub(super) fn microbosh_dump(name: &str) -> Option<&str> {
    let rest = name.strip_prefix("postgres_")?;
    let (time, database) = rest.split_once(".dump.")?;
    (stamp(time).is_some() && !database.is_empty()).then_some(database)
}

/// The first line of microBOSH's `_date.control`.
pub(super) fn control_date(text: &str, zone: &TimeZone) -> Option<Timestamp> {
    in_zone(stamp(text.lines().next()?.trim())?, zone)
}

/// A name without what comes before it, for the eye.
pub(super) fn shown(path: &Path) -> String {
    path.to_string_lossy().escape_debug().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_the_sidecars_name_is_understood() {
        let uuid = "0a1b2c3d-1111-4222-8333-444455556666";
        for (name, project) in [
            (format!("backup_myapp_20231105-120000_{uuid}.tar.zst"), "myapp"),
            (format!("backup-myapp-20231105-120000-{uuid}.tar.zst"), "myapp"),
            ("backup_myapp_20231105-120000_abc123.tar.zst".into(), "myapp"),
            (format!("backup_my_app-2_staging_20231105-120000_{uuid}.tar.zst"), "my_app-2_staging"),
            ("backup_a_20200101-000000_20231105-120000_x.tar.zst".into(), "a_20200101-000000"),
        ] {
            let told = sidecar(&name).unwrap();
            assert_eq!(told.project.as_deref(), Some(project), "{name}");
            assert_eq!(told.time.unwrap().to_string(), "2023-11-05T12:00:00Z", "{name}");
        }
        for other in [
            "backup_x.tar.zst",
            "backup_20231105-120000_x.tar.zst",
            "backup_a_20231305-120000_x.tar.zst",
            "ä",
        ] {
            assert_eq!(sidecar(other), None, "{other}");
        }
    }

    #[test]
    fn names_of_microshift_have_a_time_and_a_version_and_others_are_foreign() {
        let zone = TimeZone::fixed(jiff::tz::offset(2));
        let told = microshift("20240611132059_4.17.0", &zone).unwrap();
        assert_eq!(told.time.unwrap().to_string(), "2024-06-11T11:20:59Z");
        assert_eq!(told.version.as_deref(), Some("4.17.0"));
        assert_eq!(
            microshift("20240611132059_rhel_9.0", &zone).unwrap().version.as_deref(),
            Some("rhel_9.0")
        );
        for foreign in
            ["failed", "state.json", "20240611132059", "20240611132059_", "20241311132059_4", "x_y"]
        {
            assert_eq!(microshift(foreign, &zone), None, "{foreign}");
        }
    }

    #[test]
    fn other_names_are_understood_or_not() {
        assert_eq!(
            hoss("hoss-backup-2022-03-04T101112Z.tar.gz").unwrap().to_string(),
            "2022-03-04T10:11:12Z"
        );
        assert_eq!(hoss("hoss-backup-x"), None);
        assert_eq!(microbosh_dump("postgres_20150304101112.dump.bosh"), Some("bosh"));
        assert_eq!(microbosh_dump("postgres_2015.dump.bosh"), None);
        let zone = TimeZone::UTC;
        assert!(
            control_date("20150304101112\n20150304101500\n", &zone).is_some()
                && control_date("", &zone).is_none()
        );
    }
}

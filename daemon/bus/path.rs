//! Object paths: where the object of a name stands.
//!
//! A name is written as systemd writes unit names (`bus_label_escape`): ASCII letters, and digits that are not first,
//! stand for themselves, every other byte is `_` and two lower-case hexadecimal digits. `my-backup.2` is `my_2dbackup_2e2`,
//! `1st` is `_31st`. A job's id has only letters, digits and `_`, and stands in its path as it is.

use std::fmt::Write as _;

use zbus::ObjectPath;
use zbus::wire::OwnedObjectPath;

/// The object of the Manager and the ObjectManager.
pub const ROOT: &str = "/org/holdfast/Backup1";

/// Where a backup stands.
pub fn backup(name: &str) -> OwnedObjectPath {
    below("backup", &label(name))
}

/// Where a repository stands.
pub fn repository(name: &str) -> OwnedObjectPath {
    below("repository", &label(name))
}

/// Where an instance stands.
pub fn instance(name: &str) -> OwnedObjectPath {
    below("instance", &label(name))
}

/// Where a job stands.
pub fn job(id: &str) -> OwnedObjectPath {
    let plain = !id.is_empty() && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if plain { below("job", id) } else { below("job", &label(id)) }
}

fn below(kind: &str, label: &str) -> OwnedObjectPath {
    ObjectPath::from_string_unchecked(format!("{ROOT}/{kind}/{label}")).into()
}

/// One element of a path for any text.
fn label(text: &str) -> String {
    if text.is_empty() {
        return "_".into();
    }
    let mut label = String::with_capacity(text.len() + 8);
    for (i, byte) in text.bytes().enumerate() {
        if byte.is_ascii_alphabetic() || (i > 0 && byte.is_ascii_digit()) {
            label.push(char::from(byte));
        } else {
            // Writing into a String cannot fail.
            let _ = write!(label, "_{byte:02x}");
        }
    }
    label
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_written_as_systemd_writes_them() {
        // `systemctl`'s own: `dbus-1.service` is `dbus_2d1_2eservice`.
        for (name, element) in [
            ("dbus-1.service", "dbus_2d1_2eservice"),
            ("1st", "_31st"),
            ("a_b", "a_5fb"),
            ("", "_"),
            ("ä", "_c3_a4"),
        ] {
            assert_eq!(backup(name).as_str(), format!("{ROOT}/backup/{element}"));
        }
    }

    #[test]
    fn a_path_is_valid_whatever_the_name_and_two_names_never_share_one() {
        let names = ["a-b", "a_2db", "a.b", "A-b", "0", "_30", "\u{0}", "a/b", "../x", "😀"];
        let paths: Vec<_> = names.iter().map(|n| instance(n)).collect();
        for path in &paths {
            assert!(ObjectPath::try_from(path.as_str()).is_ok(), "{path}");
            assert_eq!(paths.iter().filter(|p| *p == path).count(), 1, "{path}");
        }
    }

    #[test]
    fn a_job_id_stands_in_its_path_as_it_is() {
        assert_eq!(job("j20261121T074500Z_3f9a2c").as_str(), format!("{ROOT}/job/j20261121T074500Z_3f9a2c"));
        assert!(ObjectPath::try_from(job("a/../b").as_str()).is_ok());
    }
}

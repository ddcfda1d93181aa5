//! An application's version: asked, and compared with the one that was saved.

use anyhow::{Result, bail};
use tokio_util::sync::CancellationToken;

use super::hook;
use crate::definition::{Version, VersionMatch};
use crate::target::Place;

/// The version as it is now; empty where the definition does not say how to find it.
///
/// # Errors
/// The program's; and when it prints nothing.
pub(super) async fn ask(place: &Place, cancel: &CancellationToken) -> Result<String> {
    let argv = match &place.instance.version {
        None => return Ok(String::new()),
        Some(Version::Command(argv)) => argv.clone(),
        Some(Version::Dpkg(name)) => {
            ["dpkg-query", "-W", "-f=${Version}", "--", name].map(String::from).to_vec()
        }
        Some(Version::Rpm(name)) => {
            ["rpm", "-q", "--qf", "%{VERSION}-%{RELEASE}", "--", name].map(String::from).to_vec()
        }
    };
    let program = place.command("version", &argv)?;
    hook::answer(program, "version", cancel).await
}

/// Whether a saved version may be restored over the present one.
///
/// # Errors
/// It may not; a sentence with both versions and what to do.
pub(super) fn check(wanted: VersionMatch, saved: &str, present: &str) -> Result<()> {
    if wanted == VersionMatch::Any || saved == present && !saved.is_empty() {
        return Ok(());
    }
    let advice = "choose another snapshot, install that version, or say force_version";
    if saved.is_empty() {
        bail!(
            "the version that was saved is not known, and version.match is \"{}\"; {advice}",
            wanted.word()
        );
    }
    let numbers = |count: usize| {
        let (old, new) = (leading(saved), leading(present));
        old.len() >= count && new.len() >= count && old[..count] == new[..count]
    };
    let fits = match wanted {
        VersionMatch::Any => true,
        VersionMatch::Exact => false,
        VersionMatch::Minor => numbers(2),
        VersionMatch::Major => numbers(1),
        VersionMatch::NotNewer => {
            numbers(0) && !leading(saved).is_empty() && leading(saved) <= leading(present)
        }
    };
    if !fits {
        bail!(
            "the snapshot is of version {saved}, here is {present}, and version.match is \"{}\"; {advice}",
            wanted.word()
        );
    }
    Ok(())
}

/// The numbers that a version begins with: `1:15.4-2` and `v15.4` are 15, 4; an epoch does not count.
fn leading(version: &str) -> Vec<u64> {
    let version = version.split_once(':').map_or(version, |(_, rest)| rest).trim_start_matches('v');
    let end = version.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(version.len());
    version[..end].split('.').map_while(|part| part.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_the_definition_says() {
        use VersionMatch::{Any, Exact, Major, Minor, NotNewer};
        for (wanted, saved, present, fits) in [
            (Any, "", "2", true),
            (Exact, "1.2", "1.2", true),
            (Exact, "1.2", "1.2.0", false),
            (Minor, "1.2.9", "1.2.10", true),
            (Minor, "1.2", "1.3", false),
            (Minor, "1", "1.3", false),
            (Major, "v15.4-2", "15.9", true),
            (Major, "1:15.4", "16.0", false),
            (NotNewer, "1.9", "1.10", true),
            (NotNewer, "1.10", "1.9", false),
            (NotNewer, "2025-01", "2024-12", false),
            (NotNewer, "x", "y", false),
            (Exact, "", "", false),
            (Major, "1.0", "", false),
        ] {
            assert_eq!(check(wanted, saved, present).is_ok(), fits, "{wanted:?} {saved} {present}");
        }
    }
}

//! An application's version: asked, and compared with the one that was saved.

use anyhow::{Context as _, Result, bail};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::hook;
use crate::definition::{Version, VersionMatch};
use crate::target::Place;

/// The version as it is now; empty where the definition does not say how to find it.
///
/// # Errors
/// The program's; and when it prints nothing.
pub(super) async fn ask(place: &Place, cancel: &CancellationToken) -> Result<String> {
    let words = |argv: &[&str]| argv.iter().map(|word| (*word).to_owned()).collect();
    let argv = match &place.instance.version {
        None => return Ok(String::new()),
        Some(Version::Ostree) => words(&["rpm-ostree", "status", "--json"]),
        Some(Version::Bootc) => words(&["bootc", "status", "--format=json"]),
        Some(Version::Command(argv)) => argv.clone(),
        Some(Version::Dpkg(name)) => {
            ["dpkg-query", "-W", "-f=${Version}", "--", name].map(String::from).to_vec()
        }
        Some(Version::Rpm(name)) => {
            ["rpm", "-q", "--qf", "%{VERSION}-%{RELEASE}", "--", name].map(String::from).to_vec()
        }
    };
    let program = place.command("version", &argv)?;
    match &place.instance.version {
        Some(Version::Ostree) => of_ostree(&hook::document(program, "version", cancel).await?),
        Some(Version::Bootc) => of_bootc(&hook::document(program, "version", cancel).await?),
        _ => hook::answer(program, "version", cancel).await,
    }
}

/// The id of the booted deployment, from `rpm-ostree status --json`.
fn of_ostree(status: &Value) -> Result<String> {
    let deployments = status["deployments"].as_array().map_or(&[][..], Vec::as_slice);
    let booted = deployments.iter().find(|deployment| deployment["booted"] == true);
    let id = booted.and_then(|booted| booted["id"].as_str()).filter(|id| !id.is_empty());
    id.map(str::to_owned).context("rpm-ostree names no booted deployment with an id")
}

/// The digest of the booted image, or the commit of one that was not booted from an image, from `bootc status`.
fn of_bootc(status: &Value) -> Result<String> {
    let booted = &status["status"]["booted"];
    let digest = booted["image"]["imageDigest"].as_str();
    let found = digest.or_else(|| booted["ostree"]["checksum"].as_str()).filter(|id| !id.is_empty());
    found.map(str::to_owned).context("bootc names no booted image: was this machine booted by it?")
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
    fn the_booted_deployment_is_found_in_what_the_programs_print() {
        let status =
            r#"{"deployments": [{"id": "rhel-2.0", "booted": false}, {"id": "rhel-1.0", "booted": true}]}"#;
        assert_eq!(of_ostree(&serde_json::from_str(status).unwrap()).unwrap(), "rhel-1.0");
        let image = r#"{"status": {"staged": null, "booted": {"image": {"imageDigest": "sha256:1"},
                       "ostree": {"checksum": "2"}}}}"#;
        assert_eq!(of_bootc(&serde_json::from_str(image).unwrap()).unwrap(), "sha256:1");
        let commit = r#"{"status": {"booted": {"image": null, "ostree": {"checksum": "2"}}}}"#;
        assert_eq!(of_bootc(&serde_json::from_str(commit).unwrap()).unwrap(), "2");
        for nothing in ["{}", "[]", "null", r#"{"deployments": 3, "status": []}"#] {
            let nothing = serde_json::from_str(nothing).unwrap();
            assert!(of_ostree(&nothing).is_err() && of_bootc(&nothing).is_err());
        }
    }

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

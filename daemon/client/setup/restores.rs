//! What a restore asks of sudo beyond what backups do.

use super::needs::{Rule, Site};
use super::spots::{Spot, rule};
use super::{engines, volumes};
use crate::definition::Instance;

/// The machine with the rules of restores alone; none: a restore of files there needs no sudo.
///
/// # Errors
/// An include cannot be named in a rule.
pub(super) async fn site(instance: &Instance, site: &Site) -> Result<Option<Site>, String> {
    if !site.remote.sudo || !site.mirrored && site.files.is_empty() {
        return Ok(None);
    }
    let mut rules = vec![rule(&["test", "-e", "/"], "-e /".to_owned())];
    let carries = !instance.exclude.is_empty();
    if site.mirrored {
        for include in instance.include.iter().filter(|include| include.starts_with('/')) {
            rules.extend(of_item(include, carries).await?);
        }
        rules.extend(volumes::restored(instance, carries).await?);
    }
    for dump in &site.files {
        rules.extend(engines::restored(dump).await?);
    }
    let mut once: Vec<Rule> = Vec::new();
    rules.into_iter().for_each(|rule| {
        if !once.iter().any(|known| (&known.argv[0], &known.pattern) == (&rule.argv[0], &rule.pattern)) {
            once.push(rule);
        }
    });
    Ok(Some(site.with_rules_alone(once, "-restore")))
}

/// The rules for one thing that changes places.
async fn of_item(include: &str, carries: bool) -> Result<Vec<Rule>, String> {
    let spot = Spot::of(include)?;
    let mut rules = spot.exchanged();
    rules.extend(spot.brought(carries).await?);
    Ok(rules)
}

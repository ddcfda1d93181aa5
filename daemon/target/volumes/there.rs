//! Where the volumes of an instance lie on its other machine, include by include: `holdfast setup` writes lines of sudo for
//! them, so it asks exactly as a backup does.

use std::path::{Path, PathBuf};

use anyhow::Result;
use tokio_util::sync::CancellationToken;

use super::{Resolver, Wanted, wanted_by};
use crate::definition::Instance;
use crate::target::account;
use crate::target::include::{Include, Root, Step};

/// A volume of another machine that an include names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FarVolume {
    /// The include.
    pub include: String,
    /// The volume's name in the tree.
    pub name: String,
    /// Where it lies there.
    pub place: PathBuf,
}

/// Asks for the volumes that an instance's includes name. Those that are not there are not in the answer.
///
/// # Errors
/// The connection's, the engine's words, or a volume that cannot be mirrored.
pub async fn volumes_there(instance: &Instance, cancel: &CancellationToken) -> Result<Vec<FarVolume>> {
    let account = account(None)?;
    let includes = instance.include.iter().map(|text| Include::defined(text, &account.home));
    let mut includes = includes.collect::<Result<Vec<_>>>()?;
    includes.retain(|include| include.root == Root::Volumes);
    let mut wanted = Wanted::default();
    includes.iter().for_each(|include| wanted_by(include.steps.first(), &mut wanted));
    let resolver = Resolver { instance, account: &account, tools: Path::new(""), cancel };
    let found = resolver.resolve(&wanted).await?;
    let mut all = Vec::new();
    for include in &includes {
        let of = found.there.iter().filter(|(name, _)| names(include, name));
        all.extend(of.map(|(name, place)| FarVolume {
            include: include.text.clone(),
            name: name.clone(),
            place: place.clone(),
        }));
    }
    Ok(all)
}

fn names(include: &Include, volume: &str) -> bool {
    match include.steps.first() {
        None => true,
        Some(Step::Name(name)) => name == volume.as_bytes(),
        Some(Step::Glob(glob)) => glob.matches(volume.as_bytes()),
    }
}

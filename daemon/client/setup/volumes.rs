//! Volumes of another machine's engine: what is asked of it, what is read of them, and what changes places in them.

use tokio_util::sync::CancellationToken;

use super::needs::{Rule, Site};
use super::spots::{ANY, Place, Spot, place, rule};
use crate::definition::{Instance, VolumePlace, Volumes};
use crate::target::{FarVolume, volumes_there};

/// What volumes may be called.
const NAME: &str = "[0-9A-Za-z][0-9A-Za-z_.-]*";
/// What stands for names of volumes that a pattern fits, in place of one.
const EVERY: &str = "*";

/// What an include says of volumes: the name of one, and what of it; nothing: all of it.
fn parts(include: &str) -> Option<(&str, &str)> {
    let rest = include.strip_prefix("volumes")?;
    let rest = rest.strip_prefix('/').or_else(|| rest.is_empty().then_some(EVERY))?.trim_matches('/');
    let (name, below) = rest.split_once('/').unwrap_or((rest, ""));
    Some((if name.is_empty() { EVERY } else { name }, below.trim_matches('/')))
}

fn is_pattern(name: &str) -> bool {
    name.contains(['*', '?', '[', '\\'])
}

/// Who keeps a volume, and what it is called there; none: a directory, or nobody knows it.
fn kept(instance: &Instance, name: &str) -> Option<(&'static str, String)> {
    match &instance.volumes {
        Volumes::None => None,
        // What is reached as root has the instance's name before its own.
        Volumes::Podman => Some(("podman", format!("{}-{name}", instance.name))),
        Volumes::Docker => Some(("docker", format!("{}-{name}", instance.name))),
        Volumes::Table(table) => match table.get(name)? {
            VolumePlace::Of(engine, full) => Some((engine.word(), full.clone())),
            VolumePlace::Directory(_) => None,
        },
    }
}

/// Those whose names are known; and the engine that is asked for all that there are.
fn named(instance: &Instance) -> (Vec<(&'static str, String)>, Option<&'static str>) {
    let (mut all, mut every) = (Vec::new(), None);
    for (name, _) in instance.include.iter().filter_map(|include| parts(include)) {
        match (&instance.volumes, is_pattern(name)) {
            (_, false) => all.extend(kept(instance, name)),
            (Volumes::Table(table), true) => all.extend(table.keys().filter_map(|name| kept(instance, name))),
            (Volumes::Podman, true) => every = Some("podman"),
            (Volumes::Docker, true) => every = Some("docker"),
            (Volumes::None, true) => {}
        }
    }
    all.sort();
    all.dedup();
    (all, every)
}

impl Site {
    /// What a backup asks of engines there.
    pub(super) fn volumes(&mut self, instance: &Instance) {
        let (all, every) = named(instance);
        for (engine, full) in all {
            self.program(engine, "volumes are asked for with it");
            let ask = [engine, "volume", "inspect", &full].map(str::to_owned).to_vec();
            self.add(Rule::root(&ask));
            self.question(ask, super::needs::ANSWERS, true);
        }
        if let Some(engine) = every {
            self.program(engine, "volumes are asked for with it");
            let list = [engine, "volume", "ls", "--format", "{{.Name}}"];
            self.add(rule(&list, "volume ls --format [{][{]\\.Name[}][}]".to_owned()));
            let own = place(instance.name.as_str()).map(|own| own.pattern).unwrap_or_default();
            let sample = format!("{}-x", instance.name);
            let ask = [engine, "volume", "inspect", &sample];
            self.add(rule(&ask, format!("volume inspect {own}-{NAME}")));
            self.question(list.map(str::to_owned).to_vec(), super::needs::ANSWERS, true);
        }
    }

    /// What reads them at the places that their engines told.
    pub(super) fn volumes_at(&mut self, instance: &Instance, found: &[FarVolume]) -> Result<(), String> {
        for volume in found {
            let at = at(instance, volume)?;
            let read = |path: &str| {
                let mut words = self.words.clone();
                words.pop();
                words.push(format!("{path}/"));
                words
            };
            let (sample, open) = (read(&at.sample), at.pattern != place(&at.sample)?.pattern);
            let words = sample.iter().skip(1).rev().skip(1).rev();
            let fixed: Result<Vec<String>, String> =
                words.map(|word| place(word).map(|word| word.pattern)).collect();
            let pattern = format!("^{} {}/$", fixed?.join(" "), at.pattern);
            self.add(Rule { pattern: open.then_some(pattern), ..Rule::root(&sample) });
        }
        Ok(())
    }
}

/// Where a volume lies; where its include is a pattern, so do others that fit it, which their engine keeps beside it.
fn at(instance: &Instance, volume: &FarVolume) -> Result<Place, String> {
    let shown = volume.place.to_str().ok_or_else(|| format!("{} is no UTF-8", volume.place.display()))?;
    let exact = place(shown)?;
    let by_pattern = parts(&volume.include).map(|(name, _)| name).filter(|name| is_pattern(name));
    let (Volumes::Podman | Volumes::Docker, Some(glob)) = (&instance.volumes, by_pattern) else {
        return Ok(exact);
    };
    let end = format!("/{}-{}/_data", instance.name, volume.name);
    let (Some(above), Ok(fits)) = (shown.strip_suffix(&end), place(&format!("{}-{glob}", instance.name)))
    else {
        return Ok(exact);
    };
    let pattern = format!("{}/{}/_data", place(above)?.pattern, fits.pattern);
    Ok(Place { pattern, sample: exact.sample })
}

/// The rules of restores.
///
/// # Errors
/// The engine's words, a volume that is not there, or a place that no rule can name.
pub(super) async fn restored(instance: &Instance, carries: bool) -> Result<Vec<Rule>, String> {
    let mut rules = Vec::new();
    if !instance.include.iter().any(|include| parts(include).is_some()) {
        return Ok(rules);
    }
    let found = volumes_there(instance, &CancellationToken::new()).await;
    let found = found.map_err(|failure| format!("{failure:#}"))?;
    for include in &instance.include {
        let Some((name, _)) = parts(include).filter(|(name, _)| !is_pattern(name)) else { continue };
        if !found.iter().any(|volume| volume.name == name) {
            return Err(format!(
                "volume {name:?} is not there, so nobody knows where it will lie: let its engine make it (`volume create`), and \
                 run this again"
            ));
        }
    }
    for volume in &found {
        rules.extend(of_volume(instance, volume, carries).await?);
    }
    Ok(rules)
}

async fn of_volume(instance: &Instance, volume: &FarVolume, carries: bool) -> Result<Vec<Rule>, String> {
    let (dir, below) = (at(instance, volume)?, parts(&volume.include).map_or("", |(_, below)| below));
    let mut rules: Vec<Rule> = made_anew(instance, volume)?.into_iter().collect();
    let spot = match below.rsplit_once('/') {
        _ if below.is_empty() => {
            rules.extend(whole(&dir));
            Spot::within(dir, Place::new(ANY, "x"))
        }
        None => Spot::within(dir, place(below)?),
        Some((above, name)) => Spot::within(dir.join(&place(above)?), place(name)?),
    };
    rules.extend(spot.exchanged());
    rules.extend(spot.brought(carries).await?);
    Ok(rules)
}

/// What lists a volume, and what gives it the owner and mode that it had.
fn whole(dir: &Place) -> Vec<Rule> {
    let (d, ds) = (&dir.pattern, dir.sample.as_str());
    vec![
        rule(
            &["find", ds, "-mindepth", "1", "-maxdepth", "1", "-printf", "%f\\0"],
            format!("{d} -mindepth 1 -maxdepth 1 -printf %f[\\]0"),
        ),
        rule(&["test", "-e", ds], format!("-[eL] {d}")),
        rule(&["stat", "-c", "%u:%g %a", "--", ds], format!("-c %u:%g %a -- {d}")),
        rule(&["chown", "--", "0:0", ds], format!("-- [0-9]+:[0-9]+ {d}")),
        rule(&["chmod", "--", "755", ds], format!("-- [0-7]+ {d}")),
    ]
}

/// What makes a volume that is gone, as any is made: options could name another place of that machine.
fn made_anew(instance: &Instance, volume: &FarVolume) -> Result<Option<Rule>, String> {
    let Some((engine, full)) = kept(instance, &volume.name) else { return Ok(None) };
    let pattern = place(&full)?.pattern;
    Ok(Some(rule(&[engine, "volume", "create", &full], format!("volume create (--label=[^ ]+ )*{pattern}"))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_include_says_which_volume_and_what_of_it() {
        assert_eq!(parts("volumes/data"), Some(("data", "")));
        assert_eq!(parts("volumes/data/sub/x/"), Some(("data", "sub/x")));
        assert_eq!((parts("volumes"), parts("volumes/")), (Some(("*", "")), Some(("*", ""))));
        assert_eq!((parts("/volumes/data"), parts("volumesx")), (None, None));
    }

    #[test]
    fn later_volumes_fit_only_where_the_include_is_a_pattern_and_the_engine_keeps_them() {
        let mut instance = Instance::bare(crate::definition::Name::parse("app").unwrap());
        instance.volumes = Volumes::Docker;
        let at = |include: &str, lies: &str| {
            let volume = FarVolume { include: include.into(), name: "data".into(), place: lies.into() };
            at(&instance, &volume).unwrap().pattern
        };
        assert_eq!(at("volumes/data", "/v/app-data/_data"), "/v/app-data/_data");
        assert_eq!(at("volumes/d*", "/v/app-data/_data"), "/v/app-d[^/ ]*/_data");
        assert_eq!(at("volumes/[d]ata", "/v/app-data/_data"), "/v/app-data/_data");
        assert_eq!(at("volumes/*", "/srv/elsewhere"), "/srv/elsewhere");
    }
}

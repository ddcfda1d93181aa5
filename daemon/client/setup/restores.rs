//! What a restore asks of sudo beyond what backups do. The names of our directories change with each job, so these rules are
//! regular expressions, which sudo knows from 1.9.10 on; everything around those names is fixed.

use std::path::Path;

use super::needs::{Rule, Site};
use crate::definition::Instance;
use crate::job::rsync_words_of_restores;

/// How our directories beside live data are called, and one of that name.
const OURS: &str = r"\.holdfast-j[0-9A-Za-z_]+";
const ONE: &str = ".holdfast-j1";

/// A path, as a rule has it and as one that fits.
struct Place {
    pattern: String,
    sample: String,
}

/// The machine with the rules of restores alone; none: a restore of files there needs no sudo.
///
/// # Errors
/// An include cannot be named in a rule.
pub(super) async fn site(instance: &Instance, site: &Site) -> Result<Option<Site>, String> {
    if !(site.mirrored && site.remote.sudo) {
        return Ok(None);
    }
    let mut rules = vec![rule(&["test", "-e", "/"], "-e /".to_owned())];
    if let Some(include) = instance.include.iter().find(|include| include.starts_with("volumes/")) {
        return Err(format!(
            "{include:?}: where an engine keeps its volumes is named in no rule yet; let an administrator allow it, or log in \
             as root"
        ));
    }
    for include in instance.include.iter().filter(|include| !include.starts_with("local:")) {
        rules.extend(of_item(include, !instance.exclude.is_empty()).await?);
    }
    Ok(Some(site.with_rules_alone(rules, "-restore")))
}

/// The rules for one thing that changes places.
async fn of_item(include: &str, carries: bool) -> Result<Vec<Rule>, String> {
    let include = include.trim_end_matches('/');
    let path = Path::new(include);
    let (Some(name), Some(parent)) = (path.file_name().and_then(|name| name.to_str()), path.parent()) else {
        return Err(format!("{include:?} has no name that a rule could hold"));
    };
    let (live, name, above) = (place(include)?, place(name)?, parent.display().to_string());
    let above = place(if above == "/" { "" } else { &above })?;
    let annex =
        Place { pattern: format!("{}/{OURS}", above.pattern), sample: format!("{}/{ONE}", above.sample) };
    let (l, a, n) = (&live.pattern, &annex.pattern, &name.pattern);
    let parent = if above.pattern.is_empty() { "/" } else { above.pattern.as_str() };
    let (ls, sample) = (live.sample.as_str(), annex.sample.as_str());
    let (new, old) = (format!("{sample}/new"), format!("{sample}/old"));
    let (waits, rests) = (format!("{new}/{}", name.sample), format!("{old}/{}", name.sample));
    let mut rules = vec![
        rule(&["test", "-e", ls], format!("-[eL] ({l}|{parent}|{a}(/(new|old)(/{n})?)?)")),
        rule(&["mkdir", "-m", "0700", "--", sample, &new, &old], format!("-m 0700 -- {a} {a}/new {a}/old")),
        rule(&["rm", "-rf", "--", sample], format!("-rf -- {a}")),
        rule(&["mv", "-T", "--", ls, &rests], format!("-T -- {l} {a}/(new|old)/{n}")),
        rule(&["mv", "-T", "--", &waits, ls], format!("-T -- {a}/(new|old)/{n} {l}")),
        pushed(&above, &annex).await?,
    ];
    if carries {
        let words =
            ["rsync", "-aHAX", "--numeric-ids", "--ignore-existing", "--prune-empty-dirs", "--include=x"];
        let (from, to) = (format!("{ls}/"), format!("{waits}/"));
        let mut argv = words.to_vec();
        argv.extend(["--include=*/", "--exclude=*", "--", &from, &to]);
        let fixed = "-aHAX --numeric-ids --ignore-existing --prune-empty-dirs (--include=[^ ]+ )+--include=[*]/ --exclude=[*] --";
        rules.push(rule(&argv, format!("{fixed} {l}/ {a}/new/{n}/")));
    }
    Ok(rules)
}

/// What rsync runs there to write, its two paths replaced by what fits them.
async fn pushed(above: &Place, annex: &Place) -> Result<Rule, String> {
    let parent = if above.sample.is_empty() { "/" } else { above.sample.as_str() };
    let to = format!("{}/new/", annex.sample);
    let words = rsync_words_of_restores(Path::new(parent), Path::new(&to)).await;
    let words = words.map_err(|failure| format!("{failure:#}"))?;
    let fits = |word: &String| match word {
        word if *word == to => Ok(format!("{}/new/", annex.pattern)),
        word if *word == parent => {
            Ok(if above.pattern.is_empty() { "/".into() } else { above.pattern.clone() })
        }
        word => Ok(place(word)?.pattern),
    };
    let pattern: Result<Vec<String>, String> = words.iter().skip(1).map(fits).collect();
    let argv: Vec<&str> = words.iter().map(String::as_str).collect();
    Ok(rule(&argv, pattern?.join(" ")))
}

fn rule(argv: &[&str], pattern: String) -> Rule {
    let argv = argv.iter().map(|word| (*word).to_owned()).collect();
    Rule { user: "root".into(), argv, any: false, pattern: Some(format!("^{pattern}$")) }
}

/// A path of a definition; `*` and `?` stand for parts of a name, and never make `..` of it.
fn place(path: &str) -> Result<Place, String> {
    let mut place = Place { pattern: String::new(), sample: String::new() };
    let mut name = String::new();
    for c in path.chars() {
        let pattern = match (c, name.as_str()) {
            ('*', "") => "[^/. ][^/ ]*".to_owned(),
            ('?', "") => "[^/. ]".to_owned(),
            ('*' | '?', ".") => return Err(unnamed(path, c)),
            ('*', _) => "[^/ ]*".to_owned(),
            ('?', _) => "[^/ ]".to_owned(),
            ('.' | '+', _) => format!("\\{c}"),
            (c, _) if c.is_ascii_alphanumeric() || "_-/@%~,:=".contains(c) => c.to_string(),
            (c, _) => return Err(unnamed(path, c)),
        };
        place.pattern.push_str(&pattern);
        place.sample.push(if c == '*' || c == '?' { 'x' } else { c });
        if c == '/' { name.clear() } else { name.push(c) }
    }
    Ok(place)
}

fn unnamed(path: &str, c: char) -> String {
    format!(
        "no rule can name {path:?}, for it holds {c:?}: give the account the right to be root while a restore runs"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_names_of_ours_are_left_open() {
        let rules = of_item("/srv/app.d/*", true).await.unwrap();
        let of = |program: &str| {
            let found = rules.iter().find(|rule| rule.argv[0] == program).unwrap();
            found.pattern.clone().unwrap()
        };
        assert_eq!(of("rm"), r"^-rf -- /srv/app\.d/\.holdfast-j[0-9A-Za-z_]+$");
        let live = r"^-T -- /srv/app\.d/[^/. ][^/ ]* /srv/app\.d/\.holdfast-j";
        assert!(of("mv").starts_with(live), "{}", of("mv"));
        let rsync = of("rsync");
        assert!(rsync.starts_with("^--server -") && rsync.ends_with(r"+/new/$"), "{rsync}");
        assert!(rsync.contains(r"--copy-dest /srv/app\.d \. /srv/app\.d/\."), "{rsync}");
        assert!(rules.iter().all(|rule| rule.pattern.as_ref().unwrap().len() < 1024));
        for bad in ["/srv/a b", "/srv/[ab]", "/srv/a'", "/srv/a#", "/srv/ü", "/srv/.*", "/"] {
            assert!(of_item(bad, false).await.is_err(), "{bad}");
        }
    }
}

//! Where things change places on another machine, as rules of sudo have it. The names of our directories change with each
//! job, so these rules are regular expressions, which sudo knows from 1.9.10 on; everything around those names is fixed.
//!
//! sudo compares all arguments at once, joined by blanks. So no pattern lets a blank through: otherwise two arguments could
//! be told from each other elsewhere than it looks.

use std::path::Path;

use super::needs::Rule;
use crate::job::rsync_words_of_restores;

/// How our directories beside live data are called, and one of that name.
pub(super) const OURS: &str = r"\.holdfast-j[0-9A-Za-z_]+";
pub(super) const ONE: &str = ".holdfast-j1";
/// Any name but `.` and `..`.
pub(super) const ANY: &str = r"([^/. ]|\.[^/. ]|\.\.[^/ ])[^/ ]*";
/// What servers keep open in their directories, which nothing changes places beneath.
const HELD: &str = r"lock\.mdb|member/snap/db";

/// A path, as a rule has it and as one that fits.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) pattern: String,
    pub(super) sample: String,
}

impl Place {
    pub(super) fn new(pattern: &str, sample: &str) -> Self {
        Self { pattern: pattern.to_owned(), sample: sample.to_owned() }
    }

    /// A path below it.
    pub(super) fn join(&self, below: &Self) -> Self {
        Self::new(
            &format!("{}/{}", self.pattern, below.pattern),
            &format!("{}/{}", self.sample, below.sample),
        )
    }
}

/// Something that changes places with what waits in a directory of ours beside it.
#[derive(Debug)]
pub(super) struct Spot {
    /// The directory that it lies in; empty: the root.
    above: Place,
    name: Place,
    live: Place,
    annex: Place,
}

impl Spot {
    /// Of a path of a definition.
    ///
    /// # Errors
    /// No rule can name it.
    pub(super) fn of(path: &str) -> Result<Self, String> {
        let path = path.trim_end_matches('/');
        let whole = Path::new(path);
        let (Some(name), Some(parent)) =
            (whole.file_name().and_then(|name| name.to_str()), whole.parent().and_then(Path::to_str))
        else {
            return Err(format!("{path:?} has no name that a rule could hold"));
        };
        place(path)?;
        Ok(Self::within(place(if parent == "/" { "" } else { parent })?, place(name)?))
    }

    /// Of a name in a directory.
    pub(super) fn within(above: Place, name: Place) -> Self {
        let (live, annex) = (above.join(&name), above.join(&Place::new(OURS, ONE)));
        Self { above, name, live, annex }
    }

    /// The same with another directory of ours: that of a dump.
    pub(super) fn of_dump(self, dump: &Place) -> Self {
        let own = Place::new(&format!("{OURS}_{}", dump.pattern), &format!("{ONE}_{}", dump.sample));
        Self { annex: self.above.join(&own), ..self }
    }

    /// Another end of the name, which may be there.
    pub(super) fn with_ends(self, ends: &str) -> Self {
        let name = Place::new(&format!("{}({ends})?", self.name.pattern), &self.name.sample);
        Self { live: self.above.join(&name), name, ..self }
    }

    fn parent(&self) -> &str {
        if self.above.pattern.is_empty() { "/" } else { &self.above.pattern }
    }

    /// What waits in our directory.
    fn waiting(&self, which: &str) -> String {
        format!("{}/{which}/{}", self.annex.sample, self.name.sample)
    }

    /// What exchanges it, and puts it back; and what looks whether a server has it open.
    pub(super) fn exchanged(&self) -> Vec<Rule> {
        let (l, a, n, parent) = (&self.live.pattern, &self.annex.pattern, &self.name.pattern, self.parent());
        let (ls, annex) = (self.live.sample.as_str(), self.annex.sample.as_str());
        let (new, old) = (format!("{annex}/new"), format!("{annex}/old"));
        let tested = format!("-[eL] ({l}(/(msg_stores|{HELD}))?|{parent}|{a}(/(new|old)(/{n})?)?)");
        let lock = format!("{ls}/lock.mdb");
        let below = format!("{ls}/*");
        vec![
            rule(&["test", "-e", ls], tested),
            rule(&["mkdir", "-m", "0700", "--", annex, &new, &old], format!("-m 0700 -- {a} {a}/new {a}/old")),
            rule(&["rm", "-rf", "--", annex], format!("-rf -- {a}")),
            rule(&["mv", "-T", "--", ls, &self.waiting("old")], format!("-T -- {l} {a}/(new|old)/{n}")),
            rule(&["mv", "-T", "--", &self.waiting("new"), ls], format!("-T -- {a}/(new|old)/{n} {l}")),
            rule(&["stat", "-c", "%i", "--", &lock], format!("-c %i -- {l}/({HELD})")),
            rule(&["readlink", "-f", "--", ls], format!("-f -- {l}")),
            rule(
                &[
                    "find", "/proc", "-ignore_readdir_race", "-maxdepth", "3", "-path", "/proc/[0-9]*/fd/*",
                    "-lname", &below, "-print", "-quit",
                ],
                "/proc -ignore_readdir_race -maxdepth 3 -path /proc/[[]0-9[]][*]/fd/[*] -lname /[^ ]*/[*] -print -quit"
                    .to_owned(),
            ),
        ]
    }

    /// What rsync runs there to bring it; and, where backups leave something out, what carries that over.
    ///
    /// # Errors
    /// rsync does not say its words, or no rule can hold them.
    pub(super) async fn brought(&self, carries: bool) -> Result<Vec<Rule>, String> {
        let mut rules = vec![self.pushed().await?];
        if carries {
            rules.push(self.carried());
        }
        Ok(rules)
    }

    fn carried(&self) -> Rule {
        let words =
            ["rsync", "-aHAX", "--numeric-ids", "--ignore-existing", "--prune-empty-dirs", "--include=x"];
        let (from, to) = (format!("{}/", self.live.sample), format!("{}/", self.waiting("new")));
        let mut argv = words.to_vec();
        argv.extend(["--include=*/", "--exclude=*", "--", &from, &to]);
        let fixed = "-aHAX --numeric-ids --ignore-existing --prune-empty-dirs (--include=[^ ]+ )+--include=[*]/ --exclude=[*] --";
        let (l, a, n) = (&self.live.pattern, &self.annex.pattern, &self.name.pattern);
        rule(&argv, format!("{fixed} {l}/ {a}/new/{n}/"))
    }

    /// What rsync runs there to write, its two paths replaced by what fits them.
    async fn pushed(&self) -> Result<Rule, String> {
        let parent = if self.above.sample.is_empty() { "/" } else { self.above.sample.as_str() };
        let to = format!("{}/new/", self.annex.sample);
        let words = rsync_words_of_restores(Path::new(parent), Path::new(&to)).await;
        let words = words.map_err(|failure| format!("{failure:#}"))?;
        let fits = |word: &String| match word {
            word if *word == to => Ok(format!("{}/new/", self.annex.pattern)),
            word if *word == parent => Ok(self.parent().to_owned()),
            word => Ok(place(word)?.pattern),
        };
        let pattern: Result<Vec<String>, String> = words.iter().skip(1).map(fits).collect();
        let argv: Vec<&str> = words.iter().map(String::as_str).collect();
        Ok(rule(&argv, pattern?.join(" ")))
    }

    /// What moves something that was made elsewhere to where it waits, and gives it to its owner.
    pub(super) fn made(&self, at: &Place) -> Vec<Rule> {
        let (waits, ls) = (self.waiting("new"), self.live.sample.as_str());
        let (l, a, n) = (&self.live.pattern, &self.annex.pattern, &self.name.pattern);
        vec![
            rule(&["stat", "-c", "%m", "--", ls], format!("-c %m -- {l}")),
            rule(&["mv", "-T", "--", &at.sample, &waits], format!("-T -- {} {a}/new/{n}", at.pattern)),
            rule(&["chown", "-hR", "--", "0:0", &waits], format!("-hR -- [0-9]+:[0-9]+ {a}/new/{n}")),
        ]
    }
}

/// As root, with arguments that fit; `argv` is one that does.
pub(super) fn rule(argv: &[&str], pattern: String) -> Rule {
    let argv = argv.iter().map(|word| (*word).to_owned()).collect();
    Rule { user: "root".into(), argv, any: false, pattern: Some(format!("^{pattern}$")) }
}

/// A path of a definition; `*` and `?` stand for parts of a name, and never make `..` of it.
pub(super) fn place(path: &str) -> Result<Place, String> {
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
        let spot = Spot::of("/srv/app.d/*").unwrap();
        let mut rules = spot.exchanged();
        rules.extend(spot.brought(true).await.unwrap());
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
            assert!(Spot::of(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_a_dump_makes_comes_from_its_own_directory_alone() {
        let spot = Spot::of("/srv/app.db").unwrap().of_dump(&place("one.two").unwrap()).with_ends("-wal");
        let made = spot.made(&place("/var/tmp/made").unwrap());
        let of = |rules: &[Rule], at: usize| rules[at].pattern.clone().unwrap();
        let waits = r"/srv/\.holdfast-j[0-9A-Za-z_]+_one\.two/new/app\.db(-wal)?$";
        assert_eq!(of(&made, 1), format!("^-T -- /var/tmp/made {waits}"));
        assert_eq!(of(&made, 2), format!("^-hR -- [0-9]+:[0-9]+ {waits}"));
        let back = of(&spot.exchanged(), 3);
        assert!(back.starts_with(r"^-T -- /srv/app\.db(-wal)? /srv/\.holdfast-j"), "{back}");
    }
}

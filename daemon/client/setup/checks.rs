//! What is there on the other machine, and whether everything that will be run there may be.

use std::collections::BTreeMap;

use tokio_util::sync::CancellationToken;

use super::super::failure::Failure;
use super::needs::{Question, Rule, Site};
use super::{Check, argv, over};
use crate::definition::Remote;
use crate::job::units_there;
use crate::process::How;
use crate::target::{self, volumes_there};

/// Prints who we are, then `NAME PATH` of each program that is found, as sudo would look for it, and otherwise as we do.
const LOOK: &str = r#"id -un
own=$PATH
for name in "$@"; do
    PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:$own
    path=$(command -v "$name") || continue
    # What the shell does by itself lies somewhere as well.
    case $path in /*) ;; *) path=$(IFS=:; for dir in $PATH; do [ ! -x "$dir/$name" ] || { echo "$dir/$name"; break; }; done) ;; esac
    printf '%s %s\n' "$name" "$path"
done
:"#;

/// Asks sudo about each argument, which is quoted for a shell: `yes`, or `no` with the last of its words.
const ASK_SUDO: &str = r#"for one in "$@"; do
    if said=$(eval "sudo -n $one" 2>&1); then echo yes; else
        said=$(printf '%s' "$said" | tail -n 1)
        echo "no ${said:-sudo does not let it through}"
    fi
done"#;

/// What the other machine has.
#[derive(Debug)]
pub(super) struct There {
    /// Whom we are there.
    pub(super) user: String,
    /// Where its programs lie.
    programs: BTreeMap<String, String>,
}

/// Looks.
pub(super) async fn there(remote: &Remote, site: &Site) -> Result<There, Failure> {
    let mut command = argv(["sh", "-c", LOOK, "sh"]);
    command.extend(site.programs.iter().map(|(name, _)| name.clone()));
    command.extend(site.rules.iter().filter_map(|rule| rule.argv.first().cloned()));
    let said = over(remote, &command).await?;
    let said = said.map_err(|why| Failure::failed(format!("looking round on {}: {why}", remote.login())))?;
    let mut lines = said.lines();
    let user = lines.next().unwrap_or_default().trim().to_owned();
    let pair = |line: &str| line.split_once(' ').map(|(name, path)| (name.to_owned(), path.to_owned()));
    Ok(There { user, programs: lines.filter_map(pair).filter(|(_, path)| path.starts_with('/')).collect() })
}

impl There {
    /// Where a program lies.
    pub(super) fn path(&self, program: &str) -> Option<&str> {
        self.programs.get(program).map(String::as_str)
    }

    /// Which commands sudo does not let through.
    pub(super) async fn missing(&self, site: &Site) -> Result<Vec<(Rule, String)>, Failure> {
        let rules = self.with_names(site).await?.rules;
        let verdicts = allowed(&site.remote, &rules).await?;
        let missing =
            rules.into_iter().zip(verdicts).filter_map(|(rule, let_in)| Some((rule, let_in.err()?)));
        Ok(missing.collect())
    }

    /// Whether sudo lets a shell through.
    pub(super) async fn may_everything(&self, site: &Site) -> Result<bool, Failure> {
        let shell = [Rule::root(&argv(["sh"]))];
        Ok(allowed(&site.remote, &shell).await?.iter().all(Result::is_ok))
    }

    /// The site with the services that its monits and its systemd know, as far as they can be asked: rules have to name them.
    pub(super) async fn with_names(&self, site: &Site) -> Result<Site, Failure> {
        let mut full = site.clone();
        for binary in site.monits.iter().filter(|_| site.remote.sudo) {
            let status = argv([binary, "status"]);
            if let Ok(text) = over(&site.remote, &with_sudo(&site.remote, &status)).await? {
                full.monit_services(binary, &processes(&text));
            }
        }
        if site.remote.sudo && !site.units.is_empty() {
            // What is stopped along with them; a unit that is not there is told of by its own question.
            if let Ok(all) = units_there(&site.remote, &site.units).await {
                full.unit_rules(&all);
            }
        }
        if site.remote.sudo {
            full.labelled().await;
        }
        if let Some(instance) = site.volumes_of.as_ref().filter(|_| site.remote.sudo) {
            // Those that are not there are told of by their own question.
            if let Ok(found) = volumes_there(instance, &CancellationToken::new()).await {
                full.volumes_at(instance, &found).map_err(Failure::failed)?;
            }
        }
        Ok(full)
    }

    #[cfg(test)]
    pub(super) fn for_test(user: &str, programs: BTreeMap<String, String>) -> Self {
        Self { user: user.to_owned(), programs }
    }
}

/// Everything that is needed, tried.
pub(super) async fn all(site: &Site, there: &There) -> Result<Vec<Check>, Failure> {
    let remote = &site.remote;
    let mut checks = Vec::new();
    for (program, why) in &site.programs {
        checks.push(match there.path(program) {
            Some(path) => Check::good(remote, program, path),
            None => Check::bad(remote, program, format!("is not there, and {why}: install it")),
        });
    }
    let rules = there.with_names(site).await?.rules;
    for (rule, let_in) in rules.iter().zip(allowed(remote, &rules).await?) {
        let what = format!("sudo {}", shown(rule));
        checks.push(match let_in {
            Ok(()) => Check::good(remote, what, format!("as {}", rule.user)),
            Err(why) => Check::bad(remote, what, why),
        });
    }
    for question in &site.questions {
        checks.push(asked(remote, question).await?);
    }
    Ok(checks)
}

/// Whether sudo lets commands through, none of which it runs. All are asked over one connection.
async fn allowed(remote: &Remote, rules: &[Rule]) -> Result<Vec<Result<(), String>>, Failure> {
    if rules.is_empty() {
        return Ok(Vec::new());
    }
    let mut command = argv(["sh", "-c", ASK_SUDO, "sh"]);
    command.extend(rules.iter().map(|rule| {
        let mut words = argv(["-u", &rule.user, "-l", "--"]);
        words.extend(rule.argv.iter().cloned());
        target::command_line(words).to_string_lossy().into_owned()
    }));
    Ok(match over(remote, &command).await? {
        Err(why) => vec![Err(why); rules.len()],
        Ok(said) => verdicts(&said, rules.len()),
    })
}

/// A line for each rule: nothing where it was let through, else sudo's words.
fn verdicts(said: &str, count: usize) -> Vec<Result<(), String>> {
    let verdict = |line: &str| match line.strip_prefix("yes") {
        Some(_) => Ok(()),
        None => Err(line.trim_start_matches("no").trim().to_owned()),
    };
    let all = said.lines().map(verdict).chain(std::iter::repeat_with(|| Err("no answer".to_owned())));
    all.take(count).collect()
}

/// Asks something that changes nothing, as a backup will.
async fn asked(remote: &Remote, question: &Question) -> Result<Check, Failure> {
    let what = question.argv.join(" ");
    let argv = if question.root { with_sudo(remote, &question.argv) } else { question.argv.clone() };
    let program = crate::process::Program::new(target::over_ssh(remote, argv));
    let done = super::capture(program).await?;
    if let Err(failure) = target::judge(remote, &done.ended) {
        return Ok(Check::bad(remote, what, failure.to_string()));
    }
    Ok(match done.ended.how {
        How::Exited(code) if question.codes.contains(&code) => Check::good(remote, what, "answers"),
        _ => Check::bad(remote, what, super::words(&done)),
    })
}

fn with_sudo(remote: &Remote, command: &[String]) -> Vec<String> {
    target::sudo(remote, None, command).iter().map(|word| word.to_string_lossy().into_owned()).collect()
}

fn shown(rule: &Rule) -> String {
    if rule.any { format!("-u {} (any program)", rule.user) } else { rule.argv.join(" ") }
}

/// The names of processes in what `monit status` prints.
fn processes(text: &str) -> Vec<String> {
    let name = |line: &str| Some(line.trim_end().strip_prefix("Process '")?.strip_suffix('\'')?.to_owned());
    text.lines().filter_map(name).collect()
}

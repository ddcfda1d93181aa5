//! The narrow sudoers file: exactly the commands that are run there, and never a file that could lock sudo out.

use std::fmt::Write as _;

use super::super::failure::Failure;
use super::super::{Context, ask};
use super::checks::There;
use super::needs::{Rule, Site};
use super::{Check, SetupArgs, argv, capture, install, over, words};
use crate::definition::Instance;
use crate::process::{Limits, Program, Stdin, Stdout};
use crate::target;

/// Puts `$2` at `/etc/sudoers.d/$1`: checked by itself before it is moved there, then with all others; what was there
/// before comes back when they do not go together. sudo reads no file with a dot in its name, so a copy that is left does
/// nothing.
const PLACE: &str = r#"set -eu
umask 077
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
dir=/etc/sudoers.d
[ -d "$dir" ] || { echo "there is no $dir" >&2; exit 1; }
new=$dir/.$1.new
old=$dir/.$1.old
trap 'rm -f "$new" "$old"' EXIT
printf '%s' "$2" >"$new"
chmod 0440 "$new"
visudo -cqf "$new" >&2
[ ! -e "$dir/$1" ] || cp -p "$dir/$1" "$old"
mv -f "$new" "$dir/$1"
if ! visudo -cq >&2; then
    if [ -e "$old" ]; then mv -f "$old" "$dir/$1"; else rm -f "$dir/$1"; fi
    echo "sudo refuses it together with its other files; what was there before is back" >&2
    exit 1
fi"#;

/// How long a person may take to type in a password.
const TYPING: std::time::Duration = std::time::Duration::from_secs(300);

/// Sees to it that sudo lets everything through that is needed.
pub(super) async fn bring(
    context: &Context,
    args: &SetupArgs,
    instance: &Instance,
    site: &Site,
    there: &There,
) -> Result<Vec<Check>, Failure> {
    if site.rules.is_empty() || there.user == "root" {
        return Ok(Vec::new());
    }
    // All is let through, and no more than that: done. Somebody who may do everything may be about to lose that.
    let complete = there.missing(site).await?.is_empty();
    if complete && !args.print_sudoers && !there.may_everything(site).await? {
        return Ok(Vec::new());
    }
    // The names that monit knows, and the places that engines do, can be asked for only when that may be asked.
    let first = there.with_names(site).await?;
    let mut checks = vec![place(context, args, instance, &first, there).await?];
    let full = there.with_names(site).await?;
    if checks[0].wrong.is_none() && full != first {
        checks.push(place(context, args, instance, &full, there).await?);
    }
    Ok(checks)
}

/// Writes it and brings it, or says how a person can.
async fn place(
    context: &Context,
    args: &SetupArgs,
    instance: &Instance,
    site: &Site,
    there: &There,
) -> Result<Check, Failure> {
    let name = file_name(instance.name.as_str()) + site.file;
    let what = if site.file.is_empty() { "the sudoers file" } else { "the sudoers file for restores" };
    let text = match text(instance.name.as_str(), site, there) {
        Ok(text) => text,
        Err(why) => return Ok(Check::bad(&site.remote, what, why)),
    };
    if args.print_sudoers {
        context.out.note(format!("# /etc/sudoers.d/{name} on {}\n{text}", site.remote.login()));
        return Ok(Check::good(&site.remote, what, "printed, not brought"));
    }
    let command = argv(["sudo", "-n", "sh", "-c", PLACE, "sh", &name, &text]);
    let Err(said) = over(&site.remote, &command).await? else {
        return Ok(Check::good(&site.remote, what, format!("brought: /etc/sudoers.d/{name}")));
    };
    if !context.out.json && ask::possible() && by_a_person(context, args, site, &name, &text).await? {
        return Ok(Check::good(&site.remote, what, format!("brought: /etc/sudoers.d/{name}")));
    }
    context
        .out
        .note(format!("This belongs into /etc/sudoers.d/{name} on {}:\n\n{text}", site.remote.login()));
    let why = format!(
        "sudo lets nobody bring it without asking ({said}): as root there, `visudo -f /etc/sudoers.d/{name}`"
    );
    Ok(Check::bad(&site.remote, what, why))
}

/// Lets a person type in sudo's password, on a terminal over there that is this one.
async fn by_a_person(
    context: &Context,
    args: &SetupArgs,
    site: &Site,
    name: &str,
    text: &str,
) -> Result<bool, Failure> {
    let command = argv(["sudo", "sh", "-c", PLACE, "sh", name, text]);
    let mut ssh = Program::new(["ssh", "-tt"]);
    ssh.argv.extend(install::other_login(args, &site.remote, true));
    ssh.argv.extend(["--".into(), site.remote.login().into(), target::command_line(&command)]);
    ssh.env.extend(
        ["SSH_AUTH_SOCK", "TERM"].into_iter().filter_map(|key| Some((key.into(), std::env::var_os(key)?))),
    );
    (ssh.stdin, ssh.stdout, ssh.limits) = (Stdin::Terminal, Stdout::Terminal, Limits::within(TYPING));
    context.out.note(format!("sudo of {} has to let the file in:", site.remote.login()));
    let done = capture(ssh).await?;
    if !done.ended.ok() {
        context.out.note(words(&done));
    }
    Ok(done.ended.ok())
}

/// A name that sudo reads: it passes over those with a dot or a `~`.
pub(super) fn file_name(instance: &str) -> String {
    let fit = |c: char| if c.is_ascii_alphanumeric() || c == '-' || c == '_' { c } else { '_' };
    format!("holdfast-{}", instance.chars().map(fit).collect::<String>())
}

/// The whole file.
fn text(instance: &str, site: &Site, there: &There) -> Result<String, String> {
    let user = escaped(&there.user)?;
    let mut text = format!(
        "# Holdfast, instance {instance}: what its backups and restores run here as others.\n\
         # Written by `holdfast setup {instance}`; run that again instead of changing this.\n\
         Defaults:{user} !requiretty\n"
    );
    for rule in &site.rules {
        let line = line(rule, there)?;
        let _ = writeln!(text, "{user} ALL=({}) NOPASSWD: {line}", escaped(&rule.user)?);
    }
    Ok(text)
}

/// A command as sudoers has it; no arguments at all are `""`, for nothing would mean any.
fn line(rule: &Rule, there: &There) -> Result<String, String> {
    if rule.any {
        return Ok("ALL".into());
    }
    let (program, arguments) = rule.argv.split_first().ok_or("a command without a word")?;
    let path =
        there.path(program).ok_or_else(|| format!("{program} is not there, so no rule can name it"))?;
    let mut line = escaped(path)?;
    if let Some(pattern) = &rule.pattern {
        return Ok(format!("{line} {pattern}"));
    }
    if arguments.is_empty() {
        line.push_str(" \"\"");
    }
    for argument in arguments {
        line.push(' ');
        line.push_str(&escaped(argument)?);
    }
    Ok(line)
}

/// A word as sudoers reads it: no pattern, no list, no comment.
pub(super) fn escaped(word: &str) -> Result<String, String> {
    let mut text = String::with_capacity(word.len());
    for c in word.chars() {
        match c {
            c if c.is_ascii_alphanumeric() || "_-./@%+^~".contains(c) => text.push(c),
            ',' | ':' | '=' | '\\' | '*' | '?' | '[' | ']' | '!' | '#' | '"' | '(' | ')' => {
                text.push('\\');
                text.push(c);
            }
            c => {
                return Err(format!(
                    "sudoers cannot name {word:?}, for it holds {c:?}; put it into a script there"
                ));
            }
        }
    }
    if text.is_empty() { Err("sudoers cannot name an empty word".into()) } else { Ok(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_taken_as_they_are_or_refused() {
        assert_eq!(escaped("/var/vcap/bosh/bin/monit").unwrap(), "/var/vcap/bosh/bin/monit");
        assert_eq!(escaped("-logDtpre.iLsfxCIvu").unwrap(), "-logDtpre.iLsfxCIvu");
        assert_eq!(escaped("a*:b=c,d\\").unwrap(), "a\\*\\:b\\=c\\,d\\\\");
        for bad in ["a b", "a\nroot ALL=(ALL) ALL", "$(x)", "a'b", "a;b", "ü", ""] {
            assert!(escaped(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn sudo_reads_a_file_of_that_name() {
        assert_eq!(file_name("bosh.one~"), "holdfast-bosh_one_");
    }

    #[test]
    fn a_rule_names_its_arguments_or_that_there_are_none() {
        let path = |name: &str| (name.to_owned(), format!("/usr/bin/{name}"));
        let there = There::for_test("vcap", [path("monit"), path("pg_dump")].into());
        let of = |rule: &Rule| line(rule, &there);
        let root =
            |argv: &[&str]| Rule::root(&argv.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>());
        assert_eq!(of(&root(&["monit", "stop", "db"])).unwrap(), "/usr/bin/monit stop db");
        assert_eq!(of(&root(&["monit"])).unwrap(), "/usr/bin/monit \"\"");
        let any = Rule { user: "postgres".into(), argv: vec!["env".into()], any: true, pattern: None };
        assert_eq!(of(&any).unwrap(), "ALL");
        assert!(of(&root(&["rsync"])).unwrap_err().contains("not there"));
    }
}

//! Each effective value and where it came from.

use holdfast::config::explain;

use super::*;

fn etc() -> Etc {
    let etc = Etc::with("[daemon]\nhost = 'srv1'\n\n[repository.r]\nurl = 'rest:https://u:hunter2@h/'\n");
    etc.write("etc/conf.d/i.toml", "[instance.i]\nmodule = 'm'\nstrict = true\ninclude_add = ['/more']\n");
    etc.write(
        "etc/conf.d/a.b.toml",
        "[backup.\"a.schedule\"]\nrepositories = ['r']\ninstances = ['i']\nretry = { attempts = 5 }\n",
    );
    etc.write("modules/m.toml", "[module.m]\ninclude = ['/srv']\nstrict = false\nhook_timeout = '90m'\n");
    etc
}

fn explained(etc: &Etc, subject: &str, key: &str) -> (String, String) {
    let rows = explain(&etc.load(), Some(subject)).unwrap();
    let row = rows.iter().find(|row| row.key == key).unwrap();
    (row.value.clone(), row.origin.replace(&format!("{}/", etc.path("").display()).replace("//", "/"), ""))
}

#[test]
fn values_are_shown_with_the_line_that_they_come_from() {
    let etc = etc();
    let is = |subject, key, value: &str, origin: &str| {
        assert_eq!(explained(&etc, subject, key), (value.to_owned(), origin.to_owned()), "{subject} {key}");
    };
    is("daemon", "host", "\"srv1\"", "etc/holdfast.toml:2");
    is("daemon", "max_parallel", "3", "default");
    is("instance/i", "strict", "true", "etc/conf.d/i.toml:3");
    is("instance/i", "hook_timeout", "\"1h30m\"", "modules/m.toml:4");
    is("instance/i", "include", "[\"/srv\", \"/more\"]", "modules/m.toml:2, etc/conf.d/i.toml:4");
    is("instance.i", "user", "-", "default");
    is("a.schedule", "retry", "{ attempts = 5, delay = \"15m\" }", "etc/conf.d/a.b.toml:4");
    is("r", "prune", "{ schedule = \"weekly\", max_unused = \"10%\" }", "default");
    is("repository/r", "password_file", "\"/var/lib/holdfast/secrets/r.password\"", "default");
}

#[test]
fn secrets_are_not_shown() {
    let rows = explain(&etc().load(), None).unwrap();
    assert!(!serde_json::to_string(&rows).unwrap().contains("hunter2"));
    assert!(rows.iter().any(|row| row.value.contains("u:***@h")), "{rows:?}");
}

#[test]
fn what_is_not_there_is_said_with_the_reason() {
    let etc = etc();
    etc.write("etc/conf.d/x.toml", "[backup.x]\nschedul = 1\n");
    let loaded = etc.load();
    let error = explain(&loaded, Some("backup/x")).unwrap_err();
    assert!(error.contains("x.toml:2:1") && error.contains("schedul"), "{error}");
    let error = explain(&loaded, Some("daemn")).unwrap_err();
    assert_eq!(error, "`daemn` is not defined; did you mean `daemon`?");
}

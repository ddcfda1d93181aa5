//! Definitions changed by a caller: the text keeps its comments, and nothing bad is ever written.

use std::os::unix::fs::{MetadataExt, PermissionsExt};

use holdfast::config::edit::{
    EditError, Keys, add_backup, add_instance, add_repository, alter_backup, remove_backup, remove_instance,
    remove_repository, set_enabled,
};
use holdfast::definition::Password;
use serde_json::{Value, json};

use super::*;

fn keys(value: Value) -> Keys {
    value.as_object().unwrap().clone()
}

fn read(etc: &Etc, name: &str) -> String {
    std::fs::read_to_string(etc.path(name)).unwrap()
}

fn mode(etc: &Etc, name: &str) -> u32 {
    std::fs::metadata(etc.path(name)).unwrap().permissions().mode() & 0o7777
}

/// Everything below the configuration directory: what must not change when an edit is refused.
fn everything(etc: &Etc) -> Vec<(PathBuf, Option<String>)> {
    let mut all = Vec::new();
    let mut todo = vec![etc.path("etc")];
    while let Some(path) = todo.pop() {
        match path.is_dir() {
            true => todo.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path())),
            false => all.push((path.clone(), std::fs::read_to_string(&path).ok())),
        }
    }
    all.sort();
    all
}

/// The edit is refused and leaves everything as it was; the sentence that says why.
fn refused(
    etc: &Etc,
    edit: impl FnOnce(&Dirs, &Environment) -> Result<PathBuf, EditError>,
) -> (EditError, String) {
    let before = everything(etc);
    let error = edit(&etc.dirs(), &environment()).unwrap_err();
    assert_eq!(everything(etc), before, "something was written: {error}");
    let text = error.to_string();
    (error, text)
}

const BASE: &str =
    "# Our definitions.\n\n[repository.r]\nurl = '/srv/r' # the disk\n\n[instance.i]\ninclude = ['/srv/i']\n";

#[test]
fn a_backup_is_added_altered_disabled_and_removed() {
    let etc = Etc::with(BASE);
    let (dirs, env) = (etc.dirs(), environment());
    let given =
        json!({"repositories": ["r"], "instances": ["*"], "schedule": "daily", "retention": {"daily": 7}});
    let path = add_backup(&dirs, &env, "b", keys(given)).unwrap();
    assert_eq!(path, etc.path("etc/conf.d/b.toml"));
    assert_eq!(mode(&etc, "etc/conf.d/b.toml"), 0o600);
    let loaded = etc.load();
    assert_eq!(said(&loaded), "");
    assert_eq!(backup(&loaded, "b").retention.as_ref().unwrap().daily, 7);
    alter_backup(&dirs, &env, "b", keys(json!({"schedule": null, "retention": 3, "max_duration": "6h"})))
        .unwrap();
    let loaded = etc.load();
    let b = backup(&loaded, "b");
    assert_eq!((&b.schedule, b.retention.as_ref().unwrap().last), (&None, 3));
    set_enabled(&dirs, &env, "b", false).unwrap();
    assert!(!backup(&etc.load(), "b").enabled);
    set_enabled(&dirs, &env, "b", true).unwrap();
    assert!(backup(&etc.load(), "b").enabled);
    remove_backup(&dirs, &env, "b").unwrap();
    assert!(!etc.path("etc/conf.d/b.toml").exists(), "an empty fragment goes");
    assert_eq!(read(&etc, "etc/holdfast.toml"), BASE);
}

#[test]
fn comments_order_owner_and_mode_stay_where_the_definition_stands() {
    let text = "# Head.\n\n# About b.\n[backup.b] # here\n# When.\nschedule = 'daily'   # each night\nrepositories = ['r']\ninstances = [\n    'i', # first\n    'j',\n]\n\n# About c.\n[backup.c]\nrepositories = ['r']\ninstances = ['i']\n";
    let etc = Etc::with(&format!("{BASE}[instance.j]\ninclude = ['/srv/j']\n"));
    etc.write("etc/conf.d/mine.toml", text);
    etc.mode("etc/conf.d/mine.toml", 0o640);
    let before = std::fs::metadata(etc.path("etc/conf.d/mine.toml")).unwrap();
    alter_backup(
        &etc.dirs(),
        &environment(),
        "b",
        keys(json!({"schedule": "weekly", "enabled": false, "instances": ["i"]})),
    )
    .unwrap();
    let after = std::fs::metadata(etc.path("etc/conf.d/mine.toml")).unwrap();
    assert_eq!((before.mode(), before.uid(), before.gid()), (after.mode(), after.uid(), after.gid()));
    let now = read(&etc, "etc/conf.d/mine.toml");
    for kept in [
        "# Head.\n\n# About b.\n[backup.b] # here\n# When.\nschedule = \"weekly\"   # each night\n",
        "\n# About c.\n[backup.c]\n",
        "    'i'",
    ] {
        assert!(now.contains(kept), "{kept}\nis not in\n{now}");
    }
    assert_eq!(said(&etc.load()), "");
    remove_backup(&etc.dirs(), &environment(), "b").unwrap();
    let now = read(&etc, "etc/conf.d/mine.toml");
    assert_eq!(now, "# Head.\n\n# About c.\n[backup.c]\nrepositories = ['r']\ninstances = ['i']\n");
    remove_backup(&etc.dirs(), &environment(), "c").unwrap();
    assert!(read(&etc, "etc/conf.d/mine.toml").contains("# Head."), "a comment of its own keeps the file");
}

#[test]
fn definitions_in_every_toml_notation_can_be_altered_and_removed() {
    for text in [
        "[backup]\nb = { repositories = ['r'], instances = ['i'] }\n",
        "backup.b.repositories = ['r']\nbackup.b.instances = ['i']\n",
        "backup = { b = { repositories = ['r'], instances = ['i'] } }\n",
        "[backup.b]\nrepositories = ['r']\ninstances = ['i']\n[backup.b.retry]\nattempts = 3\n",
    ] {
        let etc = Etc::with(BASE);
        etc.write("etc/conf.d/x.toml", text);
        alter_backup(
            &etc.dirs(),
            &environment(),
            "b",
            keys(json!({"schedule": "weekly", "retry": {"attempts": 1}})),
        )
        .unwrap();
        let loaded = etc.load();
        assert_eq!(
            (said(&loaded).as_str(), backup(&loaded, "b").retry.attempts),
            ("", 1),
            "{}",
            read(&etc, "etc/conf.d/x.toml")
        );
        remove_backup(&etc.dirs(), &environment(), "b").unwrap();
        let loaded = etc.load();
        assert!(loaded.is_good() && loaded.definitions.backups.is_empty(), "{}", said(&loaded));
    }
}

#[test]
fn a_repositorys_secrets_go_into_files_of_their_own() {
    let etc = Etc::new();
    let given = json!({"url": "b2:bucket", "password": "hunter2", "environment": {"B2_ACCOUNT_ID": "a", "B2_ACCOUNT_KEY": "k=1"}});
    add_repository(&etc.dirs(), &environment(), "b2", keys(given)).unwrap();
    let text = read(&etc, "etc/conf.d/b2.toml");
    assert!(!text.contains("hunter2") && !text.contains("k=1"), "{text}");
    assert_eq!(read(&etc, "etc/secrets/b2.password"), "hunter2\n");
    assert_eq!(read(&etc, "etc/secrets/b2.env"), "B2_ACCOUNT_ID=a\nB2_ACCOUNT_KEY=k=1\n");
    assert_eq!(
        (mode(&etc, "etc/secrets"), mode(&etc, "etc/secrets/b2.password"), mode(&etc, "etc/secrets/b2.env")),
        (0o700, 0o600, 0o600)
    );
    let loaded = etc.load();
    assert_eq!(said(&loaded), "");
    assert_eq!(repository(&loaded, "b2").password, Password::File(etc.path("etc/secrets/b2.password")));
    assert_eq!(repository(&loaded, "b2").environment_file, Some(etc.path("etc/secrets/b2.env")));
    remove_repository(&etc.dirs(), &environment(), "b2").unwrap();
    assert_eq!(read(&etc, "etc/secrets/b2.password"), "hunter2\n", "the data still needs it");
    add_repository(&etc.dirs(), &environment(), "b2", keys(json!({"url": "b2:bucket", "password": "other"})))
        .unwrap();
    assert_eq!(read(&etc, "etc/secrets/b2.password"), "other\n");
    assert_eq!(read(&etc, "etc/secrets/b2.password.1"), "hunter2\n", "a password is never lost");
    assert_eq!(mode(&etc, "etc/secrets/b2.password.1"), 0o600);
}

#[test]
fn a_password_in_the_url_makes_its_file_private() {
    let etc = Etc::with(BASE);
    etc.write("etc/conf.d/x.toml", "# mine\n");
    etc.mode("etc/conf.d/x.toml", 0o644);
    add_repository(&etc.dirs(), &environment(), "x", keys(json!({"url": "rest:https://u:pw@h/"}))).unwrap();
    assert_eq!(mode(&etc, "etc/conf.d/x.toml"), 0o600);
    assert!(read(&etc, "etc/conf.d/x.toml").starts_with("# mine\n"));
    assert_eq!(said(&etc.load()), "");
}

#[test]
fn what_would_not_be_valid_is_refused_before_anything_is_written() {
    let etc = Etc::with(BASE);
    for (given, why) in [
        (json!({"repositories": ["nope"], "instances": ["*"]}), "repository `nope` is not defined"),
        (json!({"repositories": ["r"]}), "needs `instances`"),
        (json!({"repositories": ["r"], "instances": ["*"], "retention": 0}), "would keep nothing"),
        (json!({"repositories": ["r"], "instances": ["*"], "colour": 1}), "unknown key `colour`"),
        (json!({"repositories": ["r"], "instances": ["*"], "after": "x"}), "`x` is not defined"),
        (json!({"repositories": "r", "instances": ["*"]}), "takes an array"),
        (json!({"repositories": ["r"], "instances": ["*"], "x\n[repository.evil]\nurl": "/"}), "unknown key"),
        (json!({"repositories": ["r"], "instances": ["*"], "schedule": 1.5}), "not a float"),
    ] {
        let (error, text) = refused(&etc, |dirs, env| add_backup(dirs, env, "b", keys(given)));
        assert!(matches!(error, EditError::Invalid(_)) && text.contains(why), "{text}");
        assert!(text.contains("conf.d/b.toml:"), "{text}");
    }
    for name in ["", "../x", "a/b", "a b", ".x"] {
        let given = keys(json!({"repositories": ["r"], "instances": ["*"]}));
        let (error, text) = refused(&etc, |dirs, env| add_backup(dirs, env, name, given));
        assert!(matches!(error, EditError::Invalid(_)) && text.contains("name"), "{text}");
    }
    for given in [
        json!({"url": "/srv/x", "password": ""}),
        json!({"url": "/srv/x", "password": "a\nb"}),
        json!({"url": "/srv/x", "password": 3}),
        json!({"url": "/srv/x", "password": "hunter2", "password_file": "/x"}),
        json!({"url": "/srv/x", "environment": {"LD_PRELOAD": "/x"}}),
        json!({"url": "/srv/x", "environment": {"RESTIC_REPOSITORY": "/x"}}),
        json!({"url": "/srv/x", "environment": {"A": "hunter2\nB=1"}}),
        json!({"url": "/srv/x", "environment": {"A B": "hunter2"}}),
        json!({"url": "srv/x", "password": "hunter2"}),
    ] {
        let (error, text) = refused(&etc, |dirs, env| add_repository(dirs, env, "x", keys(given)));
        assert!(matches!(error, EditError::Invalid(_)) && !text.contains("hunter2"), "{text}");
    }
}

#[test]
fn names_that_are_taken_or_not_there_or_in_use_are_told_apart() {
    let etc = Etc::with(BASE);
    let given = || keys(json!({"repositories": ["r"], "instances": ["i"]}));
    add_backup(&etc.dirs(), &environment(), "b", given()).unwrap();
    let (error, text) = refused(&etc, |dirs, env| add_backup(dirs, env, "b", given()));
    assert!(matches!(error, EditError::AlreadyExists(_)) && text.contains("conf.d/b.toml:1:9"), "{text}");
    let (error, text) = refused(&etc, |dirs, env| add_repository(dirs, env, "r", keys(json!({"url": "/x"}))));
    assert!(matches!(error, EditError::AlreadyExists(_)) && text.contains("holdfast.toml:3:13"), "{text}");
    for name in ["c", "", "../b", "b.schedule"] {
        let (error, _) = refused(&etc, |dirs, env| alter_backup(dirs, env, name, given()));
        assert!(matches!(error, EditError::NoSuch(_)), "{error}");
        let (error, _) = refused(&etc, |dirs, env| remove_backup(dirs, env, name));
        assert!(matches!(error, EditError::NoSuch(_)), "{error}");
        let (error, _) = refused(&etc, |dirs, env| remove_repository(dirs, env, name));
        assert!(matches!(error, EditError::NoSuch(_)), "{error}");
    }
    let (error, text) = refused(&etc, |dirs, env| remove_repository(dirs, env, "r"));
    assert!(matches!(error, EditError::InUse(_)) && text.contains("backups b"), "{text}");
}

#[test]
fn a_bad_file_is_not_edited_and_a_bad_neighbour_does_not_hinder() {
    let etc = Etc::with(BASE);
    etc.write("etc/conf.d/bad.toml", "[backup.x]\nschedul = 1\n");
    etc.write("etc/conf.d/worse.toml", "[backup.y\n");
    let given = || keys(json!({"repositories": ["r"], "instances": ["i"]}));
    add_backup(&etc.dirs(), &environment(), "b", given()).unwrap();
    let (error, text) = refused(&etc, |dirs, env| set_enabled(dirs, env, "x", false));
    assert!(matches!(error, EditError::Invalid(_)) && text.contains("bad.toml:2:1"), "{text}");
    let (error, text) = refused(&etc, |dirs, env| add_backup(dirs, env, "worse", given()));
    assert!(matches!(error, EditError::Invalid(_)) && text.contains("worse.toml:1:"), "{text}");
}

#[test]
fn the_embedded_repository_stays_when_a_backup_uses_it_and_another_is_added() {
    let etc = Etc::with(
        "[instance.i]\ninclude = ['/srv/i']\n[backup.b]\nrepositories = ['local']\ninstances = ['i']\n",
    );
    let before = etc.load();
    add_repository(&etc.dirs(), &environment(), "far", keys(json!({"url": "sftp:h:/x"}))).unwrap();
    let after = etc.load();
    assert_eq!(said(&after), "");
    assert_eq!(repository(&after, "local"), repository(&before, "local"));
    repository(&after, "far");
}

#[test]
fn a_definition_of_the_library_or_behind_a_link_is_not_written_to() {
    let etc = Etc::with(BASE);
    etc.write("modules/b.toml", "[backup.b]\nrepositories = ['r']\ninstances = ['i']\n");
    let (error, text) = refused(&etc, |dirs, env| set_enabled(dirs, env, "b", false));
    assert!(matches!(error, EditError::NotWritable(_)) && text.contains("modules/b.toml"), "{text}");
    std::os::unix::fs::symlink("/nonexistent/x", etc.path("etc/conf.d/c.toml")).unwrap();
    let given = keys(json!({"repositories": ["r"], "instances": ["i"]}));
    let (error, text) = refused(&etc, |dirs, env| add_backup(dirs, env, "c", given));
    assert!(matches!(error, EditError::Invalid(_)) && text.contains("symbolic link"), "{text}");
}

#[test]
fn on_a_machine_without_any_file_the_directories_are_made() {
    let etc = Etc::new();
    std::fs::remove_dir_all(etc.path("etc")).unwrap();
    add_repository(&etc.dirs(), &environment(), "r", keys(json!({"url": "/srv/r", "password": "p"})))
        .unwrap();
    assert_eq!(said(&etc.load()), "");
    assert_eq!(
        (mode(&etc, "etc") & 0o022, mode(&etc, "etc/conf.d") & 0o022, mode(&etc, "etc/secrets")),
        (0, 0, 0o700)
    );
}

#[test]
fn what_a_killed_edit_left_is_no_definition_and_is_removed_by_the_next() {
    let etc = Etc::with(BASE);
    etc.write("etc/conf.d/.holdfast-x1", "[backup.half");
    etc.write("etc/conf.d/.holdfast-x2.toml", "[backup.half");
    assert_eq!(said(&etc.load()), "");
    add_repository(&etc.dirs(), &environment(), "x", keys(json!({"url": "/srv/x"}))).unwrap();
    let left = std::fs::read_dir(etc.path("etc/conf.d")).unwrap().map(|entry| entry.unwrap().file_name());
    assert_eq!(left.collect::<Vec<_>>(), ["x.toml"]);
}

#[test]
fn edits_at_once_do_not_lose_each_other() {
    let etc = Etc::with(BASE);
    std::thread::scope(|scope| {
        for n in 0..8 {
            let (dirs, env) = (etc.dirs(), environment());
            let given = keys(json!({"repositories": ["r"], "instances": ["i"]}));
            scope.spawn(move || add_backup(&dirs, &env, &format!("b{n}"), given).unwrap());
        }
    });
    etc.write(
        "etc/conf.d/all.toml",
        (0..8)
            .map(|n| format!("[backup.c{n}]\nrepositories = ['r']\ninstances = ['i']\n"))
            .collect::<String>(),
    );
    std::thread::scope(|scope| {
        for n in 0..8 {
            let (dirs, env) = (etc.dirs(), environment());
            scope.spawn(move || set_enabled(&dirs, &env, &format!("c{n}"), false).unwrap());
        }
    });
    let loaded = etc.load();
    let disabled = loaded.definitions.backups.values().filter(|backup| !backup.enabled).count();
    assert_eq!((loaded.definitions.backups.len(), disabled), (16, 8), "{}", said(&loaded));
}

#[test]
fn an_instance_is_added_beside_a_backup_of_its_name_and_removed() {
    let etc = Etc::with(&format!("{BASE}[module.wiki]\ninclude = ['state/pages']\n"));
    let (dirs, env) = (etc.dirs(), environment());
    let backup_keys = json!({"repositories": ["r"], "instances": ["*"]});
    let path = add_backup(&dirs, &env, "wiki2", keys(backup_keys)).unwrap();
    let given = json!({
        "module": "wiki", "install_dir": "/srv/wiki2", "volumes": {"data": "/srv/volumes/data"},
        "include_add": ["volumes/data"], "restore": {"keep_previous": "2h", "health": {"command": ["true"]}},
    });
    assert_eq!(add_instance(&dirs, &env, "wiki2", keys(given)).unwrap(), path);
    let loaded = etc.load();
    assert_eq!(said(&loaded), "");
    let wiki = instance(&loaded, "wiki2");
    assert_eq!(wiki.include, ["state/pages", "volumes/data"]);
    assert_eq!(wiki.restore.keep_previous.as_secs(), 7_200);
    assert_eq!(wiki.restore.health.as_ref().unwrap().command, ["true"]);
    remove_instance(&dirs, &env, "wiki2").unwrap();
    assert!(etc.load().definitions.backups.contains_key("wiki2") && path.exists());
    remove_backup(&dirs, &env, "wiki2").unwrap();
    assert!(!path.exists());
    assert_eq!(said(&etc.load()), "");
}

#[test]
fn an_instance_that_would_not_be_valid_or_is_there_is_refused() {
    let etc = Etc::with(&format!("{BASE}[backup.b]\nrepositories = ['r']\ninstances = ['i']\n"));
    let add = |name: &'static str, value: Value| {
        refused(&etc, move |dirs, env| add_instance(dirs, env, name, keys(value)))
    };
    let (error, text) = add("i", json!({"include": ["/srv/x"]}));
    assert!(matches!(error, EditError::AlreadyExists(_)) && text.contains("holdfast.toml"), "{text}");
    for (name, value, word) in [
        ("x", json!({}), "nothing to back up"),
        ("x", json!({"module": "wiki", "include": ["/srv/x"]}), "wiki"),
        ("x", json!({"include": ["state/a"]}), "install_dir"),
        ("x", json!({"include": ["/srv/x"], "volums": "podman"}), "volums"),
        ("../x", json!({"include": ["/srv/x"]}), "name"),
    ] {
        let (error, text) = add(name, value);
        assert!(matches!(error, EditError::Invalid(_)) && text.contains(word), "{text}");
    }
    let (_, text) = refused(&etc, |dirs, env| remove_instance(dirs, env, "i"));
    assert!(text.contains("`i`") || text.contains("backup"), "{text}");
    let (error, _) = refused(&etc, |dirs, env| remove_instance(dirs, env, "none"));
    assert!(matches!(error, EditError::NoSuch(_)));
}

//! Hooks and restore steps run as NS8 would run them.

use std::fs;

use holdfast::target::Purpose;

use crate::setup::{Module, Redis, executable, mode, run, run_well};

async fn with_database(module: &Module) -> Redis {
    let redis = Redis::start(&module.path(""));
    module.write("config/state/environment", &{
        let given = fs::read_to_string(module.path("config/state/environment")).unwrap();
        format!("{given}REDIS_ADDRESS={}\n", redis.socket.display())
    });
    let mut sqlite = crate::setup::argv([
        "sqlite3",
        "wiki.sqlite",
        "create table page(t); insert into page values('Start')",
    ]);
    sqlite.dir = Some(module.path("config/state"));
    run_well(sqlite).await;
    let () = redis.ask(&["SET", "module/wiki1/ui_name", "Our wiki", "PX", "7200000"]);
    redis
}

#[tokio::test]
async fn an_unmodified_module_is_dumped_with_its_database_and_redis_keys_and_cleaned_up() {
    let module = Module::wiki();
    let redis = with_database(&module).await;
    let place = module.resolve().await;
    let printed = run_well(place.dump_hook("nightly").unwrap()).await;
    assert!(printed.contains("Dumping wiki state:") && printed.contains("on standard error"), "{printed}");
    let state = module.path("config/state");
    assert!(fs::read_to_string(state.join("wiki.sql")).unwrap().contains("INSERT INTO page VALUES('Start')"));
    let seen = fs::read_to_string(state.join("hook.seen")).unwrap();
    let account = &place.account;
    for line in [
        "backup=nightly".to_owned(),
        format!("pwd={}", state.display()),
        format!("user={}", account.name),
        "MODULE_ID=wiki1".into(),
        "MODULE_UUID=0b0ff3f5-63a5-4c33-9d0b-3a0f5d9a0c11".into(),
        format!("AGENT_INSTALL_DIR={}", module.path("config").display()),
        format!("AGENT_STATE_DIR={}", state.display()),
        format!("HOME={}", account.home.display()),
        format!("LOGNAME={}", account.name),
        "WIKI_TITLE=\"Our wiki\" # all of it".into(),
    ] {
        assert!(seen.lines().any(|l| l == line), "{line:?} is not in:\n{seen}");
    }
    assert!(!seen.contains("LD_PRELOAD") && !seen.contains("canary"), "{seen}");
    assert!(
        place.warnings.iter().any(|w| w.contains("LD_PRELOAD") && w.contains("line 2")),
        "{:?}",
        place.warnings
    );
    assert!(fs::read(state.join("ui_note.dump")).unwrap().ends_with(b"absent\n"));
    drop(redis);
    run_well(place.cleanup_hook("nightly").unwrap()).await;
    assert!(!state.join("wiki.sql").exists() && !state.join("hook.seen").exists());
}

#[tokio::test]
async fn restore_steps_run_in_order_with_the_request_and_see_what_earlier_ones_changed() {
    let module = Module::wiki();
    let redis = with_database(&module).await;
    run_well(module.resolve().await.dump_hook("b").unwrap()).await;
    let state = module.path("config/state");
    fs::remove_file(state.join("wiki.sqlite")).unwrap();
    let () = redis.ask(&["SET", "module/wiki1/ui_name", "spoilt"]);
    let () = redis.ask(&["SET", "module/wiki1/ui_note", "made later"]);

    let place = module.resolve_for(Purpose::Restore, &[]).await.unwrap();
    let steps = place.restore_steps().unwrap();
    let names: Vec<_> = steps.steps.iter().map(|s| (s.number, s.name.as_str())).collect();
    assert_eq!(names, [(6, "06copyenv"), (40, "40restore_database")]);
    assert!(steps.warnings.len() == 1 && steps.warnings[0].contains("README"), "{:?}", steps.warnings);
    for step in &steps.steps {
        run_well(place.step_program(step, br#"{"snapshot": "latest"}"#.to_vec()).unwrap()).await;
    }
    assert_eq!(fs::read_to_string(state.join("request.json")).unwrap(), r#"{"snapshot": "latest"}"#);
    assert_eq!(fs::read_to_string(state.join("restored.seen")).unwrap(), "copied=yes\n");
    assert_eq!(redis.ask::<String>(&["GET", "module/wiki1/ui_name"]), "Our wiki");
    assert!(redis.ask::<i64>(&["PTTL", "module/wiki1/ui_name"]) > 7_000_000);
    assert_eq!(redis.ask::<String>(&["GET", "module/wiki1/ui_note"]), "made later");
    let mut rows = crate::setup::argv(["sqlite3", "wiki.sqlite", "select t from page"]);
    rows.dir = Some(state);
    assert_eq!(run_well(rows).await, "Start\n");
}

#[tokio::test]
async fn a_failing_dump_is_seen_with_its_code_and_words() {
    let module = Module::wiki();
    executable(&module.path("config/bin/module-dump-state"), "#!/bin/sh\necho no database >&2\nexit 3\n");
    let (printed, ended) = run(module.resolve().await.dump_hook("b").unwrap()).await;
    assert!(!ended.ok() && printed.contains("no database") && ended.stderr_tail.contains("no database"));
}

#[tokio::test]
async fn hooks_that_cannot_or_must_not_be_run_are_failures() {
    for (prepare, expected) in [
        ((|m: &Module| mode(&m.path("config/bin/module-dump-state"), 0o644)) as fn(&Module), "chmod +x"),
        (
            |m| mode(&m.path("config/bin/module-cleanup-state"), 0o600),
            "module-cleanup-state is not executable",
        ),
        (|m| mode(&m.path("config/bin/module-dump-state"), 0o775), "chmod go-w"),
        (|m| mode(&m.path("config/bin"), 0o777), "chmod go-w"),
        (
            |m| {
                fs::remove_file(m.path("config/bin/module-dump-state")).unwrap();
                fs::create_dir(m.path("config/bin/module-dump-state")).unwrap();
            },
            "not a file",
        ),
        (
            |m| {
                fs::remove_file(m.path("config/bin/module-dump-state")).unwrap();
                std::os::unix::fs::symlink("gone", m.path("config/bin/module-dump-state")).unwrap();
            },
            "is missing",
        ),
    ] {
        let module = Module::wiki();
        prepare(&module);
        let refusal = module.refusal().await;
        assert!(refusal.contains("instance wiki1") && refusal.contains(expected), "{expected}: {refusal}");
    }
}

#[tokio::test]
async fn a_module_without_hooks_has_none_and_explicit_ones_must_be_there() {
    let mut module = Module::wiki();
    fs::remove_dir_all(module.path("config/bin")).unwrap();
    let place = module.resolve().await;
    assert!(place.dump_hook("b").is_none() && place.cleanup_hook("b").is_none());
    module.instance.dump_state = Some(vec!["bin/dump".into()]);
    let refusal = module.refusal().await;
    assert!(refusal.contains("`dump_state`") && refusal.contains("bin/dump is missing"), "{refusal}");
    module.instance.dump_state = Some(vec!["no-such-program-here".into()]);
    assert!(module.refusal().await.contains("not on the hooks' PATH"));
}

#[tokio::test]
async fn an_explicit_hook_gets_the_backups_name_first_and_then_its_own_arguments() {
    let mut module = Module::bare();
    module.instance.dump_state = Some(["echo", "a b", "$HOME;id"].map(String::from).into());
    let printed = run_well(module.resolve().await.dump_hook("nightly").unwrap()).await;
    assert_eq!(printed, "nightly a b $HOME;id\n");
}

#[tokio::test]
async fn a_restore_step_that_is_not_executable_is_a_failure() {
    let module = Module::wiki();
    mode(&module.path("config/actions/restore-module/40restore_database"), 0o644);
    let error = format!("{:#}", module.resolve().await.restore_steps().unwrap_err());
    assert!(error.contains("40restore_database") && error.contains("not executable"), "{error}");
}

#[tokio::test]
async fn steps_are_ordered_by_number_not_by_text() {
    let module = Module::wiki();
    let dir = module.path("config/actions/restore-module");
    for name in ["5early", "100late", "40a"] {
        executable(&dir.join(name), "#!/bin/sh\n");
    }
    let steps = module.resolve().await.restore_steps().unwrap().steps;
    let names: Vec<_> = steps.iter().map(|s| s.name.as_str()).collect();
    assert_eq!(names, ["5early", "06copyenv", "40a", "40restore_database", "100late"]);
}

#[tokio::test]
async fn an_unknown_user_and_missing_directories_are_named() {
    let mut module = Module::wiki();
    module.instance.user = Some("no-such-user".into());
    let refusal = module.refusal().await;
    assert!(refusal.contains("instance wiki1") && refusal.contains("no-such-user"), "{refusal}");
    module.instance.user = None;
    fs::remove_dir_all(module.path("config/state")).unwrap();
    assert!(module.refusal().await.contains("config/state"));
    assert!(module.resolve_for(Purpose::Restore, &[]).await.is_ok());
    module.instance.install_dir = Some("/no/such/dir".into());
    assert!(module.refusal().await.contains("/no/such/dir"));
}

#[tokio::test]
async fn the_modules_uuid_is_its_identity_and_another_module_id_is_noted() {
    let module = Module::wiki();
    let place = module.resolve().await;
    assert_eq!(place.identity().unwrap().to_string(), "0b0ff3f5-63a5-4c33-9d0b-3a0f5d9a0c11");
    module.write("config/state/environment", "MODULE_ID=other7\nMODULE_UUID=no\n");
    let place = module.resolve().await;
    assert_eq!(place.identity(), None);
    assert!(
        place.warnings.iter().any(|w| w.contains("other7") && w.contains("wiki1")),
        "{:?}",
        place.warnings
    );
}

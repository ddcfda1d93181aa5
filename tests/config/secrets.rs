//! Passwords in definitions, and definitions in great number.

use std::collections::BTreeSet;

use super::*;

#[test]
fn c11_a_password_in_the_file_is_refused_and_never_repeated() {
    for text in [
        "[repository.x]\nurl = '/x'\npassword = 'hunter2'\n",
        "[repository.x]\nurl = '/x'\npassword = 'hunter2\n",
        "[repository.x]\nurl = 'rest:https://u:hunter2@h/'\nlayout = 3\n",
        "[repository.x]\nurl = 'rest:htps://u:hunter2@h/'\n",
        "repository.x = { url = 3, password = 'hunter2' }\n",
    ] {
        let etc = Etc::with(text);
        let loaded = etc.load();
        assert!(!loaded.is_good());
        let all = format!(
            "{}{:?}{}",
            said(&loaded),
            loaded.unusable,
            serde_json::to_string(&loaded.diagnostics).unwrap()
        );
        assert!(!all.contains("hunter2"), "{all}");
        let coloured: String = loaded.diagnostics.iter().map(Diagnostic::coloured).collect();
        assert!(!coloured.contains("hunter2") && coloured.contains('\u{1b}'), "{coloured}");
    }
    let loaded = Etc::with("[repository.x]\nurl = '/x'\npassword = 'hunter2'\n").load();
    assert!(said(&loaded).contains("password_file"), "{}", said(&loaded));
}

#[test]
fn c33_a_password_in_the_url_is_taken_but_warned_of_where_others_can_read_it() {
    let etc = Etc::with("[repository.x]\nurl = 'rest:https://u:hunter2@h/'\n");
    assert_eq!(said(&etc.load()), "");
    etc.mode("etc/holdfast.toml", 0o644);
    let loaded = etc.load();
    assert!(loaded.is_good() && said(&loaded).contains("others can read this file"), "{}", said(&loaded));
    assert!(!said(&loaded).contains("hunter2"));
    assert!(repository(&loaded, "x").url.contains("hunter2"));
}

#[test]
fn c36_a_thousand_definitions_are_loaded() {
    let etc =
        Etc::with("[repository.r]\nurl = '/srv/r'\n[module.m]\ninclude = ['/srv/m']\nexclude = ['*.tmp']\n");
    let one = |n| {
        format!(
            "[instance.i{n}]\nmodule = 'm'\n[backup.b{n}]\nrepositories = ['r']\nschedule = 'daily'\nretention = {{ daily = 7 }}\ninstances = ['i{n}']\n"
        )
    };
    etc.write("etc/conf.d/all.toml", (0..500).map(one).collect::<String>());
    let start = std::time::Instant::now();
    let loaded = etc.load();
    println!("1,000 definitions in one file: {:?}", start.elapsed());
    assert_eq!((said(&loaded).as_str(), loaded.definitions.backups.len()), ("", 500));
    std::fs::remove_file(etc.path("etc/conf.d/all.toml")).unwrap();
    for n in 0..500 {
        etc.write(&format!("etc/conf.d/{n}.toml"), one(n));
    }
    let start = std::time::Instant::now();
    let loaded = etc.load();
    println!("1,000 definitions in 500 files: {:?}", start.elapsed());
    assert_eq!(loaded.definitions.instances.len(), 500);
    let names: BTreeSet<_> = loaded.origins.keys().filter(|key| key.matches('/').count() == 1).collect();
    assert_eq!(names.len(), 1002);
}

#[test]
fn a_flood_of_errors_is_counted_not_listed() {
    let text: String = (0..20_000).map(|n| format!("[backup.b{n}]\nx = 1\n")).collect();
    let loaded = Etc::with(&text).load();
    assert!(loaded.diagnostics.len() < 60, "{}", loaded.diagnostics.len());
    assert!(said(&loaded).contains("more errors in this file"), "{}", said(&loaded));
}

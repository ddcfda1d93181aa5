//! What may be read at all: owners, modes, kinds, sizes, encodings (C01, C06 – C15).

use proptest::prelude::*;

use super::*;

const BACKUP: &str = "[repository.r]\nurl = '/srv/r'\n[backup.b]\nrepositories = ['r']\ninstances = ['*']\n";

fn refused(etc: &Etc, file: &str, message: &str, help: &str) {
    let loaded = etc.load();
    let found = findings(&loaded, &etc.path(file));
    assert!(
        found.iter().any(|f| f.contains(message) && f.contains(help)),
        "{file}: {message} ({help}): {found:?}"
    );
    assert!(loaded.refused.contains_key(&etc.path(file)), "{:?}", loaded.refused);
    assert!(said(&loaded).contains(&format!("--> {}", etc.path(file).display())), "{}", said(&loaded));
}

#[test]
fn c01_an_empty_file_is_fine() {
    for text in ["", "\n\n", "# nothing yet\n", "\u{feff}"] {
        let loaded = Etc::with(text).load();
        assert_eq!(said(&loaded), "", "{text:?}");
        repository(&loaded, "local");
    }
}

#[test]
fn c06_a_file_beyond_ten_mebibytes_is_refused() {
    let etc = Etc::with(BACKUP);
    etc.write("etc/conf.d/big.toml", "#".repeat(10 * 1024 * 1024 + 1));
    refused(&etc, "etc/conf.d/big.toml", "larger than 10 MiB", "split it");
    backup(&etc.load(), "b");
}

#[test]
fn c07_bytes_that_are_not_utf8_are_said_with_their_place() {
    let etc = Etc::with(BACKUP);
    etc.write("etc/conf.d/x.toml", b"[backup.x]\nschedule = 'd\xe4ily'\n");
    let found = findings(&etc.load(), &etc.path("etc/conf.d/x.toml"));
    assert!(found[0].starts_with("2:14 this byte is not UTF-8"), "{found:?}");
    refused(&etc, "etc/conf.d/x.toml", "not UTF-8", "save the file as UTF-8");
}

#[test]
fn c09_deep_nesting_is_refused_without_harm() {
    for text in [
        format!("a = {}", "[".repeat(100_000)),
        format!("a = {}", "{a=".repeat(50_000)),
        format!("{} = 1", vec!["a"; 50_000].join(".")),
    ] {
        let etc = Etc::with(BACKUP);
        etc.write("etc/conf.d/x.toml", text);
        let loaded = etc.load();
        assert!(!loaded.is_good());
        backup(&loaded, "b");
    }
}

#[test]
fn c10_files_that_others_can_write_are_refused() {
    let etc = Etc::with("");
    for mode in [0o620, 0o602, 0o666] {
        etc.write("etc/conf.d/x.toml", BACKUP);
        etc.mode("etc/conf.d/x.toml", mode);
        refused(&etc, "etc/conf.d/x.toml", &format!("mode {mode:04o}"), "chmod go-w");
    }
    etc.mode("etc/conf.d/x.toml", 0o644);
    backup(&etc.load(), "b");
}

#[test]
fn c10_files_of_another_user_are_refused() {
    let etc = Etc::with(BACKUP);
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(etc.path("etc/holdfast.toml"), Some(12345), None).unwrap();
        refused(&etc, "etc/holdfast.toml", "belongs to user 12345", "chown");
    } else {
        // What we own is another user's for a daemon that runs as someone else.
        let env = Environment { uid: 12345, ..environment() };
        let loaded = load(&etc.dirs(), &env, None);
        assert!(said(&loaded).contains("belongs to user"), "{}", said(&loaded));
    }
}

#[test]
fn c12_symbolic_links_are_not_followed() {
    let etc = Etc::with("");
    etc.write("elsewhere.toml", BACKUP);
    std::os::unix::fs::symlink(etc.path("elsewhere.toml"), etc.path("etc/conf.d/x.toml")).unwrap();
    refused(&etc, "etc/conf.d/x.toml", "symbolic link", "put the file itself here");
}

#[test]
fn c13_directories_that_others_can_write_are_refused() {
    let etc = Etc::with(BACKUP);
    etc.write("etc/conf.d/x.toml", "[instance.i]\ninclude = ['/x']\n");
    etc.mode("etc/conf.d", 0o775);
    refused(&etc, "etc/conf.d", "mode 0775", "chmod go-w");
    backup(&etc.load(), "b");
    etc.mode("etc", 0o777);
    refused(&etc, "etc", "mode 0777", "chmod go-w");
    assert!(etc.load().definitions.backups.is_empty());
    assert!(
        etc.load().definitions.repositories.is_empty(),
        "no embedded repository in place of those that cannot be read"
    );
}

#[test]
fn c14_a_fifo_or_directory_in_place_of_a_file_is_not_waited_for() {
    let etc = Etc::with(BACKUP);
    let fifo = etc.path("etc/conf.d/fifo.toml");
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0)
        .unwrap();
    std::fs::create_dir(etc.path("etc/conf.d/dir.toml")).unwrap();
    refused(&etc, "etc/conf.d/fifo.toml", "not a regular file", "move it away");
    refused(&etc, "etc/conf.d/dir.toml", "not a regular file", "move it away");
    backup(&etc.load(), "b");
}

#[test]
fn c15_what_editors_and_package_managers_leave_is_ignored() {
    let etc = Etc::with(BACKUP);
    for name in [
        "x.toml~",
        ".x.toml.swp",
        "x.toml.dpkg-new",
        "x.toml.dpkg-old",
        ".#x.toml",
        "#x.toml#",
        "x.toml.bak",
        ".x.toml",
        "x.toml.rpmnew",
    ] {
        etc.write(&format!("etc/conf.d/{name}"), "nonsense");
    }
    assert_eq!(said(&etc.load()), "");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn any_bytes_yield_definitions_or_findings(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let etc = Etc::new();
        etc.write("etc/conf.d/x.toml", &bytes);
        let loaded = etc.load();
        prop_assert!(loaded.is_good() || !loaded.refused.is_empty());
    }

    #[test]
    fn any_mixture_of_what_belongs_into_a_file_yields_definitions_or_findings(
        parts in proptest::collection::vec(proptest::sample::select(PARTS.to_vec()), 0..40),
    ) {
        let etc = Etc::new();
        etc.write("etc/conf.d/x.toml", parts.concat());
        let loaded = etc.load();
        let defined = loaded.definitions.backups.len() + loaded.definitions.instances.len();
        prop_assert!(loaded.is_good() || !loaded.diagnostics.is_empty(), "{}", defined);
        for diagnostic in &loaded.diagnostics {
            prop_assert!(diagnostic.line == 0 || diagnostic.column > 0);
            prop_assert!(!diagnostic.rendered.is_empty() && !diagnostic.coloured().is_empty());
        }
    }
}

const PARTS: [&str; 36] = [
    "[backup.x]\n",
    "[repository.x]\n",
    "[instance.x]\n",
    "[module.x]\n",
    "[daemon]\n",
    "[[backup.x]]\n",
    "backup",
    ".x",
    " = ",
    "schedule",
    "retention",
    "include",
    "url",
    "'/srv/x'",
    "\"\\u00e4\"",
    "\"\"\"\n",
    "'daily'",
    "3",
    "-1",
    "0x10",
    "1e400",
    "true",
    "[",
    "]",
    "{",
    "}",
    ",",
    "\n",
    "\r\n",
    "# ",
    "ä",
    "\u{1F600}",
    "\t",
    "\u{0}",
    "1979-05-27",
    "['*']",
];

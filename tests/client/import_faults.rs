//! Archives that are hostile, broken, interrupted or imported twice: what is not whole becomes nothing.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use super::House;
use super::import::{compressed, house, packed};
use super::support::until;

/// Members of a tar, as hostile as wanted: kind, name, what a link says, data.
fn forged(members: &[(u8, &str, &str, &str)]) -> Vec<u8> {
    let mut archive = Vec::new();
    for (kind, name, link, data) in members {
        let mut header = tar::Header::new_ustar();
        let old = header.as_old_mut();
        old.name[..name.len()].copy_from_slice(name.as_bytes());
        old.linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_entry_type(tar::EntryType::new(*kind));
        header.set_size(data.len() as u64);
        header.set_mode(0o4755);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1);
        header.set_cksum();
        archive.extend_from_slice(header.as_bytes());
        archive.extend_from_slice(data.as_bytes());
        archive.resize(archive.len().next_multiple_of(512), 0);
    }
    archive.resize(archive.len() + 1024, 0);
    archive
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_archives_write_nothing_outside_and_become_nothing() {
    let house = house("include = [\"@DIR@/data\"]").await;
    house.daemon.write("victim/file", "mine\n");
    let victim = house.path("victim").display().to_string();
    let at = |name: &str| format!("{}/{name}", house.path("data").display());
    let (link, file, deep) = (at("l"), format!("{victim}/file"), at("l/file"));
    let climbing = format!("{}/../victim/file", house.path("data").display());
    let cases: [(&str, Vec<u8>, &str); 9] = [
        ("climbs", forged(&[(b'0', "../../victim/file", "", "bad")]), "climbs"),
        ("climbs inside", forged(&[(b'0', &climbing, "", "bad")]), "climbs"),
        (
            "through a link",
            forged(&[(b'2', &link, &victim, ""), (b'0', &deep, "", "bad")]),
            "may lead anywhere",
        ),
        (
            "a directory over a link",
            forged(&[(b'2', &link, &victim, ""), (b'5', &link, "", "")]),
            "may lead anywhere",
        ),
        ("another name of a file outside", forged(&[(b'1', &at("h"), &file, "")]), "did not come before"),
        ("another name that climbs", forged(&[(b'1', &at("h"), "../../victim/file", "")]), "climbs"),
        (
            "another name through a link",
            forged(&[(b'2', &link, &victim, ""), (b'1', &at("h"), &deep, "")]),
            "before it",
        ),
        (
            "a name that is a megabyte",
            forged(&[(b'L', "x", "", &"n".repeat(2 << 20)), (b'0', "x", "", "")]),
            "2097152",
        ),
        ("where no include is", forged(&[(b'0', &file, "", "bad")]), "no include of app-1"),
    ];
    for (what, bytes, words) in cases {
        for ending in ["tar", "tar.gz", "tar.zst"] {
            let archive = house.path(&format!("hostile.{ending}"));
            compressed(&archive, &bytes);
            let said = house.import(&archive, &[]).ends_with(1);
            assert!(said.err.contains(words), "{what}: {}", said.err);
        }
        assert_eq!(house.daemon.read("victim/file"), "mine\n", "{what}");
    }
    house.assert_nothing();
    // Devices and pipes are left out and told; links stay what they are, wherever they lead.
    let archive = house.path("odd.tar");
    let members = [
        (b'3', &*at("dev"), "", ""),
        (b'6', &*at("pipe"), "", ""),
        (b'2', &*link, &*file, ""),
        (b'0', &*at("a"), "", "a"),
    ];
    std::fs::write(&archive, forged(&members)).unwrap();
    house.import(&archive, &[]).ends_with(3).has(&["a device", "a pipe"]);
    std::fs::create_dir(house.path("data")).unwrap();
    house.holdfast(&["restore", "app-1", "--yes"]).ends_with(3).has(&["set-uid"]);
    let mode = std::fs::metadata(house.path("data/a")).unwrap().permissions().mode();
    assert_eq!(mode & 0o6000, 0, "{mode:o}");
    assert_eq!(std::fs::read_link(house.path("data/l")).unwrap(), Path::new(&file));
    let names = std::fs::read_dir(house.path("data")).unwrap().map(|entry| entry.unwrap().file_name());
    assert_eq!(names.filter(|name| !name.to_string_lossy().starts_with(".holdfast")).count(), 2);
    assert_eq!(house.daemon.read("victim/file"), "mine\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_that_is_cut_off_or_damaged_becomes_nothing() {
    let house = house("include = [\"@DIR@/data\"]").await;
    house.daemon.write("from/a", &"0123456789abcdef".repeat(5_000));
    house.daemon.write("from/b", "b\n");
    let map = format!(".={}", house.path("data").display());
    for ending in ["tar", "tar.gz", "tar.zst"] {
        let archive = house.path(&format!("whole.{ending}"));
        packed(&house.path("from"), &archive, &["."]);
        let whole = std::fs::read(&archive).unwrap();
        let cut = house.path(&format!("cut.{ending}"));
        // In the middle of a header, of a file, before the end mark, and in the checksum of what compressed it.
        let ends: &[usize] =
            if ending == "tar" { &[100, 512, 700, 4_000] } else { &[20, whole.len() / 2, whole.len() - 1] };
        for end in ends {
            std::fs::write(&cut, &whole[..*end]).unwrap();
            house.import(&cut, &["--map", &map]).ends_with(1).complains(&["nothing was imported"]);
        }
        let mut bent = whole.clone();
        let middle = if ending == "tar" { 600 } else { whole.len() / 2 };
        bent[middle] ^= 0x40;
        std::fs::write(&cut, bent).unwrap();
        if ending != "tar" {
            house.import(&cut, &["--map", &map]).ends_with(1);
        }
    }
    for (name, bytes, words) in [
        ("empty", &b""[..], "it is empty"),
        ("words", b"these are words and no archive at all", "no tar"),
        ("xz", b"\xfd7zXZ\0 and so on", "xz -dc"),
        ("zip", b"PK\x03\x04 and so on", "zip"),
    ] {
        let path = house.path(name);
        std::fs::write(&path, bytes).unwrap();
        house.import(&path, &["--map", &map]).ends_with(1).complains(&[words]);
    }
    house.import(&house.path("absent"), &[]).ends_with(1).complains(&["absent"]);
    house.holdfast(&["import", "x", "--instance", "nobody"]).ends_with(1);
    house.assert_nothing();
}

/// A program that runs restic, but holds `restic backup` for as long as there is a file `hold`.
fn held_restic(house: &House) -> PathBuf {
    let script = format!(
        "#!/bin/sh\ncase \" $* \" in *' backup '*) if [ -e {dir}/hold ]; then : > {dir}/held; exec sleep 600; fi;; esac\n\
         exec restic \"$@\"\n",
        dir = house.daemon.dir.path().display()
    );
    let path = house.daemon.write("restic", &script);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_while_it_unpacks_or_stores_nothing_is_left_and_the_next_import_succeeds() {
    let mut house = house("include = [\"@DIR@/data\"]").await;
    let config = house.daemon.read("config/holdfast.toml");
    let restic = held_restic(&house);
    let config = config.replacen("[daemon]\n", &format!("[daemon]\nrestic = \"{}\"\n", restic.display()), 1);
    house.daemon.write("config/holdfast.toml", &config);
    house.holdfast(&["reload"]).ends_with(0);
    house.daemon.write("from/a", "a\n");
    let archive = house.path("a.tar");
    packed(&house.path("from"), &archive, &["."]);
    let bytes = std::fs::read(&archive).unwrap();
    let map = format!(".={}", house.path("data").display());
    for phase in ["fetch", "snapshot"] {
        let piped = house.command(&["import", "-", "--instance", "app-1", "--map", &map]);
        let mut piped =
            { piped }.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let mut pipe = piped.stdin.take().unwrap();
        if phase == "snapshot" {
            house.daemon.write("hold", "");
            pipe.write_all(&bytes).unwrap();
            drop(pipe);
            until("restic runs", || house.path("held").exists());
            house.daemon.kill();
        } else {
            pipe.write_all(&bytes[..1024]).unwrap();
            until("it unpacks", || house.path("staging/app-1/raw").exists());
            house.daemon.kill();
        }
        assert_eq!(piped.wait().unwrap().code(), Some(4));
        assert!(house.path("staging/app-1").exists(), "there was something to be removed");
        house.daemon.start_again().await;
        house.assert_nothing();
        let job = &house.json(&["history"])[0];
        assert_eq!((job["Kind"].as_str(), job["Outcome"].as_str()), (Some("import"), Some("interrupted")));
    }
    std::fs::remove_file(house.path("hold")).unwrap();
    house.import(&archive, &["--map", &map]).ends_with(0);
    house.restore();
    assert_eq!(house.daemon.read("data/a"), "a\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_archive_imported_twice_makes_one_set_and_what_was_forgotten_is_made_again() {
    let house = house("include = [\"@DIR@/data\"]").await;
    house.daemon.write("from/a", "a\n");
    let archive = house.path("a.tar");
    packed(&house.path("from"), &archive, &["."]);
    let map = format!(".={}", house.path("data").display());
    house.import(&archive, &["--map", &map]).ends_with(0);
    let first = house.sets();
    std::fs::rename(&archive, house.path("b.tar")).unwrap();
    let again = house.import(&house.path("b.tar"), &["--map", &map]).ends_with(0);
    again.has(&["skipped", "it is there already, as snapshot", first[0]["id"].as_str().unwrap()]);
    assert_eq!(house.sets().len(), 1);
    // Something else is made of it, so that is another set.
    let elsewhere = format!(".={}/deeper", house.path("data").display());
    house.import(&house.path("b.tar"), &["--map", &elsewhere]).ends_with(0);
    assert_eq!(house.sets().len(), 2);
    // Another archive with the same name is another set.
    house.daemon.write("from/a", "b\n");
    packed(&house.path("from"), &archive, &["."]);
    house.import(&archive, &["--map", &map]).ends_with(0);
    assert_eq!(house.sets().len(), 3);
    let forgotten = house.holdfast(&["restic", "app-1", "--", "forget", first[0]["id"].as_str().unwrap()]);
    forgotten.ends_with(0);
    house.import(&house.path("b.tar"), &["--map", &map]).ends_with(0);
    assert_eq!(house.sets().len(), 3, "forgotten behind our back, and made again");
    house.assert_tidy();
}

//! Archives become sets that restore: our own and those of other tools.

use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Stdio};

use super::support::{Bus, Daemon};
use super::{House, Said};

/// A house whose instance `app-1` is as told; `@DIR@` is its directory.
pub(super) async fn house(instance: &str) -> House {
    let config = format!(
        "[daemon]\nstaging_dir = \"@DIR@/staging\"\nhost = \"other\"\ntimezone = \"Europe/Rome\"\n\
         [repository.local]\nurl = \"@DIR@/repository\"\n\
         [backup.nightly]\nrepositories = [\"local\"]\ninstances = [\"*\"]\n\
         [instance.app-1]\n{instance}\n"
    );
    let bus = Bus::start();
    let daemon = Daemon::start(&bus, &[("holdfast.toml", &config)]).await;
    House { bus, daemon }
}

/// Packs what lies in a directory with the system's tar, as other tools do.
pub(super) fn packed(dir: &Path, archive: &Path, names: &[&str]) {
    let plain = archive.with_extension("plain");
    let tar = Command::new("tar").arg("-cf").arg(&plain).arg("-C").arg(dir).args(names).output().unwrap();
    assert!(tar.status.success(), "{}", String::from_utf8_lossy(&tar.stderr));
    let bytes = std::fs::read(&plain).unwrap();
    std::fs::remove_file(plain).unwrap();
    compressed(archive, &bytes);
}

pub(super) fn compressed(archive: &Path, bytes: &[u8]) {
    let name = archive.to_string_lossy();
    let out = match () {
        () if name.ends_with(".zst") => {
            let mut to = zstd::Encoder::new(Vec::new(), 3).unwrap();
            to.include_checksum(true).unwrap();
            to.write_all(bytes).unwrap();
            to.finish().unwrap()
        }
        () if name.ends_with("gz") => {
            let mut to = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
            to.write_all(bytes).unwrap();
            to.finish().unwrap()
        }
        () => bytes.to_vec(),
    };
    std::fs::write(archive, out).unwrap();
}

pub(super) fn same(a: &Path, b: &Path) {
    let diff = Command::new("diff")
        .args(["-r", "--no-dereference", "--exclude=.holdfast-*"])
        .arg(a)
        .arg(b)
        .output()
        .unwrap();
    assert!(diff.status.success(), "{}", String::from_utf8_lossy(&diff.stdout));
}

impl House {
    pub(super) fn import(&self, archive: &Path, more: &[&str]) -> Said {
        let mut all = vec!["import", archive.to_str().unwrap(), "--instance", "app-1"];
        all.extend(more);
        self.holdfast(&all)
    }

    pub(super) fn restore(&self) {
        self.holdfast(&["restore", "app-1", "--yes"]).ends_with(0);
    }

    pub(super) fn sets(&self) -> Vec<serde_json::Value> {
        self.json(&["snapshots", "app-1"]).as_array().unwrap().clone()
    }

    /// No set, no staging, no undo steps.
    pub(super) fn assert_nothing(&self) {
        assert_eq!(self.sets(), Vec::<serde_json::Value>::new());
        self.assert_tidy();
    }

    pub(super) fn assert_tidy(&self) {
        let left = |dir: &str| std::fs::read_dir(self.path(dir)).into_iter().flatten().count();
        assert_eq!((left("staging"), left("state/undo")), (0, 0), "{}", self.daemon.log());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_of_one_machine_is_restored_on_another() {
    let first = House::build().await;
    first.daemon.write("data/large", &"0123456789abcdef".repeat(1 << 16));
    symlink("large", first.path("data/link")).unwrap();
    std::fs::hard_link(first.path("data/file"), first.path("data/same")).unwrap();
    std::fs::set_permissions(first.path("data/file"), std::fs::Permissions::from_mode(0o640)).unwrap();
    first.holdfast(&["run", "nightly"]).ends_with(0);
    let manifest = first.holdfast(&["cat", "app-1", "manifest.json"]).ends_with(0).out;
    let manifest: serde_json::Value = serde_json::from_str(&manifest).unwrap();
    let made: jiff::Timestamp = manifest["time"].as_str().unwrap().parse().unwrap();
    let second = house("install_dir = \"@DIR@/app\"\ninclude = [\"@DIR@/data\"]").await;
    std::fs::create_dir_all(second.path("app/state")).unwrap();
    let map = format!("{}={}", first.path("data").display(), second.path("data").display());
    for ending in ["tar", "tar.gz", "tar.zst"] {
        let archive = first.path(&format!("out.{ending}"));
        first.holdfast(&["export", "app-1", archive.to_str().unwrap()]).ends_with(0);
        second.import(&archive, &[]).ends_with(1).complains(&["--map", "nothing was imported"]);
        second.import(&archive, &["--map", &map]).ends_with(0);
        second.daemon.write("data/file", "spoilt\n");
        second.daemon.write("data/stray", "goes\n");
        second.restore();
        same(&first.path("data"), &second.path("data"));
        let mode = |house: &House| std::fs::metadata(house.path("data/file")).unwrap().permissions().mode();
        assert_eq!(mode(&first), mode(&second));
        assert_eq!(second.daemon.read("app/state/environment"), "APP_VERSION=1\n");
    }
    let sets = second.sets();
    assert_eq!(sets.len(), 3);
    assert!(sets.iter().all(|set| set["backup"] == "(import)" && set["host"] == "other"), "{sets:?}");
    assert_eq!(sets[0]["time"].as_i64().unwrap() / 1_000_000, made.as_second(), "it is as old as it was");
    assert_eq!(second.json(&["history"])[0]["Kind"], "restore");
    second.assert_tidy();
}

#[tokio::test(flavor = "multi_thread")]
async fn any_tar_goes_where_it_is_told_and_only_what_it_holds_is_replaced() {
    let house = house("include = [\"@DIR@/srv\", \"volumes/v\"]\nvolumes = { v = \"@DIR@/v\" }").await;
    std::fs::create_dir(house.path("v")).unwrap();
    house.daemon.write("from/srv/part/a", "a\n");
    house.daemon.write("from/vol/x y", "x\n");
    std::fs::File::create(house.path("from/srv/part/holes")).unwrap().set_len(5 << 20).unwrap();
    house.daemon.write("srv/other", "stays\n");
    house.daemon.write("srv/part/a", "old\n");
    house.daemon.write("v/old", "goes\n");
    let archive = house.path("any.tar.gz");
    // Without the directory `srv` itself: only its part is known.
    packed(&house.path("from"), &archive, &["--sparse", "srv/part", "vol"]);
    let srv = format!("srv={}", house.path("srv").display());
    house.import(&archive, &["--map", &srv]).ends_with(1).complains(&["/vol/x y", "--map vol="]);
    house.import(&archive, &["--map", &srv, "--map", "none=/x"]).ends_with(1).complains(&["no none"]);
    house.import(&archive, &["--map", "srv"]).ends_with(1).complains(&["FROM=TO"]);
    house.import(&archive, &["--map", "srv=x/y"]).ends_with(1).complains(&["absolute path"]);
    house.assert_nothing();
    let told = ["--map", &srv, "--map", "vol=volumes/v", "--time", "2020-02-03T04:05:06Z", "--version", "7"];
    house.import(&archive, &told).ends_with(0);
    house.restore();
    assert_eq!(house.daemon.read("srv/part/a"), "a\n");
    assert_eq!(house.daemon.read("srv/other"), "stays\n");
    assert_eq!(std::fs::metadata(house.path("srv/part/holes")).unwrap().len(), 5 << 20);
    same(&house.path("from/vol"), &house.path("v"));
    let set = &house.sets()[0];
    assert_eq!((set["time"].as_u64(), set["version"].as_str()), (Some(1_580_702_706_000_000), Some("7")));
    // The other way to give one: standard input, all of it mapped, its directory's mode kept.
    std::fs::set_permissions(house.path("from/vol"), std::fs::Permissions::from_mode(0o750)).unwrap();
    packed(&house.path("from/vol"), &archive, &["."]);
    let piped = house.command(&[
        "import",
        "-",
        "--instance",
        "app-1",
        "--map",
        ".=volumes/v",
        "--time",
        "2021-01-01",
    ]);
    let mut piped = { piped }.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    piped.stdin.take().unwrap().write_all(&std::fs::read(&archive).unwrap()).unwrap();
    assert!(piped.wait().unwrap().success(), "{}", house.daemon.log());
    house.restore();
    assert_eq!(std::fs::metadata(house.path("v")).unwrap().permissions().mode() & 0o777, 0o750);
}

const CLUSTER: &str = "--\n-- PostgreSQL database cluster dump\n--\nselect 1;\n--\n-- PostgreSQL database cluster dump complete\n--\n";
const MARIA: &str =
    "/*M!999999\\- enable the sandbox mode */ \n-- MariaDB dump\n-- Dump completed on 2023-11-05 12:00:00\n";

/// As the sidecar packs a stack: a directory for each service.
fn stack(house: &House) {
    house.daemon.write("stack/db/database/pg_dumpall.sql", CLUSTER);
    house.daemon.write("stack/maria/mariadb_dump/all_databases.sql", MARIA);
    house.daemon.write("stack/web/volumes/uploads/pic", "pic\n");
    house.daemon.write("stack/web/volumes/config/deep/conf", "conf\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_of_the_compose_sidecar_is_restored_dumps_and_all() {
    let house = house(
        "volumes = { my_app_uploads = \"@DIR@/uploads\", config = \"@DIR@/config-volume\" }\n\
         include = [\"volumes/my_app_uploads\", \"volumes/config\"]\n\
         [[instance.app-1.dump]]\nname = \"db\"\nsource = \"command\"\ncommand = [\"cat\", \"@DIR@/live\"]\n\
         restore = [\"tee\", \"@DIR@/live\"]\n",
    )
    .await;
    ["uploads", "config-volume"].iter().for_each(|dir| std::fs::create_dir(house.path(dir)).unwrap());
    house.daemon.write("live", "live\n");
    stack(&house);
    // In another order: the very same archive would be there already.
    for (name, order) in [
        (
            "backup_my_app_20231105-120000_0a1b2c3d-1111-4222-8333-444455556666.tar.zst",
            ["db", "maria", "web"],
        ),
        (
            "backup-my_app-20231105-120000-0a1b2c3d-1111-4222-8333-444455556666.tar.zst",
            ["web", "maria", "db"],
        ),
    ] {
        let archive = house.path(name);
        packed(&house.path("stack"), &archive, &order);
        // No dump of the instance can load that of the second server: kept, and told.
        house.import(&archive, &[]).ends_with(3).has(&["dumps/maria/all_databases.sql"]);
        house.import(&archive, &["--exclude", "maria"]).ends_with(0);
        house.daemon.write("live", "spoilt\n");
        house.daemon.write("uploads/pic", "spoilt\n");
        house.restore();
        assert_eq!(house.daemon.read("live"), CLUSTER);
        same(&house.path("stack/web/volumes/uploads"), &house.path("uploads"));
        same(&house.path("stack/web/volumes/config"), &house.path("config-volume"));
    }
    assert_eq!(house.sets()[0]["time"].as_u64(), Some(1_699_185_600_000_000));
    // That tool packs and uploads although a dump failed.
    house.daemon.write("stack/db/database/pg_dumpall.errors", "pg_dumpall: error: connection failed\n");
    let archive = house.path("backup_my_app_20231106-120000_abc123.tar.zst");
    packed(&house.path("stack"), &archive, &["db", "web"]);
    house.import(&archive, &[]).ends_with(1).complains(&["dump of db failed", "--exclude db/database"]);
    std::fs::remove_file(house.path("stack/db/database/pg_dumpall.errors")).unwrap();
    house.daemon.write("stack/db/database/pg_dumpall.sql", &CLUSTER[..60]);
    packed(&house.path("stack"), &archive, &["db", "web"]);
    house.import(&archive, &[]).ends_with(1).complains(&["no whole dump"]);
    assert_eq!(house.sets().len(), 4);
    house.assert_tidy();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_of_hoss_becomes_its_volumes_its_configuration_and_its_dumps() {
    let house = house(
        "volumes = { server_auth-secrets = \"@DIR@/auth\", server_ldap-vol0 = \"@DIR@/ldap0\" }\n\
         include = [\"volumes/server_auth-secrets\", \"volumes/server_ldap-vol0\", \"@DIR@/home/.hoss\"]\n\
         [[instance.app-1.dump]]\nname = \"db\"\nsource = \"postgresql\"\ndatabases = [\"hoss_core\", \"hoss_auth\"]\n",
    )
    .await;
    ["auth", "ldap0", "home"].iter().for_each(|dir| std::fs::create_dir(house.path(dir)).unwrap());
    for (path, text) in [
        ("config/.env", "UID=1000\n"),
        ("config/core/a", "a\n"),
        ("volumes/auth/private.pem", "key\n"),
        ("volumes/ldap-vol0/data.mdb", "mdb\n"),
        ("db/postgres-hoss_core-backup.dump", "PGDMP core"),
        ("db/postgres-hoss_auth-backup.dump", "PGDMP auth"),
        ("search/index-0", "{}\n"),
        ("version.json", "{\"version\": \"0.3.1\", \"build\": \"abc\"}"),
    ] {
        house.daemon.write(&format!("hoss/{path}"), text);
    }
    let archive = house.path("hoss-backup-2022-03-04T101112Z.tar.gz");
    packed(&house.path("hoss"), &archive, &["."]);
    house.import(&archive, &[]).ends_with(1).complains(&["/search/index-0", "--exclude search"]);
    house.import(&archive, &["--exclude", "search"]).ends_with(0);
    let set = &house.sets()[0];
    assert_eq!((set["time"].as_u64(), set["version"].as_str()), (Some(1_646_388_672_000_000), Some("0.3.1")));
    for include in ["volumes/server_auth-secrets", "volumes/server_ldap-vol0"] {
        house.holdfast(&["restore", "app-1", "--yes", "--include", include]).ends_with(0);
    }
    let home = format!("files{}", house.path("home/.hoss").display());
    house.holdfast(&["restore", "app-1", "--yes", "--include", &home]).ends_with(0);
    same(&house.path("hoss/config"), &house.path("home/.hoss"));
    same(&house.path("hoss/volumes/auth"), &house.path("auth"));
    let plan = house.json(&["plan", "app-1"]);
    let dumps: Vec<_> =
        plan["dumps"].as_array().unwrap().iter().map(|dump| dump["database"].clone()).collect();
    assert_eq!(dumps, ["hoss_auth", "hoss_core"]);
    house.daemon.write("hoss/db/postgres-hoss_core-backup.dump", "truncated");
    packed(&house.path("hoss"), &archive, &["."]);
    house.import(&archive, &["--exclude", "search"]).ends_with(1).complains(&["no archive of pg_dump"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_of_microbosh_becomes_its_tree_and_its_dumps() {
    let house = house(
        "include = [\"@DIR@/vcap\", \"@DIR@/local\"]\n\
         [[instance.app-1.dump]]\nname = \"pg\"\nsource = \"command\"\ncommand = [\"cat\", \"@DIR@/live\"]\n\
         restore = [\"tee\", \"@DIR@/live\"]\n",
    )
    .await;
    let sql = "--\n-- PostgreSQL database dump\n--\n--\n-- PostgreSQL database dump complete\n--\n";
    for (path, text) in [
        ("_date.control", "20150304101112\n20150304101500\n"),
        ("vcap/store/blobstore/x", "x\n"),
        ("vcap/bosh/settings.json", "{}\n"),
        ("dbs/postgres_20150304101112.dump.bosh", sql),
        ("micro_bosh.yml", "name: micro\n"),
        ("backup.log", "noise\n"),
    ] {
        house.daemon.write(&format!("cache/{path}"), text);
    }
    house.daemon.write("live", "live\n");
    let archive = house.path("bosh_test_20150304101600.tgz");
    packed(&house.path("cache"), &archive, &["_date.control", "backup.log", "dbs", "micro_bosh.yml", "vcap"]);
    let vcap = format!("vcap={}", house.path("vcap").display());
    house.import(&archive, &["--map", &vcap]).ends_with(1).complains(&["/micro_bosh.yml"]);
    let yml = format!("micro_bosh.yml={}/micro_bosh.yml", house.path("local").display());
    house.import(&archive, &["--map", &vcap, "--map", &yml]).ends_with(0);
    house.daemon.write("local/deployments.yml", "stays\n");
    house.restore();
    same(&house.path("cache/vcap"), &house.path("vcap"));
    assert_eq!(house.daemon.read("local/micro_bosh.yml"), "name: micro\n");
    assert_eq!(house.daemon.read("local/deployments.yml"), "stays\n");
    assert_eq!(house.daemon.read("live"), sql);
    // The clock of that host is the daemon's zone, an hour east.
    assert_eq!(house.sets()[0]["time"].as_u64(), Some(1_425_460_272_000_000));
}

/// A backup of MicroShift that holds `text`.
fn microshift(house: &House, name: &str, text: &str) {
    for part in ["certs/ca", "etcd/member", "kubelet-plugins/x", "resources/y", "version"] {
        house.daemon.write(&format!("auto/{name}/{part}"), text);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_of_microshift_becomes_sets_with_their_versions_and_standings() {
    let house = house(
        "include = [\"@DIR@/microshift\"]\nversion.command = [\"echo\", \"4.17\"]\nversion.match = \"exact\"\n\
         [instance.app-1.recovery]\nunit = \"nothing-of-that-name.service\"\n",
    )
    .await;
    microshift(&house, "20240611132059_4.17", "newest");
    microshift(&house, "20240610132059_4.17", "older");
    microshift(&house, "20240609132059_4.16", "other version");
    microshift(&house, "restored/20240608132059_4.17", "used");
    microshift(&house, "failed/20240612132059_4.17", "bad");
    house.daemon.write("auto/foreign/x", "x");
    house.daemon.write("auto/20240613132059_4.17.tmp.123/x", "half");
    house.daemon.write("auto/state.json", "{\"LastBackup\":\"20240611132059_4.17\"}");
    let said = house.import(&house.path("auto"), &[]).ends_with(0);
    said.complains(&["auto/foreign is no backup", ".tmp.123 is no backup"]);
    let standings: Vec<(u64, String, String)> = house
        .sets()
        .iter()
        .map(|set| {
            let text = |key: &str| set[key].as_str().unwrap().to_owned();
            (set["time"].as_u64().unwrap() / 1_000_000, text("version"), text("standing"))
        })
        .collect();
    // 13:20:59 in Rome's summer.
    let day = |day: u64| 1_717_845_659 + (day - 8) * 86_400;
    let times: Vec<_> = standings.iter().map(|(time, version, _)| (*time, version.as_str())).collect();
    let expected = [(12, "4.17"), (11, "4.17"), (10, "4.17"), (9, "4.16"), (8, "4.17")];
    assert_eq!(times, expected.map(|(number, version)| (day(number), version)), "{standings:?}");
    // The candidate is the one that is left: neither failed, nor restored, nor of another version.
    house.holdfast(&["restore", "app-1", "--yes", "--before", "2024-06-10T23:00:00Z"]).ends_with(0);
    assert_eq!(house.daemon.read("microshift/etcd/member"), "older");
    let rows = rusqlite::Connection::open(house.path("state/holdfast.db")).unwrap();
    let told = |like: &str| -> String {
        rows.query_row("select value from meta where key like ?1", [like], |row| row.get(0)).unwrap()
    };
    assert_eq!(told("recovery-sick/%").matches("j20").count(), 1);
    assert_eq!(told("recovery-attempts/%").matches("\"snapshot\"").count(), 2);
    // Once more: they are there. One was used meanwhile, which is told.
    std::fs::remove_dir_all(house.path("auto/20240609132059_4.16")).unwrap();
    microshift(&house, "20240614132059_4.17", "later");
    house.daemon.write("auto/state.json", "{\"LastBackup\":\"20240610132059_4.17\"}");
    house.import(&house.path("auto"), &[]).ends_with(0).has(&["it is there already, as snapshot"]);
    assert_eq!(house.sets().len(), 6, "only the new one is made");
    assert_eq!(told("recovery-attempts/%").matches("\"snapshot\"").count(), 3);
    assert_eq!(told("recovery-sick/%").matches("j20").count(), 1);
    house.daemon.write("auto/state.json", "{");
    house.import(&house.path("auto"), &[]).ends_with(1).complains(&["state.json makes no sense"]);
    house.import(&house.path("microshift"), &[]).ends_with(1).complains(&["holds no backup of MicroShift"]);
    microshift(&house, "20240615132059_4.17", "half");
    std::fs::remove_dir_all(house.path("auto/20240615132059_4.17/etcd")).unwrap();
    house.import(&house.path("auto/20240615132059_4.17"), &[]).ends_with(3).has(&["there is no etcd"]);
    house.assert_tidy();
}

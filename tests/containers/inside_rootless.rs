//! OpenLDAP and etcd in a podman without root: dumped and restored by a daemon that is root, for a user that may not enter
//! its directories.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use zbus::wire::{OwnedObjectPath, Variant};

use crate::engine::{Engine, NOBODY};
use crate::inside::write_ldif;
use crate::lab::{Lab, Setup};
use crate::support::{stdout, until};

/// slapd with one database below its volume and one in the root of a volume.
const SLAPD: &str = "
if [ ! -e /srv/conf ]; then
    mkdir -p /srv/conf /srv/db-one
    chmod 0750 /srv/conf /srv/db-one
    slapadd -n 0 -F /srv/conf -l /srv/config.ldif
    for n in 1 2; do slapadd -n $n -F /srv/conf -l /srv/$n.ldif; done
fi
exec slapd -d 0 -F /srv/conf -h ldapi://%2frun%2fsocket";

/// etcd in the root of its volume.
const ETCD: &str = "exec etcd --name one --data-dir /data --unsafe-no-fsync --logger zap --log-level error";

/// Where slapd listens.
const SOCKET: &str = "ldapi://%2frun%2fsocket";

/// A podman of the user `nobody` with both.
struct Servers {
    engine: Engine,
}

impl Servers {
    fn start() -> Self {
        let servers = Self { engine: Engine::rootless_podman() };
        servers.engine.import_own_servers();
        for volume in ["conf", "two", "keys"] {
            servers.engine.good(&["volume", "create", volume]);
        }
        write_ldif(&servers.volume("conf"), "first");
        servers.run("ldap", &["--volume", "conf:/srv", "--volume", "two:/two"], SLAPD);
        servers.run("etcd", &["--volume", "keys:/data"], ETCD);
        until("etcd answers", || servers.etcdctl(&["put", "/app/a", "first"]).is_some());
        servers
    }

    fn run(&self, name: &str, volumes: &[&str], script: &str) {
        let start = ["run", "--detach", "--network", "none", "--name", name];
        self.engine.good(&[&start[..], volumes, &["servers:1", "sh", "-ec", script]].concat());
    }

    fn volume(&self, name: &str) -> PathBuf {
        self.engine.good(&["volume", "inspect", "--format", "{{.Mountpoint}}", name]).into()
    }

    fn etcdctl(&self, words: &[&str]) -> Option<String> {
        let said =
            self.engine.call(&[&["exec", "-e", "ETCDCTL_API=3", "etcd", "etcdctl"][..], words].concat());
        said.status.success().then(|| stdout(&said))
    }

    fn search(&self, base: &str) -> Option<String> {
        let search = ["exec", "ldap", "ldapsearch", "-LLL", "-x", "-H", SOCKET, "-b", base, "o"];
        let said = self.engine.call(&search);
        said.status.success().then(|| stdout(&said))
    }

    /// What both hold, once they answer.
    fn state(&self) -> [String; 3] {
        until("slapd answers", || self.search("dc=two").is_some());
        until("etcd answers", || self.etcdctl(&["get", "x"]).is_some());
        let keys = self.etcdctl(&["get", "--prefix", "/app/"]);
        [self.search("dc=one").unwrap(), self.search("dc=two").unwrap(), keys.unwrap()]
    }

    /// Changes all of it.
    fn change(&self) {
        self.etcdctl(&["put", "/app/late", "x"]).unwrap();
        for (suffix, change) in [
            ("dc=one", "dn: o=late,dc=one\nchangetype: add\nobjectClass: organization\no: late\n"),
            ("dc=two", "dn: dc=two\nchangetype: modify\nreplace: o\no: changed\n"),
        ] {
            let modify =
                format!("printf '%s' \"$1\" | ldapmodify -x -H {SOCKET} -D cn=admin,{suffix} -w secret");
            self.engine.good(&["exec", "ldap", "sh", "-ec", &modify, "sh", change]);
        }
    }

    /// When they were started.
    fn started(&self) -> String {
        self.engine.good(&["inspect", "--format", "{{.State.StartedAt}}", "ldap", "etcd"])
    }

    /// Nothing of ours is left in the user's podman, nor beside what lives.
    #[track_caller]
    fn clean(&self, lab: &Lab) {
        let all = ["ps", "--all", "--format", "{{.Names}}"];
        let left = self.engine.good(&all) + &self.engine.good(&["volume", "ls", "--quiet"]);
        assert!(!left.contains("holdfast-"), "{left}\n{}", lab.daemon.log());
    }

    /// All of it is the user's own.
    #[track_caller]
    fn owned(&self) {
        let data = [("conf", "conf"), ("conf", "db-one"), ("two", "data.mdb"), ("keys", "member")];
        for path in data.map(|(volume, name)| self.volume(volume).join(name)) {
            assert_eq!(fs::metadata(&path).unwrap().uid(), NOBODY, "{}", path.display());
        }
        assert_eq!(fs::metadata(self.volume("conf").join("conf")).unwrap().mode() & 0o7777, 0o750);
    }
}

/// An instance `app` of both, whose data is staged on another file system: so each thing that changes places is copied by a
/// program just before that. Podman's calls read `on-podman`, those of `cp` `on-cp`.
fn setup(engine: &Engine, staging: &Path) -> Setup {
    let mut setup = Setup::new();
    engine.lend(&mut setup);
    fs::set_permissions(setup.path(""), fs::Permissions::from_mode(0o755)).unwrap();
    let real = fs::read_to_string(setup.path("fake/podman")).unwrap();
    setup.write("fake/real-podman", &real, 0o755);
    let hooked = |real: &str, name: &str| {
        format!(
            "#!/bin/bash\nD='@DIR@'\nreal={real}\n[ ! -e \"$D/on-{name}\" ] || . \"$D/on-{name}\"\nexec \"$real\" \"$@\"\n"
        )
    };
    setup.write("fake/podman", &hooked("\"$D/fake/real-podman\"", "podman"), 0o755);
    setup.write("fake/cp", &hooked("/bin/cp", "cp"), 0o755);
    // Podman's calls are the user's.
    setup.write("said", "", 0o666);
    fs::set_permissions(setup.path("said"), fs::Permissions::from_mode(0o666)).unwrap();
    let staging = format!("staging_dir = \"{}\"", staging.display());
    setup.replace("staging_dir = \"@DIR@/staging\"", &staging).config(
        "[backup.b]\nrepositories = [\"local\"]\ninstances = [\"app\"]\nretry = { attempts = 0 }\n\
         [instance.app]\nuser = \"nobody\"\n\
         [[instance.app.dump]]\nsource = \"openldap\"\ncontainer = \"podman:ldap\"\nconfig_dir = \"/srv/conf\"\n\
         [[instance.app.dump]]\nsource = \"etcd\"\ncontainer = \"podman:etcd\"\ndata_dir = \"/data\"\n\
         [[instance.app.service]]\nmanager = \"podman\"\ncontainers = [\"ldap\", \"etcd\"]\nstop = \"restore\"\n",
    )
}

async fn failed(lab: &Lab, include: &str, word: &str) {
    let include = Variant::from(vec![format!("dumps/{include}")]);
    let ended = lab.restore("app", "", &[("include", include)]).await;
    let said: String = ended.units.iter().map(|unit| unit.error.clone()).collect();
    assert_eq!(ended.outcome, "failed", "{word}: {ended:#?}\n{}", lab.daemon.log());
    assert!(said.contains(word), "{word} is not in {said}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root: the daemon has to become another user"]
async fn system_servers_in_a_podman_without_root_are_dumped_and_restored_for_its_user() {
    let servers = Servers::start();
    let staging = TempDir::new_in("/dev/shm").unwrap();
    let before = servers.state();
    let started = servers.started();
    let mut lab = setup(&servers.engine, staging.path()).start().await;
    half_a_dump_is_none(&mut lab, &servers).await;
    lab.good_backup("b").await;
    servers.clean(&lab);
    servers.change();
    let late = servers.state();
    what_cannot_be_loaded_stops_nothing(&mut lab, &servers).await;
    assert_eq!(servers.started(), started, "nothing was stopped so far");
    assert_eq!(servers.state(), late);

    let places = restored(&lab).await;
    assert!(places > 4, "{places} things changed places");
    assert_eq!(servers.state(), before, "{}", lab.daemon.log());
    servers.owned();
    let job: OwnedObjectPath = lab.daemon.call("Rollback", &("app",)).await.unwrap();
    let ended = lab.ended(&job).await;
    assert_eq!(ended.outcome, "succeeded", "{ended:#?}\n{}", lab.daemon.log());
    assert_eq!(servers.state(), late, "rolled back");
    servers.owned();

    fails_at_the_last(&lab, places).await;
    assert_eq!(servers.state(), late, "{}", lab.daemon.log());
    servers.clean(&lab);
    killed_between_two_places(&mut lab, &servers, places, &late).await;
    lab.assert_settled().await;
}

/// What does not come whole is no dump, and nothing of it stays; not after a kill either.
async fn half_a_dump_is_none(lab: &mut Lab, servers: &Servers) {
    for (when, shell, word) in [
        ("*slapcat*'-n 2'*", "exit 137", "exited with 137"),
        ("unshare*tar*--create*", "\"$real\" \"$@\" | head -c 2000; exit 0", "no whole tar"),
        ("*snapshot*save*", "echo no room >&2; exit 1", "no room"),
    ] {
        lab.on("podman", &format!("case \"$*\" in {when}) {shell};; esac"));
        let ended = lab.backup("b").await;
        let said: String = ended.units.iter().map(|unit| unit.error.clone()).collect();
        assert!(ended.outcome == "failed" && said.contains(word), "{word}: {ended:#?}");
        servers.clean(lab);
    }
    killed_at(lab, "*snapshot*save*", async |lab| drop(lab.daemon.run_backup("b").await)).await;
    servers.clean(lab);
    assert_eq!(lab.snapshots_in("repo"), 0);
}

/// Kills the daemon while podman is called like this.
async fn killed_at(lab: &mut Lab, when: &str, start: impl AsyncFnOnce(&Lab)) {
    lab.on("podman", &format!("case \"$*\" in {when}) echo here >\"$D/said\"; exec sleep 60;; esac"));
    start(lab).await;
    lab.until("podman is called", || lab.text("said") == "here\n").await;
    lab.remove("on-podman");
    lab.daemon.restart_after_kill().await;
    lab.assert_settled().await;
    fs::write(lab.path("said"), "").unwrap();
}

async fn what_cannot_be_loaded_stops_nothing(lab: &mut Lab, servers: &Servers) {
    for (when, dump) in [
        ("*slapadd*'-n 2'*", "openldap"),
        ("unshare*tar*--extract*", "etcd"),
        ("*snapshot*restore*", "etcd"),
        ("unshare*tar*--create*", "etcd"),
    ] {
        lab.on("podman", &format!("case \"$*\" in {when}) echo no room >&2; exit 1;; esac"));
        failed(lab, dump, "no room").await;
        servers.clean(lab);
    }
    // What the user puts among what it made is not taken for it.
    let link = "case \"$*\" in unshare*tar*--create*) shift 2; cd /; d=$(mktemp -d); ln -s /etc/passwd \"$d/link\"; \
                exec tar -C \"$d\" -c .;; esac";
    lab.on("podman", link);
    failed(lab, "etcd", "neither a file nor a directory").await;
    killed_at(lab, "*slapadd*'-n 2'*", async |lab| drop(lab.start_restore("app", "", &[]).await)).await;
    servers.clean(lab);
}

/// A restore of all; how many things changed places.
async fn restored(lab: &Lab) -> usize {
    lab.write("copies", "", 0o644);
    lab.on("cp", "echo >>\"$D/copies\"");
    lab.good_restore("app").await;
    lab.remove("on-cp");
    lab.text("copies").lines().count()
}

/// Fails when the last thing is to change places: the others change back.
async fn fails_at_the_last(lab: &Lab, places: usize) {
    lab.write("copies", "", 0o644);
    let fails = format!("[ $(wc -l <\"$D/copies\") != {places} ] || {{ echo no room >&2; exit 1; }}");
    lab.on("cp", &format!("echo >>\"$D/copies\"; {fails}"));
    let ended = lab.restore("app", "", &[]).await;
    let said: String = ended.units.iter().map(|unit| unit.error.clone()).collect();
    assert!(said.contains("no room") && said.contains("the old data is back"), "{ended:#?}");
}

/// The daemon is killed when the last thing is to change places: all of the old data is back at the next start.
async fn killed_between_two_places(lab: &mut Lab, servers: &Servers, places: usize, late: &[String; 3]) {
    lab.write("copies", "", 0o644);
    let waits = format!("[ $(wc -l <\"$D/copies\") != {places} ] || {{ : >\"$D/at-cp\"; exec sleep 60; }}");
    lab.on("cp", &format!("echo >>\"$D/copies\"; {waits}"));
    lab.start_restore("app", "", &[]).await;
    lab.reached("cp").await;
    lab.remove("on-cp");
    lab.daemon.restart_after_kill().await;
    assert_eq!(&servers.state(), late, "{}", lab.daemon.log());
    servers.owned();
    servers.clean(lab);
}

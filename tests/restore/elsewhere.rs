//! Two machines on one repository: what one of them lost, the other one brings back, definition and all.

use std::path::PathBuf;

use zbus::wire::{OwnedObjectPath, OwnedVariant, Variant};

use super::tree::Tree;
use super::{Options, option, restic};
use crate::support::{Bus, Daemon, Row};

/// A machine of its own: bus, daemon, state.
struct Machine {
    _bus: Bus,
    daemon: Daemon,
}

impl Machine {
    async fn start(host: &str, repository: &str, definitions: &str) -> Self {
        let bus = Bus::start();
        let config = format!(
            "[daemon]\nhost = \"{host}\"\nstaging_dir = \"@DIR@/staging\"\nrestic = \"{}\"\n{repository}\n\
             [backup.b]\nrepositories = [\"shelf\"]\ninstances = [\"*\"]\n{definitions}\n",
            restic("0.18").display()
        );
        let daemon = Daemon::start(&bus, &[("holdfast.toml", &config)]).await;
        Self { _bus: bus, daemon }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.daemon.dir.path().join(path)
    }

    async fn back_up(&self) {
        let job = self.daemon.run_backup("b").await;
        assert_eq!(self.daemon.wait_for_job(&job).await, "succeeded", "{}", self.daemon.log());
    }

    async fn contents(&self) -> Vec<Row> {
        let called = self.daemon.call("ListContents", &("shelf",)).await;
        called.unwrap_or_else(|e| panic!("ListContents: {e}\n{}", self.daemon.log()))
    }

    async fn snapshots(&self) -> Vec<Row> {
        self.daemon.call("ListSnapshots", &("app1",)).await.unwrap()
    }

    /// Outcome and what the unit says, or the refusal.
    async fn restore(&self, subject: &str, snapshot: &str, options: &Options) -> (String, String) {
        let called = self.daemon.call::<_, OwnedObjectPath>("Restore", &(subject, snapshot, options)).await;
        let job = match called {
            Ok(job) => job,
            Err(refused) => return ("refused".into(), refused.to_string()),
        };
        let outcome = self.daemon.wait_for_job(&job).await;
        let units: Vec<Row> = self.daemon.property(&job, "Job", "Units").await;
        (outcome, text(&units[0], "error"))
    }
}

fn text(row: &Row, key: &str) -> String {
    String::try_from(row[key].try_clone().unwrap()).unwrap()
}

fn flag(row: &Row, key: &str) -> bool {
    matches!(&*row[key], Variant::Bool(true))
}

/// The first machine with an instance of a module, and the text that defines the repository for the second.
async fn first(layout: &str) -> (Machine, String) {
    let shelf = |url: &str, password: &str| {
        format!(
            "[repository.shelf]\nurl = \"{url}\"\nlayout = \"{layout}\"\npassword_file = \"{password}\"\n"
        )
    };
    let definitions = "[module.wiki]\ninclude = [\"state/pages\", \"volumes/data\"]\nexclude = [\"*.tmp\"]\n\
        [instance.app1]\nmodule = \"wiki\"\ninstall_dir = \"@DIR@/app\"\nvolumes = { data = \"@DIR@/data\" }\n\
        include_add = [\"@DIR@/files/a\"]\nrestore.keep_previous = \"7h\"\n[instance.plain]\ninclude = [\"@DIR@/files\"]\n";
    let here = shelf("@DIR@/shelf", "@DIR@/password");
    let one = Machine::start("one", &here, definitions).await;
    let password = one.daemon.write("password", "one for both\n");
    std::fs::set_permissions(&password, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    for (path, content) in [("app/state/pages/p", "page\n"), ("data/d", "datum\n"), ("files/a/f", "file\n")] {
        one.daemon.write(path, content);
    }
    one.back_up().await;
    let there = shelf(&one.path("shelf").display().to_string(), &password.display().to_string());
    (one, there)
}

fn moved(from: &Machine, to: &Machine) -> Options {
    let (from, to) = (from.daemon.dir.path().display(), to.daemon.dir.path().display());
    option("map", vec![format!("{from}={to}")])
}

async fn goes_over(layout: &str) {
    let (one, shelf) = first(layout).await;
    let two = Machine::start("two", &shelf, "").await;
    let own = one.contents().await;
    assert!(own.len() == 2 && own.iter().all(|row| flag(row, "defined_here")), "{own:?}");
    let seen = two.contents().await;
    let names: Vec<_> =
        seen.iter().map(|row| (text(row, "name"), text(row, "module"), text(row, "host"))).collect();
    let expected =
        [("app1", "wiki", "one"), ("plain", "", "one")].map(|(n, m, h)| (n.into(), m.into(), h.into()));
    assert_eq!(names, expected, "{}", two.daemon.log());
    assert!(!flag(&seen[0], "defined_here"));
    let subject = format!("shelf:wiki/app1@{}", text(&seen[0], "uuid"));
    let plan: String = two.daemon.call("Plan", &(&subject, "", moved(&one, &two))).await.unwrap();
    assert!(plan.contains("\"problems\":[]") && plan.contains("conf.d/app1.toml"), "{plan}");
    let (outcome, said) = two.restore(&subject, "", &moved(&one, &two)).await;
    assert_eq!(outcome, "succeeded", "{said}\n{}", two.daemon.log());
    for dir in ["app/state/pages", "data", "files/a"] {
        let (from, to) = (one.path(dir), two.path(dir));
        Tree::of(&from).moved(&from, &to).assert_same(&Tree::of(&to), dir);
    }
    let definition = two.daemon.read("config/conf.d/app1.toml");
    assert!(
        definition.contains("keep_previous = \"7h\"") && definition.contains("[module.wiki]"),
        "{definition}"
    );
    goes_on(&one, &two).await;
}

/// It is the same instance, with all its sets, and goes on with them.
async fn goes_on(one: &Machine, two: &Machine) {
    let all = two.snapshots().await;
    assert_eq!(all.len(), 1, "{all:?}");
    assert!(flag(&two.contents().await[0], "defined_here"));
    two.back_up().await;
    let newest = text(&two.snapshots().await[0], "id");
    assert_eq!(text(&one.contents().await[0], "host"), "two");
    // What another host made is restored only when that is said.
    let (outcome, said) = one.restore("app1", &newest, &Options::new()).await;
    assert!(outcome == "refused" && said.contains("force_foreign"), "{outcome}: {said}");
    let options: Options = [("force_foreign", OwnedVariant::try_from(Variant::from(true)).unwrap())].into();
    let (outcome, said) = one.restore("app1", &newest, &options).await;
    assert!(outcome != "refused", "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_of_another_host_is_listed_and_brought_back_from_a_shared_repository() {
    goes_over("shared").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_of_another_host_is_listed_and_brought_back_by_the_catalogue() {
    goes_over("per-instance").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_catalogue_is_checked_with_the_rest_and_written_anew_when_it_is_gone() {
    let (one, _) = first("per-instance").await;
    let check = async || {
        let job: OwnedObjectPath = one.daemon.call("Check", &("shelf", Options::new())).await.unwrap();
        one.daemon.wait_for_job(&job).await
    };
    assert_eq!(one.contents().await.len(), 2);
    assert_eq!(check().await, "succeeded", "{}", one.daemon.log());
    let packs = std::process::Command::new("find")
        .arg(one.path("shelf/catalog/data"))
        .args(["-type", "f", "-delete", "-print"])
        .output();
    assert!(!crate::support::stdout(&packs.unwrap()).is_empty(), "there is no catalogue to be damaged");
    assert_eq!(check().await, "failed", "{}", one.daemon.log());
    std::fs::remove_dir_all(one.path("shelf/catalog")).unwrap();
    assert_eq!(check().await, "succeeded", "{}", one.daemon.log());
    one.back_up().await;
    assert_eq!(one.contents().await.len(), 2);
    assert!(one.path("shelf/catalog/config").exists(), "{}", one.daemon.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_or_clashes_is_refused_and_nothing_is_defined() {
    let (one, shelf) = first("shared").await;
    let other = "[instance.app1]\ninclude = [\"@DIR@/other\"]\n";
    let two = Machine::start("two", &shelf, other).await;
    two.daemon.write("other/x", "mine\n");
    let uuid = text(&two.contents().await[0], "uuid");
    let before = Tree::of_all([two.path("config"), two.path("other")]);
    let subject = format!("shelf:wiki/{uuid}");
    let unknown = "f3b25a4c-2f3d-4b3e-9a55-0123456789ab";
    for (subject, options, word) in [
        (subject.clone(), moved(&one, &two), "another name with as"),
        (format!("shelf:wiki/other@{uuid}"), Options::new(), "is the instance app1"),
        (format!("shelf:wiki/{unknown}"), Options::new(), "holdfast repository contents shelf"),
        (format!("none:wiki/{uuid}"), Options::new(), "no repository"),
        ("shelf:wiki".to_owned(), Options::new(), "REPOSITORY:MODULE/UUID"),
    ] {
        let (outcome, said) = two.restore(&subject, "", &options).await;
        assert!(outcome == "refused" && said.contains(word), "{subject}: {outcome}: {said}");
        before.assert_same(&Tree::of_all([two.path("config"), two.path("other")]), &said);
    }
    // As another one it comes, beside the one of the same name; into a directory without any definition.
    let mut options = moved(&one, &two);
    options.extend(option("as", "wiki9"));
    let (outcome, said) = two.restore(&subject, "", &options).await;
    assert_eq!(outcome, "succeeded", "{said}");
    assert_eq!(two.daemon.read("data/d"), "datum\n");
    assert!(two.daemon.read("config/conf.d/wiki9.toml").contains("[instance.wiki9]"));
    let target = two.path("look").display().to_string();
    let (outcome, said) = two.restore(&subject, "", &option("target", target)).await;
    assert_eq!(outcome, "succeeded", "{said}");
    assert_eq!(two.daemon.read("look/state/pages/p"), "page\n");
}

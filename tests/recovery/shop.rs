//! Applications whose unit may fail, with everything that a recovery asks held in the test's hand.

use std::collections::HashMap;

use zbus::wire::{OwnedObjectPath, OwnedVariant, Variant};

use crate::lab::{Ended, Lab, Setup, text};
use crate::systemd::Systemd;

/// Options of `Recover`.
pub(crate) type Options<'a> = &'a [(&'a str, Variant<'a>)];

/// A daemon with the instance `shop`, whose unit is `shop.service`.
pub(crate) struct Shop {
    pub(crate) systemd: Systemd,
    pub(crate) lab: Lab,
}

/// A program that reads `on-NAME`, a piece of shell, and then does this.
fn program(setup: &Setup, path: &str, name: &str, then: &str) {
    let text = format!("#!/bin/sh\nD='@DIR@'\n[ ! -e \"$D/on-{name}\" ] || . \"$D/on-{name}\"\n{then}\n");
    setup.write(path, &text, 0o755);
}

/// An instance with its data, its version and its steps; `recovery` is added to its table of that name.
fn instance(setup: Setup, name: &str, recovery: &str) -> Setup {
    setup.write(&format!("{name}/state/environment"), "A=1\n", 0o600);
    setup.write(&format!("data-{name}/file"), "good first\n", 0o640);
    setup.write("version", "1.0\n", 0o644);
    program(&setup, "guard", "guard", "exit 0");
    program(&setup, "ask-version", "version", "cat \"$D/version\"");
    program(&setup, "ask-health", "health", "exit 0");
    program(&setup, &format!("{name}/actions/restore-module/05before"), "before", "exit 0");
    program(&setup, &format!("{name}/actions/restore-module/50after"), "after", "exit 0");
    setup.config(&format!(
        "[instance.{name}]\ninstall_dir = \"@DIR@/{name}\"\ninclude = [\"@DIR@/data-{name}\"]\n\
         version = {{ command = [\"@DIR@/ask-version\"] }}\n\
         restore = {{ health = {{ command = [\"@DIR@/ask-health\"], timeout = \"1m\" }} }}\n\
         recovery = {{ unit = \"{name}.service\", guard = [\"@DIR@/guard\"]{recovery} }}\n"
    ))
}

impl Shop {
    /// `recovery` is added to the instance's table of that name: `, attempts = 9`.
    pub(crate) async fn open(recovery: &str) -> Self {
        Self::with(&["shop"], recovery, |setup| setup).await
    }

    /// With these instances, and more told.
    pub(crate) async fn with(names: &[&str], recovery: &str, more: impl Fn(Setup) -> Setup) -> Self {
        let setup = Setup::new().config("[backup.b]\nrepositories = [\"local\"]\ninstances = [\"*\"]\n");
        let setup = names.iter().fold(setup, |setup, name| instance(setup, name, recovery));
        let mut setup = more(setup);
        let systemd = Systemd::start(setup.dir.path(), names).await;
        setup.environment.push(("DBUS_SYSTEM_BUS_ADDRESS".into(), systemd.bus.address.clone()));
        Self { systemd, lab: setup.start().await }
    }

    /// Makes a set of this data, which the unit runs on.
    pub(crate) async fn save(&self, what: &str) {
        self.lab.write("data-shop/file", &format!("good {what}\n"), 0o640);
        self.systemd.set("shop", "active").await;
        self.lab.good_backup("b").await;
    }

    /// The data is spoilt and the unit fails.
    pub(crate) async fn spoil(&self) {
        self.lab.write("data-shop/file", "spoilt\n", 0o640);
        self.systemd.fail("shop").await;
    }

    /// What is kept of data that failed: the file in each directory of `failed/shop`, oldest first.
    pub(crate) fn failed(&self) -> Vec<String> {
        let dir = self.lab.path("state/failed/shop");
        let mut names = crate::lab::names(&dir);
        names.sort();
        let inside = self.lab.path("data-shop").strip_prefix("/").unwrap().join("file");
        names.iter().filter_map(|name| std::fs::read_to_string(dir.join(name).join(&inside)).ok()).collect()
    }

    /// The data that lives.
    pub(crate) fn data(&self) -> String {
        self.lab.text("data-shop/file").trim_end().to_owned()
    }

    /// Waits until the unit runs on this data and nothing is at work.
    pub(crate) async fn back_on(&self, data: &str) {
        self.systemd.until("shop", "active", || self.lab.daemon.log()).await;
        self.idle().await;
        assert_eq!(self.data(), format!("good {data}"), "{}", self.lab.daemon.log());
    }

    /// Waits until nothing is at work.
    pub(crate) async fn idle(&self) {
        let start = std::time::Instant::now();
        loop {
            let active: u32 = self.lab.daemon.property(crate::support::ROOT, "Manager", "ActiveJobs").await;
            if active == 0 {
                return;
            }
            assert!(start.elapsed() < crate::support::DEADLINE, "jobs do not end\n{}", self.lab.daemon.log());
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }

    /// Waits until a text stands in the log so often.
    pub(crate) async fn logged(&self, text: &str, times: usize) {
        let log = || self.lab.daemon.log().matches(text).count();
        self.lab.until(&format!("{text:?} in the log, {times} times"), || log() >= times).await;
    }

    /// Calls `Recover`.
    pub(crate) async fn call(&self, options: Options<'_>) -> zbus::Result<OwnedObjectPath> {
        let options: HashMap<&str, &Variant<'_>> = options.iter().map(|(k, v)| (*k, v)).collect();
        self.lab.daemon.call("Recover", &("shop", options)).await
    }

    /// Recovers by hand, to the end.
    pub(crate) async fn recover(&self, options: Options<'_>) -> Ended {
        let job = self.call(options).await.unwrap_or_else(|e| panic!("{e}\n{}", self.lab.daemon.log()));
        let mut ended = self.lab.ended(&job).await;
        ended.error = ended.units.iter().map(|unit| unit.error.as_str()).collect::<Vec<_>>().join("\n");
        ended
    }

    /// The watch looks again at once.
    pub(crate) async fn look_again(&self) {
        let _: Vec<String> = self.lab.daemon.call("Reload", &()).await.unwrap();
    }

    /// How many recover jobs there were, and how the last one ended.
    pub(crate) async fn recoveries(&self) -> (usize, String) {
        let filter = HashMap::from([("kind", OwnedVariant::try_from(Variant::from("recover")).unwrap())]);
        let rows: Vec<crate::support::Row> = self.lab.daemon.call("ListJobs", &(filter,)).await.unwrap();
        (rows.len(), rows.first().map(|row| text(row, "Outcome")).unwrap_or_default())
    }

    /// The standing of each set, newest first.
    pub(crate) async fn standings(&self) -> Vec<String> {
        self.lab.sets("shop").await.iter().map(|row| text(row, "standing")).collect()
    }
}

//! What a test asks of the daemon and of its repositories.

use super::*;

impl Lab {
    /// Runs a backup to its end.
    pub(crate) async fn backup(&self, name: &str) -> Ended {
        let job = self.daemon.run_backup(name).await;
        self.ended(&job).await
    }

    /// Runs a backup that must succeed.
    #[track_caller]
    pub(crate) fn good_backup(&self, name: &str) -> impl Future<Output = Ended> {
        let (place, name) = (std::panic::Location::caller(), name.to_owned());
        async move {
            let ended = self.backup(&name).await;
            assert_eq!(ended.outcome, "succeeded", "{place}: {ended:#?}\n{}", self.daemon.log());
            ended
        }
    }

    /// Starts a restore.
    pub(crate) async fn start_restore(
        &self,
        instance: &str,
        snapshot: &str,
        options: &[(&str, Variant<'_>)],
    ) -> OwnedObjectPath {
        let options: HashMap<&str, &Variant<'_>> = options.iter().map(|(k, v)| (*k, v)).collect();
        let called = self.daemon.call("Restore", &(instance, snapshot, options)).await;
        called.unwrap_or_else(|e| panic!("Restore {instance}: {e}\n{}", self.daemon.log()))
    }

    /// Restores to the end.
    pub(crate) async fn restore(
        &self,
        instance: &str,
        snapshot: &str,
        options: &[(&str, Variant<'_>)],
    ) -> Ended {
        let job = self.start_restore(instance, snapshot, options).await;
        self.ended(&job).await
    }

    /// A restore of the latest set in place that must succeed.
    pub(crate) async fn good_restore(&self, instance: &str) {
        let ended = self.restore(instance, "", &[]).await;
        assert_eq!(ended.outcome, "succeeded", "{ended:#?}\n{}", self.daemon.log());
    }

    /// Backs up once more and prints for how long services were down, beside the time that dumps took and restic read; the
    /// goal is 2 s more and depends on the machine, so only what no load explains is a failure.
    pub(crate) async fn measure_downtime(&self, manager: &str, backup: &str) {
        let clock = |name: &str| format!("date +%s%N >\"$D/{name}\"");
        self.on(
            "backup",
            &format!("{}; \"$real\" \"$@\"; code=$?; {}; exit $code", clock("began"), clock("ended")),
        );
        let ended = self.good_backup(backup).await;
        self.remove("on-backup");
        let at = |name: &str| self.text(name).trim().parse::<u64>().unwrap() / 1_000;
        let (down, read) = (ended.units[0].downtime, at("ended") - at("began"));
        let log = self.daemon.log();
        let (_, told) = log.rsplit_once("then dumps took ").expect("the journal says where the time went");
        let dumped: f64 = told.split(' ').next().unwrap().parse().unwrap();
        let dumped = (dumped * 1e6) as u64;
        let over = down.saturating_sub(dumped + read);
        let [down_text, dumped, read_text, over_text] = [down, dumped, read, over].map(seconds);
        let row = format!("down {down_text} | dumps {dumped} | snapshot {read_text} | more {over_text}");
        print_downtime(manager, &row);
        assert!(down >= read, "{manager}: it was down while restic read: {ended:?}");
        assert!(over < 60_000_000, "{manager}: {ended:?}\n{}", self.daemon.log());
        assert!(self.daemon.log().contains("was down for"), "{}", self.daemon.log());
    }

    /// Waits for the end of a job.
    pub(crate) async fn ended(&self, job: &str) -> Ended {
        let outcome = self.daemon.wait_for_job(job).await;
        let units: Vec<Row> = self.daemon.property(job, "Job", "Units").await;
        Ended {
            outcome,
            error: self.daemon.property(job, "Job", "Error").await,
            units: units.iter().map(unit).collect(),
        }
    }

    /// Cancels a job.
    pub(crate) async fn cancel(&self, job: &str) {
        let () = self.daemon.proxy(job, "Job").await.call("Cancel", &()).await.unwrap();
    }

    /// The history, newest first.
    pub(crate) async fn history(&self) -> Vec<Row> {
        self.daemon.call("ListJobs", &(Row::new(),)).await.unwrap()
    }

    /// Kind and outcome of every job of the history, newest first.
    pub(crate) async fn outcomes(&self) -> Vec<(String, String)> {
        self.history().await.iter().map(|row| (text(row, "Kind"), text(row, "Outcome"))).collect()
    }

    /// The sets of an instance, newest first.
    pub(crate) async fn sets(&self, instance: &str) -> Vec<Row> {
        self.daemon.call("ListSnapshots", &(instance,)).await.unwrap()
    }

    /// The locks in a repository's directory; restic's temporary files beside them are none.
    pub(crate) fn locks(&self, repository: &str) -> Vec<String> {
        let Ok(dir) = fs::read_dir(self.path(repository).join("locks")) else { return Vec::new() };
        let names = dir.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| !name.contains("-tmp-")).collect()
    }

    /// How many snapshots a repository's directory holds.
    pub(crate) fn snapshots_in(&self, repository: &str) -> usize {
        fs::read_dir(self.path(repository).join("snapshots")).unwrap().count()
    }

    /// Asks restic itself.
    pub(crate) fn restic(&self, repository: &str, arguments: &[&str]) -> Output {
        let mut command = Command::new(restic_program("0.18"));
        command.args(["--no-cache", "--repo"]).arg(self.path(repository)).args(arguments);
        command.env_clear().env("RESTIC_PASSWORD_FILE", self.path("config/password")).output().unwrap()
    }

    /// That restic itself finds nothing wrong with a repository.
    pub(crate) fn check(&self, repository: &str) {
        let checked = self.restic(repository, &["check", "--read-data"]);
        assert!(checked.status.success(), "{}{}", stdout(&checked), stderr(&checked));
    }

    /// What must hold whenever nothing is at work: nothing shown running, no lock, no staging, no undo step, no process.
    pub(crate) async fn assert_settled(&self) {
        for row in self.history().await {
            assert!(!text(&row, "Outcome").is_empty(), "shown running: {row:?}\n{}", self.daemon.log());
        }
        for repository in ["repo", "repo2", "repo3"] {
            self.until(&format!("no lock in {repository}"), || self.locks(repository).is_empty()).await;
        }
        assert_eq!(names(&self.path("staging")), [""; 0], "staging\n{}", self.daemon.log());
        assert_eq!(names(&self.path("state/undo")), [""; 0], "undo steps\n{}", self.daemon.log());
        self.until("no process is left", || self.processes().is_empty()).await;
    }

    /// The processes of restic and hooks that this daemon's directory knows.
    pub(crate) fn processes(&self) -> Vec<String> {
        let own = self.dir.display().to_string();
        let pids = fs::read_dir("/proc").unwrap().filter_map(|e| e.unwrap().file_name().into_string().ok());
        let pids = pids
            .filter(|pid| pid.bytes().all(|b| b.is_ascii_digit()) && *pid != self.daemon.pid().to_string());
        pids.filter_map(|pid| {
            let read = |what: &str| fs::read(format!("/proc/{pid}/{what}")).unwrap_or_default();
            let (line, environment) = (read("cmdline"), read("environ"));
            let of_ours = String::from_utf8_lossy(&line).contains(&own)
                || String::from_utf8_lossy(&environment).contains(&own);
            of_ours.then(|| format!("{pid}: {}", String::from_utf8_lossy(&line).replace('\0', " ")))
        })
        .collect()
    }
}

/// A time in microseconds.
pub(crate) fn seconds(micros: u64) -> String {
    format!("{}.{:02} s", micros / 1_000_000, micros % 1_000_000 / 10_000)
}

/// Past the harness, which shows only what a failed test says.
pub(crate) fn print_downtime(manager: &str, row: &str) {
    let text = format!("downtime | {manager:8} | {row}\n");
    let _ = std::io::Write::write_all(&mut std::io::stdout(), text.as_bytes());
}

//! How long callers wait for an answer, while nothing happens and while 20 jobs run.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::Result;
use zbus::Proxy;

use super::lab::{Lab, Row};
use super::numbers::{Sorted, shown};
use super::table::Table;

const JOBS: usize = 20;
const CALLS: usize = 1000;
const BAR: Duration = Duration::from_millis(10);

/// `ListJobs` and the reading of a property, in turn.
pub(crate) async fn measure(table: &mut Table) -> Result<()> {
    let mut lab = Lab::new().await?;
    let names: Vec<String> = (1..=JOBS).map(|number| format!("app{number}")).collect();
    let mut definitions = lab.repository("ours");
    for name in &names {
        definitions.push_str(&lab.instance(name, 20)?);
        definitions.push_str(&format!(
            "[backup.{name}]\nrepositories = [\"ours\"]\ninstances = [\"{name}\"]\nretention = 1\n"
        ));
    }
    lab.write("config/conf.d/bench.toml", &definitions)?;
    lab.start().await?;
    let backups: Vec<&str> = names.iter().map(String::as_str).collect();
    lab.run(&backups).await?;
    let manager = lab.manager().await?;
    let mut idle = Waits::default();
    while idle.gets.len() < CALLS {
        idle.once(&manager).await?;
    }
    let mut busy = Waits::default();
    while busy.gets.len() < CALLS {
        let jobs = lab.run(&backups);
        tokio::pin!(jobs);
        // Each call is waited for to its end, and the jobs are looked at between two calls.
        while tokio::time::timeout(Duration::ZERO, &mut jobs)
            .await
            .map_or(Ok(true), |done| done.map(|_| false))?
        {
            busy.once(&manager).await?;
        }
    }
    idle.tell(table, "idle");
    busy.tell(table, "while 20 jobs run");
    Ok(())
}

#[derive(Default)]
struct Waits {
    gets: Vec<Duration>,
    lists: Vec<Duration>,
}

impl Waits {
    async fn once(&mut self, manager: &Proxy<'_>) -> Result<()> {
        let begin = Instant::now();
        let _: u32 = manager.get_property("ActiveJobs").await?;
        self.gets.push(begin.elapsed());
        let filter: HashMap<&str, zbus::Variant<'_>> = HashMap::from([("limit", 20_u32.into())]);
        let begin = Instant::now();
        let _: Vec<Row> = manager.call("ListJobs", &(filter,)).await?;
        self.lists.push(begin.elapsed());
        Ok(())
    }

    fn tell(self, table: &mut Table, when: &str) {
        for (what, waits) in [("a property", self.gets), ("ListJobs (20 rows)", self.lists)] {
            let waits = Sorted::from(waits);
            let (p50, p99) = (shown(waits.median()), shown(waits.at(990)));
            let figure = format!("p50 {p50}, p99 {p99} of {}", waits.len());
            table.barred(&format!("{what}, {when}"), figure, "p99 < 10 ms", waits.at(990) < BAR);
        }
    }
}

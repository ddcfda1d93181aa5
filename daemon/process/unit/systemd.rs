//! The parts of systemd's D-Bus interface that we use, for all rooms.

use zbus::{OwnedObjectPath, Variant};

/// A line of `ListUnitsByPatterns`: name, description, load, active and sub state, followed unit, path, job.
type Listed = (String, String, String, String, String, String, OwnedObjectPath, u32, String, OwnedObjectPath);

#[zbus::proxy(
    interface = "org.freedesktop.systemd1.Manager",
    default_service = "org.freedesktop.systemd1",
    default_path = "/org/freedesktop/systemd1"
)]
pub(crate) trait Manager {
    fn subscribe(&self) -> zbus::Result<()>;
    fn get_unit(&self, name: &str) -> zbus::Result<OwnedObjectPath>;
    #[zbus(name = "GetUnitByPID")]
    fn get_unit_by_pid(&self, pid: u32) -> zbus::Result<OwnedObjectPath>;
    fn load_unit(&self, name: &str) -> zbus::Result<OwnedObjectPath>;
    fn list_units_by_patterns(&self, states: &[&str], patterns: &[&str]) -> zbus::Result<Vec<Listed>>;
    fn start_transient_unit(
        &self,
        name: &str,
        mode: &str,
        properties: &[(&str, Variant<'_>)],
        aux: &[(&str, Vec<(&str, Variant<'_>)>)],
    ) -> zbus::Result<OwnedObjectPath>;
    fn start_unit(&self, name: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;
    fn stop_unit(&self, name: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;
    fn kill_unit(&self, name: &str, whom: &str, signal: i32) -> zbus::Result<()>;
    fn reset_failed_unit(&self, name: &str) -> zbus::Result<()>;
    #[zbus(signal)]
    fn job_removed(&self, id: u32, job: OwnedObjectPath, unit: String, result: String);
}

#[zbus::proxy(interface = "org.freedesktop.systemd1.Unit", default_service = "org.freedesktop.systemd1")]
pub(crate) trait Unit {
    #[zbus(property)]
    fn id(&self) -> zbus::Result<String>;
    #[zbus(property)]
    fn load_state(&self) -> zbus::Result<String>;
    #[zbus(property)]
    fn active_state(&self) -> zbus::Result<String>;
    #[zbus(property)]
    fn sub_state(&self) -> zbus::Result<String>;
    #[zbus(property, name = "InvocationID")]
    fn invocation_id(&self) -> zbus::Result<Vec<u8>>;
    #[zbus(property)]
    fn triggered_by(&self) -> zbus::Result<Vec<String>>;
    #[zbus(property)]
    fn required_by(&self) -> zbus::Result<Vec<String>>;
    #[zbus(property)]
    fn requisite_of(&self) -> zbus::Result<Vec<String>>;
    #[zbus(property)]
    fn bound_by(&self) -> zbus::Result<Vec<String>>;
    #[zbus(property)]
    fn consists_of(&self) -> zbus::Result<Vec<String>>;
}

#[zbus::proxy(interface = "org.freedesktop.systemd1.Service", default_service = "org.freedesktop.systemd1")]
pub(crate) trait Service {
    #[zbus(property, name = "Type")]
    fn kind(&self) -> zbus::Result<String>;
    #[zbus(property, name = "MainPID")]
    fn main_pid(&self) -> zbus::Result<u32>;
    #[zbus(property)]
    fn exec_main_code(&self) -> zbus::Result<i32>;
    #[zbus(property)]
    fn exec_main_status(&self) -> zbus::Result<i32>;
    #[zbus(property)]
    fn control_group(&self) -> zbus::Result<String>;
}

/// The ends of systemd's jobs, from now on.
pub(crate) struct Ends(JobRemovedStream);

/// To be called before the job is asked for: its end may come before the answer.
pub(crate) async fn ends(manager: &ManagerProxy<'_>) -> zbus::Result<Ends> {
    manager.subscribe().await?;
    Ok(Ends(manager.receive_job_removed().await?))
}

impl Ends {
    /// Waits for the next end: the job and its result. None: the bus is gone.
    pub(crate) async fn next(&mut self) -> zbus::Result<Option<(OwnedObjectPath, String)>> {
        let Some(signal) = super::watch::next(&mut self.0).await else { return Ok(None) };
        let args = signal.args()?;
        Ok(Some((args.job().clone(), args.result().clone())))
    }

    /// Waits for the end of one job: its result. None: the bus is gone.
    pub(crate) async fn of(&mut self, job: &OwnedObjectPath) -> zbus::Result<Option<String>> {
        while let Some((ended, result)) = self.next().await? {
            if ended == *job {
                return Ok(Some(result));
            }
        }
        Ok(None)
    }
}

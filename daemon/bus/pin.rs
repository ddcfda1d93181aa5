//! What Pin and Unpin of the Manager have in common.

use zbus::message::Header;

use super::answer::Desk;
use super::argument;
use super::authorise::{Action, Thing};
use super::error::Result;

pub(super) async fn set(desk: &Desk, of: (String, String), pin: bool, header: &Header<'_>) -> Result<()> {
    argument::limit("snapshot", &of.1)?;
    let (_, instance) = desk.admit_to(header, Action::Manage, Thing::Instance, &of.0).await?;
    let snapshot = argument::snapshot(&of.1)?.to_owned();
    let control = desk.control.clone();
    desk.run(async move { control.pin(&instance, &snapshot, pin).await }).await
}

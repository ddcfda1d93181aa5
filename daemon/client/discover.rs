//! `holdfast discover`: the compose projects that ask to be backed up, as TOML. Asks Docker, and no daemon.

use std::collections::BTreeMap;

use serde_json::json;

use super::Context;
use super::failure::{Done, Exit, Failure};
use crate::definition::Stack;
use crate::{config, control};

pub(super) async fn discover(context: &Context) -> Done {
    let stacks = control::stacks().await.map_err(|failure| {
        Failure::failed(format!("{failure:#}"))
            .hint("run it as root, on the machine whose Docker has the projects")
    })?;
    let found: Vec<_> = stacks.iter().map(|stack| (stack, config::stack_toml(stack))).collect();
    let out = &context.out;
    if out.json {
        let row = |(stack, toml): &(&Stack, Result<String, String>)| {
            json!({
                "project": stack.project,
                "volumes": stack.volumes.iter().map(|(name, place)| (name, place.text())).collect::<BTreeMap<_, _>>(),
                "stopped": stack.stopped,
                "dumps": stack.dumps.iter().map(|dump| json!({
                    "source": dump.source, "service": dump.service, "container": dump.container,
                })).collect::<Vec<_>>(),
                "toml": toml.as_ref().ok(),
                "refused": toml.as_ref().err(),
            })
        };
        out.value(&json!(found.iter().map(row).collect::<Vec<_>>()));
    }
    for (stack, toml) in found.iter().filter(|_| !out.json) {
        match toml {
            Ok(text) => out.line(text),
            Err(why) => {
                let (project, why) = (stack.project.escape_debug(), why.replace(['\n', '\r'], " "));
                out.line(format!("# The compose project {project} cannot be backed up: {why}\n"));
            }
        }
    }
    if found.is_empty() && !out.json {
        out.line("# No container is labelled backup.enable=true.");
    }
    let all_good = found.iter().all(|(_, toml)| toml.is_ok());
    Ok(if all_good { Exit::Done } else { Exit::Warning })
}

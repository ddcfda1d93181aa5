//! `holdfast reload`: reads the definitions anew.

use serde_json::json;

use super::Context;
use super::failure::{Done, Exit, Failure};

pub(super) async fn reload(context: &Context) -> Done {
    let daemon = context.daemon().await?;
    let diagnostics = daemon.manager.reload().await.map_err(|error| daemon.failure(error))?;
    if context.out.json {
        context.out.value(&json!({ "diagnostics": diagnostics }));
    } else {
        diagnostics.iter().for_each(|text| context.out.line(text.trim_end()));
    }
    if diagnostics.is_empty() {
        if !context.out.json {
            context.out.line("the definitions were read anew, all are good");
        }
        return Ok(Exit::Done);
    }
    let message =
        "not all definitions are good; what is wrong keeps its previous good version until the next restart";
    Err(Failure::failed(message).hint("`holdfast config check` shows the same without a daemon"))
}

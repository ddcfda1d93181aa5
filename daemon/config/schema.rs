//! The JSON Schema of the files, for editors; made from the tables that read them.

use serde_json::{Value, json};

use super::parse::sections;

/// The schema of a definition file (JSON Schema 2020-12).
pub fn schema() -> Value {
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Holdfast definitions",
        "description": "holdfast.toml, conf.d/*.toml and modules/*.toml: every table may stand in any file.",
        "type": "object",
        "additionalProperties": false,
        "properties": sections(),
    })
}

//! Discovered compose projects as TOML: what `holdfast discover` prints, and what the daemon keeps below its state
//! directory, read like any other definition file.

use std::path::{Path, PathBuf};

use toml_edit::{Array, InlineTable, Value};

use crate::definition::{Name, Stack};

/// Where the definitions of discovered projects are kept, a file each.
pub fn directory(state_dir: &Path) -> PathBuf {
    state_dir.join("stacks")
}

/// The definition of one project, or why there is none.
///
/// # Errors
/// Everything that stands against it.
pub fn toml(stack: &Stack) -> Result<String, String> {
    Name::parse(&stack.project).map_err(|rule| format!("its name cannot be that of an instance: {rule}"))?;
    if let Some(bad) = stack.volumes.keys().find(|name| Name::parse(name).is_err()) {
        return Err(format!("backup.volume-path.{bad}: a name has letters, digits, '.', '_' and '-'"));
    }
    if !stack.refused.is_empty() {
        return Err(stack.refused.join("; "));
    }
    let name = if stack.project.contains('.') { quoted(&stack.project) } else { stack.project.clone() };
    let project = quoted(&stack.project);
    let mut text =
        format!("# The compose project {}, found by its labels.\n[instance.{name}]\n", stack.project);
    if !stack.volumes.is_empty() {
        let includes: Array = stack.volumes.keys().map(|name| format!("volumes/{name}")).collect();
        let places = stack.volumes.iter().map(|(name, place)| (name.clone(), place.text()));
        text += &format!("include = {includes}\nvolumes = {}\n", places.collect::<InlineTable>());
    }
    for dump in &stack.dumps {
        text += &format!("\n[[instance.{name}.dump]]\nsource = \"{}\"\n", dump.source);
        text += &format!(
            "name = {}\ncontainer = {}\n",
            quoted(&dump.service),
            quoted(&format!("docker:{}", dump.container))
        );
    }
    text += &format!("\n[[instance.{name}.service]]\nmanager = \"compose\"\nproject = {project}\n");
    if stack.stopped.is_empty() {
        text += "stop = \"never\"\n";
    } else {
        text += &format!("services = {}\n", stack.stopped.iter().map(String::as_str).collect::<Array>());
    }
    Ok(text)
}

fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::definition::{StackDump, VolumePlace};

    #[test]
    fn a_stack_is_a_definition_and_a_bad_one_says_why_not() {
        let mut stack = Stack {
            project: "shop".into(),
            volumes: [
                ("data".into(), VolumePlace::Directory("/v/a \"b\"".into())),
                ("far".into(), VolumePlace::Of(crate::definition::Engine::Docker, "shop_far".into())),
            ]
            .into(),
            stopped: vec!["web".into()],
            dumps: vec![StackDump { source: "mariadb", service: "db".into(), container: "shop-db-1".into() }],
            refused: Vec::new(),
        };
        let text = toml(&stack).unwrap();
        let read: toml_edit::DocumentMut = text.parse().unwrap();
        let shop = &read["instance"]["shop"];
        assert_eq!(shop["volumes"]["data"].as_str(), Some("/v/a \"b\""), "{text}");
        assert_eq!(shop["volumes"]["far"].as_str(), Some("docker:shop_far"), "{text}");
        assert_eq!(shop["dump"][0]["container"].as_str(), Some("docker:shop-db-1"), "{text}");
        assert_eq!(shop["service"][0]["services"][0].as_str(), Some("web"), "{text}");
        stack.refused = vec!["both".into()];
        assert_eq!(toml(&stack).unwrap_err(), "both");
        stack.project = "_x".into();
        assert!(toml(&stack).unwrap_err().contains("name"));
    }
}

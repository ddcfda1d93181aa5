//! Dumps in containers of another machine: which container is told by its name, what runs in it is not. Client programs have
//! shells of their own, and read their passwords by one.

use super::needs::{ANSWERS, Rule, Site};
use super::spots::{place, rule};
use super::{argv, over};
use crate::definition::{Container, Dump};
use crate::job::container_name;
use crate::target;

/// How an engine is asked for one container.
const INSPECT: [&str; 5] = ["inspect", "--type", "container", "--format", "{{json .}}"];

impl Site {
    /// What is asked of an engine there, and what is run in a container.
    pub(super) fn contained(&mut self, dump: &Dump, container: &Container) {
        let engine = container.engine.word();
        self.program(engine, "a dump is made in a container");
        if dump.run_as.is_some() {
            return;
        }
        match container.name.strip_prefix("label:") {
            None => {
                self.container(engine, &container.name);
                let mut ask = argv([engine]);
                ask.extend(argv(INSPECT));
                ask.push(container.name.clone());
                self.question(ask, ANSWERS, true);
            }
            Some(label) => {
                let ask = listing(engine, label);
                self.question(ask.clone(), ANSWERS, true);
                let rule = match place(label) {
                    Ok(label) => fitting(
                        &ask,
                        &format!(
                            "ps --all --no-trunc --filter label={} --format [{{][{{]\\.ID[}}][}}] [{{][{{]\\.Names[}}][}}]",
                            label.pattern
                        ),
                    ),
                    // sudoers tells of what it cannot name.
                    Err(_) => Rule::root(&ask),
                };
                self.add(rule);
                self.labels.push((engine, label.to_owned()));
            }
        }
    }

    /// What lets anything run in a container, as its own user.
    pub(super) fn container(&mut self, engine: &str, name: &str) {
        let fits = place(name).map(|name| name.pattern).unwrap_or_default();
        let mut ask = argv([engine]);
        ask.extend(argv(INSPECT));
        ask.push(name.to_owned());
        self.add(fitting(
            &ask,
            &format!("inspect --type container --format [{{][{{]json \\.[}}][}}] {fits}"),
        ));
        self.add(fitting(&argv([engine, "exec", "-i", name, "true"]), &format!("exec -i {fits} .+")));
    }

    /// The containers that have the labels of dumps now.
    pub(super) async fn labelled(&mut self) {
        for (engine, label) in self.labels.clone() {
            let ask = target::sudo(&self.remote, None, listing(engine, &label));
            let ask: Vec<String> = ask.iter().map(|word| word.to_string_lossy().into_owned()).collect();
            // What does not answer is told of by its own question.
            let Ok(Ok(said)) = over(&self.remote, &ask).await else { continue };
            for name in said.lines().map(container_name).filter(|name| !name.is_empty()) {
                self.container(engine, name);
            }
        }
    }

    /// Containers in which anything may be run.
    pub(super) fn open_containers(&self) -> Vec<String> {
        let is_exec = |rule: &&Rule| rule.argv.get(1).is_some_and(|word| word == "exec");
        let named = self.rules.iter().filter(is_exec).filter_map(|rule| rule.argv.get(3).cloned());
        named.chain(self.labels.iter().map(|(_, label)| format!("those with the label {label}"))).collect()
    }
}

fn listing(engine: &str, label: &str) -> Vec<String> {
    let filter = format!("label={label}");
    argv([engine, "ps", "--all", "--no-trunc", "--filter", &filter, "--format", "{{.ID}} {{.Names}}"])
}

fn fitting(argv: &[String], pattern: &str) -> Rule {
    let argv: Vec<&str> = argv.iter().map(String::as_str).collect();
    rule(&argv, pattern.to_owned())
}

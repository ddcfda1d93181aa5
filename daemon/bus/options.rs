//! Options (`a{sv}`) of a call: each is known, has its type, and is taken once.

use std::collections::HashMap;
use std::os::fd::AsFd;

use zbus::wire::{OwnedVariant, Variant};

use super::argument::{limit, shown};
use super::error::{Error, Result};

/// What a call carries as `a{sv}`.
pub(super) type Given = HashMap<String, OwnedVariant>;

/// The most elements in an array.
const MAX_ELEMENTS: usize = 4096;

/// Options whose names are known to be good.
pub(super) struct Options(Given);

impl Options {
    /// Takes what was given; `later` are options of the contract that this version does not have.
    pub(super) fn of(given: Given, known: &[&str], later: &[&str]) -> Result<Self> {
        for key in given.keys() {
            limit("option's name", key)?;
            if later.contains(&key.as_str()) {
                return Err(Error::argument(format!(
                    "the option {key:?} is not supported yet in this version of holdfastd"
                )));
            }
            if !known.contains(&key.as_str()) {
                return Err(Error::argument(unknown(key, known)));
            }
        }
        Ok(Self(given))
    }

    /// A string.
    pub(super) fn text(&mut self, key: &str) -> Result<Option<String>> {
        let Some(value) = self.0.remove(key) else { return Ok(None) };
        let Variant::Str(text) = &*value else { return Err(wrong(key, &value, "a string (s)")) };
        plain(key, text.as_str()).map(Some)
    }

    /// An array of strings.
    pub(super) fn texts(&mut self, key: &str) -> Result<Option<Vec<String>>> {
        let Some(value) = self.0.remove(key) else { return Ok(None) };
        let expected = "an array of strings (as)";
        let Variant::Array(array) = &*value else { return Err(wrong(key, &value, expected)) };
        if array.len() > MAX_ELEMENTS {
            return Err(Error::argument(format!(
                "the option {key:?} has {} elements, {MAX_ELEMENTS} is the most",
                array.len()
            )));
        }
        let texts = array.iter().map(|element| match element {
            Variant::Str(text) => plain(key, text.as_str()),
            _ => Err(wrong(key, &value, expected)),
        });
        texts.collect::<Result<_>>().map(Some)
    }

    /// Files that the caller opened, by names.
    pub(super) fn files(&mut self, key: &str) -> Result<Vec<(String, std::fs::File)>> {
        let Some(value) = self.0.remove(key) else { return Ok(Vec::new()) };
        let expected = "names with files that are open (a{sh})";
        let Variant::Dict(all) = &*value else { return Err(wrong(key, &value, expected)) };
        let files = all.iter().map(|pair| match pair {
            (Variant::Str(name), Variant::Fd(file)) => {
                let file = file.as_fd().try_clone_to_owned();
                let file =
                    file.map_err(|failure| Error::argument(format!("the option {key:?}: {failure}")))?;
                Ok((plain(key, name.as_str())?, file.into()))
            }
            _ => Err(wrong(key, &value, expected)),
        });
        files.collect()
    }

    /// A boolean; absent is false.
    pub(super) fn flag(&mut self, key: &str) -> Result<bool> {
        Ok(self.choice(key)?.unwrap_or(false))
    }

    /// A boolean.
    pub(super) fn choice(&mut self, key: &str) -> Result<Option<bool>> {
        let Some(value) = self.0.remove(key) else { return Ok(None) };
        match *value {
            Variant::Bool(flag) => Ok(Some(flag)),
            _ => Err(wrong(key, &value, "a boolean (b)")),
        }
    }

    /// An unsigned number, whatever its width.
    pub(super) fn number(&mut self, key: &str, expected: &str) -> Result<Option<u64>> {
        let Some(value) = self.0.remove(key) else { return Ok(None) };
        match *value {
            Variant::U64(n) => Ok(Some(n)),
            Variant::U32(n) => Ok(Some(n.into())),
            _ => Err(wrong(key, &value, expected)),
        }
    }
}

/// What to say of a key that is not known.
pub(super) fn unknown(key: &str, known: &[&str]) -> String {
    let known = if known.is_empty() {
        "this call has none".into()
    } else {
        format!("known are: {}", known.join(", "))
    };
    format!("there is no option {}; {known}", shown(key))
}

/// What to say of a value of the wrong type.
pub(super) fn wrong(key: &str, value: &Variant<'_>, expected: &str) -> Error {
    Error::argument(format!("the option {key:?} is {expected}, not '{}'", value.value_signature()))
}

/// A string that may go into paths and lines.
fn plain(key: &str, text: &str) -> Result<String> {
    limit(&format!("option {key:?}"), text)?;
    if text.chars().any(char::is_control) {
        return Err(Error::argument(format!(
            "the option {key:?} holds a control character: {}",
            shown(text)
        )));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given<const N: usize>(pairs: [(&str, Variant<'static>); N]) -> Given {
        pairs.into_iter().map(|(k, v)| (k.to_owned(), OwnedVariant::try_from(v).unwrap())).collect()
    }

    #[test]
    fn an_unknown_option_is_refused_and_the_known_ones_are_named() {
        let Err(Error::InvalidArgument(message)) =
            Options::of(given([("x\n", true.into())]), &["before", "target"], &["as"])
        else {
            panic!("taken")
        };
        assert_eq!(message, "there is no option \"x\\n\"; known are: before, target");
        let Err(Error::InvalidArgument(message)) = Options::of(given([("as", true.into())]), &[], &["as"])
        else {
            panic!("taken")
        };
        assert!(message.contains("not supported yet"), "{message}");
    }

    #[test]
    fn a_wrong_type_is_refused_and_both_types_are_named() {
        let all = || given([("k", 5_u8.into())]);
        for refused in [
            Options::of(all(), &["k"], &[]).unwrap().text("k").err(),
            Options::of(all(), &["k"], &[]).unwrap().texts("k").err(),
            Options::of(all(), &["k"], &[]).unwrap().flag("k").err(),
            Options::of(all(), &["k"], &[]).unwrap().number("k", "a number (t)").err(),
        ] {
            let Some(Error::InvalidArgument(message)) = refused else { panic!("taken: {refused:?}") };
            assert!(message.contains("not 'y'"), "{message}");
        }
    }

    #[test]
    fn options_of_the_right_type_are_taken_and_absent_ones_are_absent() {
        let list: Variant<'static> = vec!["a".to_owned(), "b".to_owned()].into();
        let given = given([("s", "x".into()), ("as", list), ("b", true.into()), ("t", 7_u64.into())]);
        let mut options = Options::of(given, &["s", "as", "b", "t"], &[]).unwrap();
        assert_eq!(options.text("s").unwrap().as_deref(), Some("x"));
        assert_eq!(options.texts("as").unwrap().unwrap(), ["a", "b"]);
        assert!(options.flag("b").unwrap());
        assert_eq!(options.number("t", "").unwrap(), Some(7));
        assert_eq!(options.text("none").unwrap(), None);
        assert!(!options.flag("none").unwrap());
    }
}

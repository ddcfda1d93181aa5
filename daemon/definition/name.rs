//! Names of definitions: what a person writes after `repository.`, `backup.`, `instance.`, `module.`.

use std::borrow::Borrow;
use std::fmt;
use std::ops::Deref;

use serde::{Deserialize, Serialize};

/// The longest name, in bytes: with a suffix it must still fit a file name and a systemd unit name.
pub const MAX_NAME: usize = 64;

/// A checked name: ASCII letters, digits, `.`, `_`, `-`, first a letter or digit, at most [`MAX_NAME`] bytes.
///
/// Such a name is safe as a file name, a restic tag, a D-Bus argument and an environment value.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(String);

impl TryFrom<String> for Name {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text)
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.0
    }
}

impl Name {
    /// Takes a name as written.
    ///
    /// # Errors
    /// The rule that the name breaks, as a sentence.
    pub fn parse(text: &str) -> Result<Self, String> {
        let rule = "a name has letters, digits, '.', '_' and '-' and begins with a letter or digit";
        if text.is_empty() {
            return Err(format!("the name is empty; {rule}"));
        }
        if text.len() > MAX_NAME {
            return Err(format!("the name has {} bytes, {MAX_NAME} is the most", text.len()));
        }
        let bad = text.chars().find(|c| !(c.is_ascii_alphanumeric() || "._-".contains(*c)));
        if let Some(bad) = bad {
            return Err(format!("{bad:?} may not stand in a name; {rule}"));
        }
        if !text.starts_with(|c: char| c.is_ascii_alphanumeric()) {
            return Err(format!("the name begins with {:?}; {rule}", &text[..1]));
        }
        Ok(Self(text.to_owned()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Deref for Name {
    type Target = str;
    fn deref(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_unsafe_somewhere_are_refused_with_the_rule() {
        for bad in ["", "a/b", "a b", "-a", ".a", "_a", "ä", "a\n", "😀", &"a".repeat(65), "a,b", "a\0"] {
            assert!(Name::parse(bad).is_err(), "{bad:?} was taken");
        }
        for good in ["a", "dokuwiki1", "0x", "a.b_c-d", &"a".repeat(64)] {
            assert_eq!(Name::parse(good).unwrap().as_str(), good);
        }
    }
}

//! Patterns as restic reads them: Go's `filepath.Match` for one component, and paths cleaned like `filepath.Clean`.
//!
//! Everything works on bytes, for file names need not be UTF-8. Source of the rules: restic's manual ("including files",
//! "excluding files") and the documentation of Go's package path/filepath.

use thiserror::Error;

/// Why a pattern cannot be used. Go calls all of these "syntax error in pattern"; restic then refuses to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(super) enum BadPattern {
    /// `[` without its `]`, or an empty class.
    #[error("the class that begins with '[' is empty or has no end; write '\\[' for the character itself")]
    Class,
    /// The last character is the escape.
    #[error("it ends with '\\', which must be followed by the character that it stands for")]
    Escape,
}

/// One component of a path, with `*`, `?`, `[a-z]`, `[^a-z]` and `\` as escape; `/` never stands in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Glob {
    tokens: Vec<Token>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Star,
    Any,
    Byte(u8),
    Class { negated: bool, ranges: Vec<(u32, u32)> },
}

impl Glob {
    /// Reads a component.
    ///
    /// # Errors
    /// Where Go's `filepath.Match` would answer `ErrBadPattern`.
    pub(super) fn parse(mut text: &[u8]) -> Result<Self, BadPattern> {
        let mut tokens = Vec::new();
        while let Some((&first, rest)) = text.split_first() {
            text = rest;
            tokens.push(match first {
                b'*' => Token::Star,
                b'?' => Token::Any,
                b'[' => class(&mut text)?,
                b'\\' => {
                    let (&escaped, rest) = text.split_first().ok_or(BadPattern::Escape)?;
                    text = rest;
                    Token::Byte(escaped)
                }
                other => Token::Byte(other),
            });
        }
        Ok(Self { tokens })
    }

    /// Whether a name is meant. As in Go, a leading dot is nothing special.
    pub(super) fn matches(&self, name: &[u8]) -> bool {
        let (mut token, mut at) = (0, 0);
        let mut retry: Option<(usize, usize)> = None;
        loop {
            match self.tokens.get(token) {
                None if at == name.len() => return true,
                Some(Token::Star) => {
                    token += 1;
                    retry = Some((token, at));
                    continue;
                }
                Some(wanted) if at < name.len() => {
                    if let Some(length) = wanted.takes(&name[at..]) {
                        token += 1;
                        at += length;
                        continue;
                    }
                }
                _ => {}
            }
            match retry {
                Some((after_star, from)) if from < name.len() => {
                    (token, at) = (after_star, from + 1);
                    retry = Some((after_star, from + 1));
                }
                _ => return false,
            }
        }
    }
}

impl Token {
    /// How many bytes at the front of a non-empty text this token takes.
    fn takes(&self, text: &[u8]) -> Option<usize> {
        match self {
            Self::Star => None,
            Self::Any => Some(character(text).1),
            Self::Byte(byte) => (text[0] == *byte).then_some(1),
            Self::Class { negated, ranges } => {
                let (code, length) = character(text);
                let within = ranges.iter().any(|(low, high)| (*low..=*high).contains(&code));
                (within != *negated).then_some(length)
            }
        }
    }
}

/// The rest of a class, after its `[`.
fn class(text: &mut &[u8]) -> Result<Token, BadPattern> {
    let negated = text.first() == Some(&b'^');
    if negated {
        *text = &text[1..];
    }
    let mut ranges = Vec::new();
    loop {
        if !ranges.is_empty() && text.first() == Some(&b']') {
            *text = &text[1..];
            return Ok(Token::Class { negated, ranges });
        }
        let low = class_member(text)?;
        let mut high = low;
        if text.first() == Some(&b'-') {
            *text = &text[1..];
            high = class_member(text)?;
        }
        ranges.push((low, high));
    }
}

/// One character of a class; `-` and `]` must be escaped, as Go wants it.
fn class_member(text: &mut &[u8]) -> Result<u32, BadPattern> {
    match text.first() {
        None | Some(b'-' | b']') => return Err(BadPattern::Class),
        Some(b'\\') => *text = &text[1..],
        Some(_) => {}
    }
    if text.is_empty() {
        return Err(BadPattern::Class);
    }
    let (code, length) = character(text);
    if code == INVALID && length == 1 {
        return Err(BadPattern::Class);
    }
    *text = &text[length..];
    Ok(code)
}

/// What Go decodes from a byte that begins no valid UTF-8 sequence.
const INVALID: u32 = 0xfffd;

/// The first character of a non-empty text and its length in bytes.
fn character(text: &[u8]) -> (u32, usize) {
    (1..=text.len().min(4))
        .find_map(|n| std::str::from_utf8(&text[..n]).ok()?.chars().next().map(|c| (u32::from(c), n)))
        .unwrap_or((INVALID, 1))
}

/// Whether a component is a pattern at all; without it restic asks for just that name (escapes and all, as Go's Glob).
pub(super) fn has_meta(component: &[u8]) -> bool {
    component.iter().any(|b| b"*?[\\".contains(b))
}

/// Splits a path into cleaned components: no empty ones, no `.`; `..` takes its predecessor away where there is one.
/// The flag says whether the path was absolute.
pub(super) fn clean(path: &[u8]) -> (bool, Vec<&[u8]>) {
    let absolute = path.first() == Some(&b'/');
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in path.split(|b| *b == b'/') {
        match part {
            b"" | b"." => {}
            b".." if parts.last().is_some_and(|last| *last != b"..") => {
                parts.pop();
            }
            b".." if absolute => {}
            other => parts.push(other),
        }
    }
    (absolute, parts)
}

/// Escapes what Go's Match would take for a pattern, so that the result matches just these bytes.
pub(super) fn escape(literal: &[u8]) -> Vec<u8> {
    let mut escaped = Vec::with_capacity(literal.len());
    for byte in literal {
        if b"*?[\\".contains(byte) {
            escaped.push(b'\\');
        }
        escaped.push(*byte);
    }
    escaped
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(pattern: &str, name: &[u8]) -> Option<bool> {
        Glob::parse(pattern.as_bytes()).ok().map(|g| g.matches(name))
    }

    /// The table of Go's own documentation and behaviour, worked out by hand.
    #[test]
    fn one_component_matches_as_in_go() {
        for (pattern, name, expected) in [
            ("abc", "abc", true),
            ("*", "", true),
            ("*", ".hidden", true),
            ("*c", "abc", true),
            ("a*", "a", true),
            ("a*b*c*d*e*", "axbxcxdxe", true),
            ("a*b*c*d*e*", "axbxcxdxexxx", true),
            ("a*b?c*x", "abxbbxdbxebxczzx", true),
            ("a*b?c*x", "abxbbxdbxebxczzy", false),
            ("ab[c]", "abc", true),
            ("ab[b-d]", "abc", true),
            ("ab[e-g]", "abc", false),
            ("ab[^c]", "abc", false),
            ("ab[^e-g]", "abc", true),
            ("a\\*b", "a*b", true),
            ("a\\*b", "ab", false),
            ("a?b", "a☺b", true),
            ("a[^a]b", "a☺b", true),
            ("a???b", "a☺b", false),
            ("[a-ζ]*", "α", true),
            ("*[a-ζ]", "A", false),
            ("[\\]a]", "]", true),
            ("[\\-x]", "-", true),
            ("[x\\-]", "z", false),
            ("[!a]", "b", false),
            ("[!a]", "!", true),
            ("[z-a]", "m", false),
            ("*x", "xxx", true),
            ("**", "anything", true),
        ] {
            assert_eq!(check(pattern, name.as_bytes()), Some(expected), "{pattern:?} on {name:?}");
        }
    }

    #[test]
    fn what_go_calls_a_bad_pattern_is_refused() {
        for bad in
            ["[]a]", "[-]", "[x-]", "[-x]", "\\", "[a-b-c]", "[", "[^", "[^bc", "a[", "a\\", "[]", "[a\\"]
        {
            assert_eq!(check(bad, b"a"), None, "{bad:?} was taken");
        }
    }

    #[test]
    fn names_that_are_not_utf8_match() {
        assert_eq!(check("*.db", b"\xff\xfe.db"), Some(true));
        assert_eq!(check("??.db", b"\xff\xfe.db"), Some(true));
        assert_eq!(check("[^a]\n", b"\xff\n"), Some(true));
    }

    #[test]
    fn paths_are_cleaned_as_in_go() {
        let text = |path: &str| {
            let (absolute, parts) = clean(path.as_bytes());
            let joined: Vec<_> = parts.iter().map(|p| String::from_utf8_lossy(p).into_owned()).collect();
            format!("{}{}", if absolute { "/" } else { "" }, joined.join("/"))
        };
        for (path, expected) in [
            ("./state//x/", "state/x"),
            ("a/../b", "b"),
            ("../a", "../a"),
            ("../../a/..", "../.."),
            ("/../a", "/a"),
            ("/", "/"),
            ("", ""),
        ] {
            assert_eq!(text(path), expected);
        }
    }

    proptest! {
        #[test]
        fn an_escaped_name_matches_itself_and_nothing_longer(name in proptest::collection::vec(1u8..=255, 0..20)) {
            let glob = Glob::parse(&escape(&name)).unwrap();
            prop_assert!(glob.matches(&name));
            let longer = [name.as_slice(), b"x"].concat();
            prop_assert!(!glob.matches(&longer));
        }

        #[test]
        fn no_pattern_panics(pattern in proptest::collection::vec(any::<u8>(), 0..24), name in proptest::collection::vec(any::<u8>(), 0..24)) {
            if let Ok(glob) = Glob::parse(&pattern) {
                let _answer = glob.matches(&name);
            }
        }
    }
}

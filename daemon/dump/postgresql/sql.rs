//! Names and values as PostgreSQL reads them, and the statements of `pg_dumpall --globals-only` told apart.

/// An identifier, quoted.
pub(super) fn ident(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A string, quoted; with backslashes it reads the same whatever the server's settings are.
pub(super) fn literal(text: &str) -> String {
    let quoted = text.replace('\'', "''");
    match quoted.contains('\\') {
        true => format!("E'{}'", quoted.replace('\\', "\\\\")),
        false => format!("'{quoted}'"),
    }
}

/// A connection string for a database: its name is then never read as one itself.
pub(super) fn conninfo(database: &str) -> String {
    format!("dbname='{}'", database.replace('\\', "\\\\").replace('\'', "\\'"))
}

/// The statements of a text, without comments and psql's own commands. A `;` in quotes ends nothing.
pub(super) fn statements(text: &str) -> Vec<String> {
    let mut all = Vec::new();
    let mut current = String::new();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let fresh = current.trim().is_empty();
        match c {
            '-' if fresh && chars.peek() == Some(&'-') => drop(chars.by_ref().find(|c| *c == '\n')),
            '\\' if fresh => drop(chars.by_ref().find(|c| *c == '\n')),
            ';' => all.push(std::mem::take(&mut current).trim().to_owned()),
            '\'' | '"' => {
                let escapes = c == '\'' && current.ends_with('E');
                current.push(c);
                quoted(&mut chars, c, escapes, &mut current);
            }
            _ => current.push(c),
        }
    }
    all
}

fn quoted(chars: &mut impl Iterator<Item = char>, quote: char, escapes: bool, current: &mut String) {
    while let Some(c) = chars.next() {
        current.push(c);
        if escapes && c == '\\' {
            current.extend(chars.next());
        } else if c == quote {
            // A doubled quote ends here and begins anew: the same text in the end.
            return;
        }
    }
}

/// What a statement about roles speaks of.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum About {
    /// Makes this role.
    Make(String),
    /// Changes this role.
    Role(String),
    /// Makes one a member of the other.
    Member(String, String),
    /// Something else.
    Other,
}

/// What a statement speaks of.
pub(super) fn about(statement: &str) -> About {
    let after = |head: &str| statement.strip_prefix(head).and_then(name);
    if let Some((role, _)) = after("CREATE ROLE ") {
        return About::Make(role);
    }
    if let Some((role, _)) = after("ALTER ROLE ").or_else(|| after("COMMENT ON ROLE ")) {
        return About::Role(role);
    }
    let Some((role, rest)) = after("GRANT ") else { return About::Other };
    match rest.strip_prefix(" TO ").and_then(name) {
        Some((member, _)) => About::Member(role, member),
        None => About::Other,
    }
}

/// An identifier at the beginning of a text, and what follows it.
pub(super) fn name(text: &str) -> Option<(String, &str)> {
    let Some(rest) = text.strip_prefix('"') else {
        let end = text.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == '$')).unwrap_or(text.len());
        return (end > 0).then(|| (text[..end].to_owned(), &text[end..]));
    };
    let mut found = String::new();
    let mut chars = rest.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' if rest[at + 1..].starts_with('"') => {
                found.push('"');
                chars.next();
            }
            '"' => return Some((found, &rest[at + 1..])),
            _ => found.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_semicolon_in_quotes_ends_no_statement() {
        let text = "-- c; d\n\\restrict x;y\nSET a = 'b';\n\nCREATE ROLE \"a;\"\"b\n\";\nCOMMENT ON ROLE x IS E'a\\';b';\n";
        let found = statements(text);
        assert_eq!(found, ["SET a = 'b'", "CREATE ROLE \"a;\"\"b\n\"", "COMMENT ON ROLE x IS E'a\\';b'"]);
        assert_eq!(about(&found[1]), About::Make("a;\"b\n".into()));
        assert_eq!(about(&found[2]), About::Role("x".into()));
        assert_eq!(about("GRANT a TO \"b c\" GRANTED BY p"), About::Member("a".into(), "b c".into()));
        assert_eq!(about("SET a = 'b'"), About::Other);
    }

    #[test]
    fn names_are_quoted_for_where_they_stand() {
        assert_eq!(ident("a\"b"), "\"a\"\"b\"");
        assert_eq!((literal("it's"), literal("a\\b")), ("'it''s'".into(), "E'a\\\\b'".into()));
        assert_eq!(conninfo("a'b\\ host=x"), "dbname='a\\'b\\\\ host=x'");
    }
}

//! As much of HTTP as a server of the tests needs.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;

use serde_json::Value;

/// What is asked.
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) authorization: Option<String>,
    pub(crate) body: Value,
}

impl Request {
    /// None: whoever asks was ended.
    pub(crate) fn read(stream: &TcpStream) -> Option<Self> {
        let mut reader = BufReader::new(stream);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if reader.read_line(&mut head).unwrap_or(0) == 0 {
                return None;
            }
        }
        let field = |name: &str| {
            let given = |line: &str| {
                line.to_lowercase().starts_with(name).then(|| line[name.len()..].trim().to_owned())
            };
            head.lines().find_map(given)
        };
        let mut body = vec![0; field("content-length:").map_or(0, |text| text.parse().unwrap())];
        reader.read_exact(&mut body).ok()?;
        let mut words = head.split_whitespace();
        Some(Self {
            method: words.next()?.to_owned(),
            target: words.next()?.to_owned(),
            authorization: field("authorization:"),
            body: serde_json::from_slice(&body).unwrap_or(Value::Null),
        })
    }
}

/// Answers with JSON. Nobody may be there any more.
pub(crate) fn reply(mut stream: &TcpStream, status: u16, text: &str) {
    let _ = write!(
        stream,
        "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{text}",
        text.len()
    );
}

/// A part of a path without `%XX`.
pub(crate) fn plain(part: &str) -> String {
    let (mut bytes, mut left) = (Vec::new(), part.as_bytes());
    while let Some((&byte, rest)) = left.split_first() {
        if byte == b'%' {
            bytes.push(u8::from_str_radix(std::str::from_utf8(&rest[..2]).unwrap(), 16).unwrap());
            left = &rest[2..];
        } else {
            bytes.push(byte);
            left = rest;
        }
    }
    String::from_utf8(bytes).unwrap()
}

/// What curl sends of a user and a password.
pub(crate) fn basic(text: &str) -> String {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut said = String::from("Basic ");
    for group in text.as_bytes().chunks(3) {
        let byte = |at: usize| u32::from(group.get(at).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for (at, shift) in [18, 12, 6, 0].into_iter().enumerate() {
            let digit = char::from(DIGITS[(bits >> shift & 63) as usize]);
            said.push(if at <= group.len() { digit } else { '=' });
        }
    }
    said
}

//! Values as JSON (RFC 8259), two spaces a level. Numbers are unsigned and here below 2^53, which every reader keeps exactly.

use std::fmt::{self, Display, Formatter, Write};
use std::time::Duration;

/// A value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Json {
    /// Nothing there.
    Null,
    /// A whole number.
    Number(u64),
    /// Whether something is so.
    Truth(bool),
    /// Seconds, to the microsecond.
    Seconds(Duration),
    /// A text.
    Text(String),
    /// Values in order.
    List(Vec<Json>),
    /// Values by name, in this order.
    Object(Vec<(&'static str, Json)>),
}

/// A whole number.
pub(super) fn number(number: impl Into<u64>) -> Json {
    Json::Number(number.into())
}

/// A text.
pub(super) fn text(text: impl Display) -> Json {
    Json::Text(text.to_string())
}

/// A list of what `each` makes of the items.
pub(super) fn list<T>(items: impl IntoIterator<Item = T>, each: impl FnMut(T) -> Json) -> Json {
    Json::List(items.into_iter().map(each).collect())
}

impl Display for Json {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.write(f, 0)
    }
}

impl Json {
    fn write(&self, f: &mut Formatter<'_>, depth: usize) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Number(number) => write!(f, "{number}"),
            Self::Truth(truth) => write!(f, "{truth}"),
            Self::Seconds(time) => write!(f, "{}.{:06}", time.as_secs(), time.subsec_micros()),
            Self::Text(text) => quoted(f, text),
            Self::List(items) => bracketed(f, depth, ['[', ']'], items, |f, item, depth| {
                item.write(f, depth)
            }),
            Self::Object(members) => {
                bracketed(f, depth, ['{', '}'], members, |f, (name, value), depth| {
                    quoted(f, name)?;
                    f.write_str(": ")?;
                    value.write(f, depth)
                })
            }
        }
    }
}

fn bracketed<T>(
    f: &mut Formatter<'_>,
    depth: usize,
    [open, close]: [char; 2],
    items: &[T],
    write: impl Fn(&mut Formatter<'_>, &T, usize) -> fmt::Result,
) -> fmt::Result {
    f.write_char(open)?;
    for (count, item) in items.iter().enumerate() {
        f.write_str(if count == 0 { "\n" } else { ",\n" })?;
        indent(f, depth + 1)?;
        write(f, item, depth + 1)?;
    }
    if !items.is_empty() {
        f.write_char('\n')?;
        indent(f, depth)?;
    }
    f.write_char(close)
}

fn indent(f: &mut Formatter<'_>, depth: usize) -> fmt::Result {
    write!(f, "{:width$}", "", width = 2 * depth)
}

/// A string (RFC 8259, 7): quotes, backslashes and control characters are escaped.
fn quoted(f: &mut Formatter<'_>, text: &str) -> fmt::Result {
    f.write_char('"')?;
    for letter in text.chars() {
        match letter {
            '"' | '\\' => write!(f, "\\{letter}")?,
            control if control < ' ' => write!(f, "\\u{:04x}", u32::from(control))?,
            plain => f.write_char(plain)?,
        }
    }
    f.write_char('"')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_written_as_the_standard_has_them() {
        let value = Json::Object(vec![
            ("none", Json::Null),
            ("number", number(u32::MAX)),
            ("truth", Json::Truth(true)),
            ("time", Json::Seconds(Duration::from_millis(2005))),
            ("empty", Json::List(Vec::new())),
            ("list", list([1_u8, 2], number)),
            ("text", text("a \"b\" \\ \n é")),
        ]);
        let expected = r#"{
  "none": null,
  "number": 4294967295,
  "truth": true,
  "time": 2.005000,
  "empty": [],
  "list": [
    1,
    2
  ],
  "text": "a \"b\" \\ \u000a é"
}"#;
        assert_eq!(value.to_string(), expected);
    }
}

//! Python's way of writing values: `str()` and `repr()` for what a template prints, `json.dumps`
//! for its `tojson`.

use std::fmt::Write;
use std::sync::Arc;

use minijinja::value::{Enumerator, Object, ObjectRepr, Value, ValueKind};
use minijinja::{Error, ErrorKind};

/// Values nested deeper would use up the thread's stack; JSON input stays below 128.
const DEPTH_MAX: usize = 256;

fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidOperation, message.into())
}

fn deeper(depth: usize) -> Result<usize, Error> {
    if depth == DEPTH_MAX {
        return Err(invalid(format!(
            "a value is nested more than {DEPTH_MAX} deep"
        )));
    }
    Ok(depth + 1)
}

fn pairs(value: &Value) -> Result<Vec<(Value, Value)>, Error> {
    value
        .try_iter()?
        .map(|key| Ok((key.clone(), value.get_item(&key)?)))
        .collect()
}

// --- Tuples -------------------------------------------------------------------------------------

/// An item of a mapping: a list that prints in parentheses.
#[derive(Debug)]
struct Pair([Value; 2]);

impl Object for Pair {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Seq
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.0.get(key.as_usize()?).cloned()
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Seq(self.0.len())
    }
}

pub fn items(value: &Value) -> Result<Value, Error> {
    as_pairs(minijinja::filters::items(value)?)
}

/// A list of lists of two as a list of pairs.
pub fn as_pairs(list: Value) -> Result<Value, Error> {
    let pair = |item: Value| -> Result<Value, Error> {
        let (key, value) = (item.get_item_by_index(0)?, item.get_item_by_index(1)?);
        Ok(Value::from_object(Pair([key, value])))
    };
    list.try_iter()?
        .map(pair)
        .collect::<Result<Vec<Value>, Error>>()
        .map(Value::from)
}

// --- str() and repr() ---------------------------------------------------------------------------

pub fn str(value: &Value) -> Result<String, Error> {
    if let Some(text) = value.as_str() {
        return Ok(text.to_owned());
    }
    let mut out = String::new();
    write_repr(&mut out, value, 0)?;
    Ok(out)
}

fn write_repr(out: &mut String, value: &Value, depth: usize) -> Result<(), Error> {
    match value.kind() {
        ValueKind::Undefined => {}
        ValueKind::None => out.push_str("None"),
        ValueKind::Bool => out.push_str(if value.is_true() { "True" } else { "False" }),
        ValueKind::Number if !value.is_integer() => out.push_str(&float(value)?),
        ValueKind::String => string_repr(out, value.as_str().unwrap_or_default()),
        ValueKind::Seq | ValueKind::Iterable => {
            let depth = deeper(depth)?;
            let is_pair = value.downcast_object_ref::<Pair>().is_some();
            out.push(if is_pair { '(' } else { '[' });
            for (i, item) in value.try_iter()?.enumerate() {
                out.push_str(if i == 0 { "" } else { ", " });
                write_repr(out, &item, depth)?;
            }
            out.push(if is_pair { ')' } else { ']' });
        }
        ValueKind::Map => {
            let depth = deeper(depth)?;
            out.push('{');
            for (i, (key, item)) in pairs(value)?.iter().enumerate() {
                out.push_str(if i == 0 { "" } else { ", " });
                write_repr(out, key, depth)?;
                out.push_str(": ");
                write_repr(out, item, depth)?;
            }
            out.push('}');
        }
        _ => write!(out, "{value}").map_err(|_| invalid("cannot print a value"))?,
    }
    Ok(())
}

fn string_repr(out: &mut String, text: &str) {
    let quote = if text.contains('\'') && !text.contains('"') {
        '"'
    } else {
        '\''
    };
    out.push(quote);
    for c in text.chars() {
        match c {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\\' => out.push_str("\\\\"),
            c if c == quote => out.extend(['\\', c]),
            c if c.is_control() && (c as u32) < 0x100 => {
                out.push_str(&format!("\\x{:02x}", c as u32))
            }
            c => out.push(c),
        }
    }
    out.push(quote);
}

fn float(value: &Value) -> Result<String, Error> {
    f64::try_from(value.clone()).map(float_repr)
}

/// The shortest digits that come back as the same number, laid out as Python does: plain from 1e-4
/// up to 1e16, else with an exponent of at least two digits.
pub fn float_repr(x: f64) -> String {
    if x.is_nan() {
        return "nan".to_owned();
    }
    if x.is_infinite() {
        return if x > 0.0 { "inf" } else { "-inf" }.to_owned();
    }
    let shortest = format!("{x:e}");
    let (digits, exponent) = shortest.split_once('e').unwrap_or((&shortest, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..16).contains(&exponent) || x == 0.0 {
        let plain = format!("{x}");
        return if plain.contains('.') {
            plain
        } else {
            plain + ".0"
        };
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.abs())
}

// --- json.dumps() -------------------------------------------------------------------------------

pub struct JsonStyle {
    pub ensure_ascii: bool,
    pub indent: Option<String>,
    pub item_separator: String,
    pub key_separator: String,
    pub sort_keys: bool,
}

pub fn json_dumps(value: &Value, style: &JsonStyle) -> Result<String, Error> {
    let mut out = String::new();
    style.write(&mut out, value, 0)?;
    Ok(out)
}

impl JsonStyle {
    fn write(&self, out: &mut String, value: &Value, depth: usize) -> Result<(), Error> {
        match value.kind() {
            ValueKind::None => out.push_str("null"),
            ValueKind::Bool => out.push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number => out.push_str(&json_number(value)?),
            ValueKind::String => self.write_string(out, value.as_str().unwrap_or_default()),
            ValueKind::Seq | ValueKind::Iterable => {
                let items: Vec<Value> = value.try_iter()?.collect();
                self.write_items(
                    out,
                    ['[', ']'],
                    &items,
                    deeper(depth)?,
                    |out, item, depth| self.write(out, item, depth),
                )?;
            }
            ValueKind::Map => {
                let mut items = Vec::new();
                for (key, item) in pairs(value)? {
                    items.push((json_key(&key)?, item));
                }
                if self.sort_keys {
                    items.sort_by(|a, b| a.0.cmp(&b.0));
                }
                self.write_items(
                    out,
                    ['{', '}'],
                    &items,
                    deeper(depth)?,
                    |out, item, depth| {
                        self.write_string(out, &item.0);
                        out.push_str(&self.key_separator);
                        self.write(out, &item.1, depth)
                    },
                )?;
            }
            kind => {
                return Err(invalid(format!(
                    "tojson: an {kind} value is not JSON serializable"
                )))
            }
        }
        Ok(())
    }

    fn write_items<T>(
        &self,
        out: &mut String,
        brackets: [char; 2],
        items: &[T],
        depth: usize,
        write_item: impl Fn(&mut String, &T, usize) -> Result<(), Error>,
    ) -> Result<(), Error> {
        out.push(brackets[0]);
        for (i, item) in items.iter().enumerate() {
            out.push_str(if i == 0 { "" } else { &self.item_separator });
            self.new_line(out, depth);
            write_item(out, item, depth)?;
        }
        if !items.is_empty() {
            self.new_line(out, depth - 1);
        }
        out.push(brackets[1]);
        Ok(())
    }

    fn new_line(&self, out: &mut String, depth: usize) {
        if let Some(indent) = &self.indent {
            out.push('\n');
            (0..depth).for_each(|_| out.push_str(indent));
        }
    }

    fn write_string(&self, out: &mut String, text: &str) {
        out.push('"');
        for c in text.chars() {
            match c {
                '"' => out.push_str("\\\""),
                '\\' => out.push_str("\\\\"),
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '\t' => out.push_str("\\t"),
                '\u{8}' => out.push_str("\\b"),
                '\u{c}' => out.push_str("\\f"),
                c if (c as u32) < 0x20 || (self.ensure_ascii && (c as u32) > 0x7e) => {
                    for unit in c.encode_utf16(&mut [0; 2]) {
                        out.push_str(&format!("\\u{unit:04x}"));
                    }
                }
                c => out.push(c),
            }
        }
        out.push('"');
    }
}

fn json_number(value: &Value) -> Result<String, Error> {
    if value.is_integer() {
        return Ok(value.to_string());
    }
    let text = float(value)?;
    Ok(match text.as_str() {
        "nan" => "NaN".to_owned(),
        "inf" => "Infinity".to_owned(),
        "-inf" => "-Infinity".to_owned(),
        _ => text,
    })
}

fn json_key(key: &Value) -> Result<String, Error> {
    match key.kind() {
        ValueKind::String => Ok(key.as_str().unwrap_or_default().to_owned()),
        ValueKind::None => Ok("null".to_owned()),
        ValueKind::Bool => Ok(key.is_true().to_string()),
        ValueKind::Number => json_number(key),
        kind => Err(invalid(format!(
            "tojson: a key must be a string, not {kind}"
        ))),
    }
}

//! Python's methods on strings, lists and dicts, as far as templates use them: minijinja-contrib's,
//! and here those it lacks or that differ from Python (positions count characters; the `is...`
//! tests of an empty string are false).

use minijinja::value::{from_args, Value, ValueKind};
use minijinja::{Error, ErrorKind, State};
use minijinja_contrib::pycompat::unknown_method_callback;

use crate::python;

pub fn call(state: &State, value: &Value, method: &str, args: &[Value]) -> Result<Value, Error> {
    if let Some(text) = value.as_str() {
        if let Some(result) = string_method(text, method, args)? {
            return Ok(result);
        }
    }
    match (value.kind(), method) {
        (ValueKind::Seq, "index") => list_index(value, args),
        (ValueKind::Seq | ValueKind::Map, "copy") => {
            let () = from_args(args)?;
            Ok(value.clone())
        }
        (ValueKind::Map, "items") => {
            let () = from_args(args)?;
            python::items(value)
        }
        _ => unknown_method_callback(state, value, method, args),
    }
}

/// `None`: left to minijinja-contrib.
fn string_method(text: &str, method: &str, args: &[Value]) -> Result<Option<Value>, Error> {
    let result = match method {
        "find" | "index" => position(text, method, args, |from, what| from.find(what))?,
        "rfind" | "rindex" => position(text, method, args, |from, what| from.rfind(what))?,
        "isdigit" | "isnumeric" | "isdecimal" => all_chars(text, args, char::is_numeric)?,
        "isalpha" => all_chars(text, args, char::is_alphabetic)?,
        "isalnum" => all_chars(text, args, char::is_alphanumeric)?,
        "isspace" => all_chars(text, args, char::is_whitespace)?,
        "islower" => Value::from(has_case(text, args)? && !text.chars().any(char::is_uppercase)),
        "isupper" => Value::from(has_case(text, args)? && !text.chars().any(char::is_lowercase)),
        "removeprefix" => {
            let (prefix,): (&str,) = from_args(args)?;
            Value::from(text.strip_prefix(prefix).unwrap_or(text))
        }
        "removesuffix" => {
            let (suffix,): (&str,) = from_args(args)?;
            Value::from(text.strip_suffix(suffix).unwrap_or(text))
        }
        "partition" => {
            let (separator,): (&str,) = from_args(args)?;
            match text.split_once(separator) {
                Some((head, tail)) => list(&[head, separator, tail]),
                None => list(&[text, "", ""]),
            }
        }
        "rpartition" => {
            let (separator,): (&str,) = from_args(args)?;
            match text.rsplit_once(separator) {
                Some((head, tail)) => list(&[head, separator, tail]),
                None => list(&["", "", text]),
            }
        }
        "rsplit" => rsplit(text, args)?,
        _ => return Ok(None),
    };
    Ok(Some(result))
}

fn list(texts: &[&str]) -> Value {
    texts.iter().copied().map(Value::from).collect()
}

fn all_chars(text: &str, args: &[Value], test: fn(char) -> bool) -> Result<Value, Error> {
    let () = from_args(args)?;
    Ok(Value::from(!text.is_empty() && text.chars().all(test)))
}

fn has_case(text: &str, args: &[Value]) -> Result<bool, Error> {
    let () = from_args(args)?;
    Ok(text.chars().any(|c| c.is_lowercase() || c.is_uppercase()))
}

fn position(
    text: &str,
    method: &str,
    args: &[Value],
    search: fn(&str, &str) -> Option<usize>,
) -> Result<Value, Error> {
    let (what, start): (&str, Option<usize>) = from_args(args)?;
    let start = start.unwrap_or(0);
    let from = text
        .char_indices()
        .nth(start)
        .map_or("", |(byte, _)| &text[byte..]);
    match search(from, what) {
        Some(byte) => Ok(Value::from(start + from[..byte].chars().count())),
        None if method.ends_with("find") => Ok(Value::from(-1)),
        None => Err(Error::new(
            ErrorKind::InvalidOperation,
            "substring not found",
        )),
    }
}

fn rsplit(text: &str, args: &[Value]) -> Result<Value, Error> {
    let (separator, splits_max): (Option<&str>, Option<i64>) = from_args(args)?;
    let pieces_max = match splits_max {
        Some(count) if count >= 0 => count as usize + 1,
        _ => usize::MAX,
    };
    let mut pieces: Vec<&str> = match separator {
        Some(separator) => text.rsplitn(pieces_max, separator).collect(),
        None if pieces_max == usize::MAX => text.split_whitespace().rev().collect(),
        None => {
            let message = "rsplit by white space takes no limit here";
            return Err(Error::new(ErrorKind::InvalidOperation, message));
        }
    };
    pieces.reverse();
    Ok(list(&pieces))
}

fn list_index(list: &Value, args: &[Value]) -> Result<Value, Error> {
    let (what,): (&Value,) = from_args(args)?;
    match list.try_iter()?.position(|item| item == *what) {
        Some(index) => Ok(Value::from(index)),
        None => Err(Error::new(
            ErrorKind::InvalidOperation,
            "value is not in list",
        )),
    }
}

//! Jinja as transformers sets it up for chat templates, made of minijinja.

use minijinja::value::{from_args, Kwargs, Rest, Value, ValueKind};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, Output, State};

use crate::error::TextError;
use crate::python::{self, JsonStyle};
use crate::python_methods;

/// Steps of a rendering: a fraction of a second, and far beyond what long conversations take.
const FUEL: u64 = 5_000_000;
/// Macros within macros.
const RECURSION_MAX: usize = 200;

/// Variable in which strftime_now finds the time. Not an identifier, so no template can name it.
pub const NOW_VARIABLE: &str = " now";

pub fn new_environment() -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_trim_blocks(true);
    environment.set_lstrip_blocks(true);
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_recursion_limit(RECURSION_MAX);
    environment.set_fuel(Some(FUEL));
    environment.set_formatter(format_value);
    environment.set_unknown_method_callback(python_methods::call);
    environment.add_filter("tojson", tojson);
    environment.add_filter("string", |value: &Value| python::str(value));
    environment.add_filter("trim", trim);
    environment.add_filter("wordcount", word_count);
    environment.add_filter("truncate", minijinja_contrib::filters::truncate);
    environment.add_filter("dictsort", dict_sort);
    environment.add_filter("items", python::items);
    environment.add_test("sequence", is_sequence);
    environment.add_test("iterable", is_iterable);
    environment.add_function("joiner", minijinja_contrib::globals::joiner);
    environment.add_function("cycler", minijinja_contrib::globals::cycler);
    environment.add_function("raise_exception", raise_exception);
    environment.add_function("strftime_now", strftime_now);
    environment
}

fn format_value(out: &mut Output, _: &State, value: &Value) -> std::result::Result<(), Error> {
    match value.as_str() {
        Some(text) => out.write_str(text),
        None => out.write_str(&python::str(value)?),
    }
    .map_err(Error::from)
}

/// In Jinja a string and a mapping are sequences too.
fn is_sequence(value: &Value) -> bool {
    matches!(
        value.kind(),
        ValueKind::Seq | ValueKind::String | ValueKind::Map
    )
}

/// In Jinja an undefined value can be iterated over, and none cannot.
fn is_iterable(value: &Value) -> bool {
    is_sequence(value) || matches!(value.kind(), ValueKind::Iterable | ValueKind::Undefined)
}

fn trim(value: &Value, chars: Option<String>) -> std::result::Result<String, Error> {
    let text = python::str(value)?;
    Ok(match chars {
        Some(chars) => text.trim_matches(|c| chars.contains(c)).to_owned(),
        None => text.trim().to_owned(),
    })
}

/// Runs of letters, digits and underscores.
fn word_count(value: &Value) -> std::result::Result<usize, Error> {
    let text = python::str(value)?;
    let is_separator = |c: char| !c.is_alphanumeric() && c != '_';
    Ok(text
        .split(is_separator)
        .filter(|word| !word.is_empty())
        .count())
}

fn dict_sort(value: &Value, kwargs: Kwargs) -> std::result::Result<Value, Error> {
    python::as_pairs(minijinja::filters::dictsort(value, kwargs)?)
}

fn tojson(value: &Value, args: Rest<Value>) -> std::result::Result<String, Error> {
    let (args, kwargs): (&[Value], Kwargs) = from_args(&args)?;
    let argument = |index: usize, name: &str| -> std::result::Result<Option<Value>, Error> {
        let told = match args.get(index) {
            Some(value) => Some(value.clone()),
            None => kwargs.get::<Option<Value>>(name)?,
        };
        Ok(told.filter(|value| !value.is_none()))
    };
    let is_set = |value: Option<Value>| value.is_some_and(|value| value.is_true());
    let ensure_ascii = is_set(argument(0, "ensure_ascii")?);
    let indent = argument(1, "indent")?.map(|indent| match indent.as_usize() {
        Some(width) => " ".repeat(width.min(64)),
        None => indent.as_str().unwrap_or_default().to_owned(),
    });
    let separators = argument(2, "separators")?;
    let sort_keys = is_set(argument(3, "sort_keys")?);
    kwargs.assert_all_used()?;
    let (item_separator, key_separator) = match separators {
        Some(pair) => {
            let text = |index| pair.get_item_by_index(index).map(|text| text.to_string());
            (text(0)?, text(1)?)
        }
        None if indent.is_some() => (",".to_owned(), ": ".to_owned()),
        None => (", ".to_owned(), ": ".to_owned()),
    };
    let style = JsonStyle {
        ensure_ascii,
        indent,
        item_separator,
        key_separator,
        sort_keys,
    };
    python::json_dumps(value, &style)
}

/// What a template itself refused, to be told apart from its own mistakes.
#[derive(Debug)]
struct Raised(String);

impl std::fmt::Display for Raised {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Raised {}

fn raise_exception(message: &Value) -> std::result::Result<Value, Error> {
    let message = python::str(message)?;
    Err(Error::new(ErrorKind::InvalidOperation, message.clone()).with_source(Raised(message)))
}

pub fn render_error(error: &Error) -> TextError {
    let mut cause: Option<&dyn std::error::Error> = Some(error);
    while let Some(current) = cause {
        if let Some(raised) = current.downcast_ref::<Raised>() {
            return TextError::invalid(raised.0.clone());
        }
        cause = current.source();
    }
    match error.kind() {
        ErrorKind::OutOfFuel => {
            TextError::invalid(format!("the chat template did not end within {FUEL} steps"))
        }
        _ => TextError::invalid(format!("chat template: {error}")),
    }
}

fn strftime_now(state: &State, format: &str) -> std::result::Result<String, Error> {
    let failed = || Error::new(ErrorKind::InvalidOperation, "strftime_now: bad format");
    let now = state
        .lookup(NOW_VARIABLE)
        .and_then(|now| now.as_i64())
        .ok_or_else(failed)?;
    if format.is_empty() {
        return Ok(String::new());
    }
    let format = std::ffi::CString::new(format).map_err(|_| failed())?;
    let mut buffer = [0_u8; 1024];
    // SAFETY: `broken_down` is plain data that localtime_r fills; strftime writes at most
    // buffer.len() bytes and returns how many, 0 when they do not suffice.
    let length = unsafe {
        let mut broken_down: libc::tm = std::mem::zeroed();
        if libc::localtime_r(&now, &mut broken_down).is_null() {
            return Err(failed());
        }
        libc::strftime(
            buffer.as_mut_ptr().cast(),
            buffer.len(),
            format.as_ptr(),
            &broken_down,
        )
    };
    if length == 0 {
        return Err(failed());
    }
    Ok(String::from_utf8_lossy(&buffer[..length]).into_owned())
}

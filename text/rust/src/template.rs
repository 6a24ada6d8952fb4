//! Chat templates with the semantics of Hugging Face's `apply_chat_template`.
//!
//! What a rendering may cost is bounded: steps and nesting (in `jinja`), and the text it writes.

use std::io::{self, Write};
use std::path::Path;

use minijinja::value::Value;
use minijinja::Environment;
use serde_json::{Map, Value as Json};

use crate::error::{Code, Result, TextError};
use crate::jinja::{new_environment, render_error, NOW_VARIABLE};
use crate::jinja_source::{check_names, with_percent_as_format, without_generation_tags};
use crate::model_files::ModelFiles;

const RENDERED_BYTES_MAX: usize = 64 << 20;

const CONTINUE_TAG: &str = "CONTINUE_FINAL_MESSAGE_TAG ";
/// A message's reasoning goes by several names; the first is the one that templates read.
const REASONING_FIELDS: [&str; 3] = ["reasoning_content", "thinking", "reasoning"];

pub struct ChatTemplate {
    environment: Environment<'static>,
    sources: Vec<(String, String)>,
    special_tokens: Map<String, Json>,
}

pub struct RenderRequest<'a> {
    pub messages: &'a str,
    pub tools: Option<&'a str>,
    pub kwargs: Option<&'a str>,
    pub name: Option<&'a str>,
    pub add_generation_prompt: bool,
    pub continue_final_message: bool,
    pub now_unix_seconds: i64,
}

impl ChatTemplate {
    pub fn load(directory: &Path, source: Option<&str>) -> Result<ChatTemplate> {
        let mut files = ModelFiles::read(directory)?;
        if let Some(source) = source {
            files.templates = vec![("default".to_owned(), source.to_owned())];
        }
        if files.templates.is_empty() {
            return Err(TextError::new(
                Code::NotFound,
                format!(
                    "{}: the model has no chat template (chat_template.jinja, or \"chat_template\" \
                     in tokenizer_config.json); give one with --chat-template",
                    directory.display()
                ),
            ));
        }
        let mut environment = new_environment();
        for (name, source) in &files.templates {
            let source = with_percent_as_format(&without_generation_tags(source));
            environment
                .add_template_owned(name.clone(), source)
                .and_then(|()| check_names(&environment, name))
                .map_err(|error| {
                    TextError::invalid(format!("chat template \"{name}\": {error}"))
                })?;
        }
        Ok(ChatTemplate {
            environment,
            sources: files.templates,
            special_tokens: files.special_tokens,
        })
    }

    pub fn source(&self, name: Option<&str>) -> Option<&str> {
        let name = name.unwrap_or("default");
        self.sources
            .iter()
            .find(|entry| entry.0 == name)
            .map(|entry| entry.1.as_str())
    }

    pub fn render(&self, request: &RenderRequest) -> Result<String> {
        if request.continue_final_message && request.add_generation_prompt {
            return Err(TextError::invalid(
                "add_generation_prompt and continue_final_message exclude each other: the first \
                 starts a new message, the second goes on with the last one",
            ));
        }
        let tools = request.tools.map(|text| parse("tools", text)).transpose()?;
        let name = self.choose(request.name, tools.is_some())?;
        let mut messages = parse_messages(request.messages)?;
        let continued = if request.continue_final_message {
            Some(mark_final_message(&mut messages)?)
        } else {
            None
        };
        let variables = self.variables(request, &messages, tools)?;
        let text = self.render_variables(name, variables)?;
        match continued {
            Some(final_text) => cut_at_mark(text, &final_text),
            None => Ok(text),
        }
    }

    fn choose<'a>(&'a self, name: Option<&'a str>, has_tools: bool) -> Result<&'a str> {
        let wanted = match name {
            Some(name) => name,
            None if has_tools && self.source(Some("tool_use")).is_some() => "tool_use",
            None => "default",
        };
        if self.source(Some(wanted)).is_some() {
            return Ok(wanted);
        }
        let known: Vec<&str> = self.sources.iter().map(|entry| entry.0.as_str()).collect();
        Err(TextError::invalid(format!(
            "the model has no chat template named \"{wanted}\"; it has: {}",
            known.join(", ")
        )))
    }

    fn variables(
        &self,
        request: &RenderRequest,
        messages: &[Json],
        tools: Option<Json>,
    ) -> Result<Vec<(String, Value)>> {
        let mut variables: Vec<(String, Value)> = Vec::new();
        let mut set = |name: &str, value: Value| variables.push((name.to_owned(), value));
        for (name, token) in &self.special_tokens {
            set(name, Value::from_serialize(token));
        }
        set("documents", Value::from(()));
        if let Some(kwargs) = request.kwargs {
            let Json::Object(kwargs) = parse("chat_template_kwargs", kwargs)? else {
                return Err(TextError::invalid(
                    "chat_template_kwargs must be a JSON object",
                ));
            };
            for (name, value) in &kwargs {
                set(name, Value::from_serialize(value));
            }
        }
        set("messages", Value::from_serialize(messages));
        set(
            "tools",
            tools.map_or(Value::from(()), |tools| Value::from_serialize(&tools)),
        );
        set(
            "add_generation_prompt",
            Value::from(request.add_generation_prompt),
        );
        set(NOW_VARIABLE, Value::from(request.now_unix_seconds));
        Ok(variables)
    }

    fn render_variables(&self, name: &str, variables: Vec<(String, Value)>) -> Result<String> {
        let template = self
            .environment
            .get_template(name)
            .map_err(|error| TextError::new(Code::Internal, error.to_string()))?;
        let mut out = BoundedText {
            bytes: Vec::new(),
            overflowed: false,
        };
        let context = Value::from_iter(variables);
        let rendered = template.render_captured_to(context, &mut out).map(|_| ());
        if out.overflowed {
            return Err(TextError::invalid(format!(
                "the chat template wrote more than {RENDERED_BYTES_MAX} bytes"
            )));
        }
        rendered.map_err(|error| render_error(&error))?;
        String::from_utf8(out.bytes)
            .map_err(|_| TextError::new(Code::Internal, "the chat template wrote bad UTF-8"))
    }
}

// --- Messages -----------------------------------------------------------------------------------

fn parse(what: &str, text: &str) -> Result<Json> {
    serde_json::from_str(text).map_err(|error| TextError::invalid(format!("{what}: {error}")))
}

fn parse_messages(text: &str) -> Result<Vec<Json>> {
    let Json::Array(mut messages) = parse("messages", text)? else {
        return Err(TextError::invalid("messages must be a JSON array"));
    };
    for (i, message) in messages.iter_mut().enumerate() {
        let Json::Object(message) = message else {
            return Err(TextError::invalid(format!(
                "messages[{i}] must be a JSON object"
            )));
        };
        name_reasoning(message);
    }
    Ok(messages)
}

fn name_reasoning(message: &mut Map<String, Json>) {
    let told = |field: &&str| {
        message
            .get(*field)
            .filter(|value| !value.is_null())
            .cloned()
    };
    if let Some(reasoning) = REASONING_FIELDS.iter().find_map(told) {
        message
            .entry("thinking")
            .or_insert_with(|| reasoning.clone());
        message.insert("reasoning_content".to_owned(), reasoning);
    }
}

/// Puts a mark at the end of the last message's text, which is returned as it was.
fn mark_final_message(messages: &mut [Json]) -> Result<String> {
    let content = messages
        .last_mut()
        .and_then(|message| message.get_mut("content"));
    let text = match content {
        Some(Json::Array(parts)) => parts.iter_mut().rev().find_map(|part| part.get_mut("text")),
        content => content,
    };
    let Some(Json::String(text)) = text else {
        return Err(TextError::invalid(
            "continue_final_message needs a last message with text to continue",
        ));
    };
    let original = text.clone();
    text.push_str(CONTINUE_TAG);
    Ok(original)
}

fn cut_at_mark(mut rendered: String, final_text: &str) -> Result<String> {
    let mark = rendered
        .rfind(CONTINUE_TAG.trim())
        .filter(|_| rendered.contains(final_text.trim()));
    let Some(mark) = mark else {
        return Err(TextError::invalid(
            "continue_final_message: the chat template does not render the last message's text as \
             it is, so it cannot be continued",
        ));
    };
    let keeps_space = rendered[mark..].starts_with(CONTINUE_TAG);
    rendered.truncate(mark);
    if !keeps_space {
        rendered.truncate(rendered.trim_end().len());
    }
    Ok(rendered)
}

struct BoundedText {
    bytes: Vec<u8>,
    overflowed: bool,
}

impl Write for BoundedText {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + bytes.len() > RENDERED_BYTES_MAX {
            self.overflowed = true;
            return Err(io::Error::other("too much text"));
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

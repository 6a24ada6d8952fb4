//! The text files of a Hugging Face model directory: what each says about special tokens and chat
//! templates.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use serde_json::{Map, Value};

use crate::error::{Code, Result, TextError};

/// `None`: there is no such file.
pub fn read_text(path: &Path) -> Result<Option<String>> {
    // A pipe would be waited for without end.
    if fs::metadata(path).is_ok_and(|found| !found.is_file()) {
        return Err(TextError::broken_file(path, "not a regular file"));
    }
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => {
            return Err(TextError::new(
                Code::NotFound,
                format!("{}: {error}", path.display()),
            ))
        }
    };
    String::from_utf8(bytes).map(Some).map_err(|error| {
        TextError::broken_file(
            path,
            format!("not UTF-8 (byte {})", error.utf8_error().valid_up_to()),
        )
    })
}

fn read_json_object(path: &Path) -> Result<Map<String, Value>> {
    let Some(text) = read_text(path)? else {
        return Ok(Map::new());
    };
    match serde_json::from_str(&text) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(TextError::broken_file(path, "not a JSON object")),
        Err(error) => Err(TextError::broken_file(path, error)),
    }
}

const ROLE_KEYS: [&str; 7] = [
    "bos_token",
    "eos_token",
    "unk_token",
    "sep_token",
    "pad_token",
    "cls_token",
    "mask_token",
];

/// A special token is written as its text or as an object with its text in "content".
fn token_text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Object(object) => object.get("content")?.as_str().map(str::to_owned),
        _ => None,
    }
}

pub struct ModelFiles {
    /// "bos_token" -> its text, and "additional_special_tokens" -> a list of texts.
    pub special_tokens: Map<String, Value>,
    /// Named chat templates; a lone one is "default".
    pub templates: Vec<(String, String)>,
}

impl ModelFiles {
    pub fn read(directory: &Path) -> Result<ModelFiles> {
        let config_path = directory.join("tokenizer_config.json");
        let config = read_json_object(&config_path)?;
        let special_map = read_json_object(&directory.join("special_tokens_map.json"))?;
        Ok(ModelFiles {
            special_tokens: special_tokens(&config, &special_map),
            templates: templates(directory, &config_path, &config)?,
        })
    }

    pub fn special_token(&self, role: &str) -> Option<&str> {
        self.special_tokens.get(role)?.as_str()
    }
}

fn special_tokens(
    config: &Map<String, Value>,
    special_map: &Map<String, Value>,
) -> Map<String, Value> {
    let find = |key: &str| {
        let told = config.get(key).filter(|value| !value.is_null());
        told.or_else(|| special_map.get(key))
    };
    let mut found = Map::new();
    for key in ROLE_KEYS {
        if let Some(text) = find(key).and_then(token_text) {
            found.insert(key.to_owned(), Value::String(text));
        }
    }
    if let Some(Value::Array(more)) = find("additional_special_tokens") {
        let texts = more
            .iter()
            .filter_map(token_text)
            .map(Value::String)
            .collect();
        found.insert("additional_special_tokens".to_owned(), Value::Array(texts));
    }
    found
}

/// Template files win over the configuration, as in transformers.
fn templates(
    directory: &Path,
    config_path: &Path,
    config: &Map<String, Value>,
) -> Result<Vec<(String, String)>> {
    let mut found = template_files(directory)?;
    if found.is_empty() {
        found = configured_templates(config_path, config)?;
    }
    if found.is_empty() {
        let path = directory.join("chat_template.json");
        found = configured_templates(&path, &read_json_object(&path)?)?;
    }
    Ok(found)
}

fn template_files(directory: &Path) -> Result<Vec<(String, String)>> {
    let mut found = Vec::new();
    if let Some(source) = read_text(&directory.join("chat_template.jinja"))? {
        found.push(("default".to_owned(), source));
    }
    let Ok(entries) = fs::read_dir(directory.join("additional_chat_templates")) else {
        return Ok(found);
    };
    let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths
        .iter()
        .filter(|path| path.extension().is_some_and(|e| e == "jinja"))
    {
        let name = path.file_stem().and_then(|stem| stem.to_str());
        if let (Some(name), Some(source)) = (name, read_text(path)?) {
            found.push((name.to_owned(), source));
        }
    }
    Ok(found)
}

fn configured_templates(path: &Path, config: &Map<String, Value>) -> Result<Vec<(String, String)>> {
    let wrong = || {
        TextError::broken_file(
            path,
            "\"chat_template\" must be a string or a list of {\"name\": ..., \"template\": ...}",
        )
    };
    match config.get("chat_template") {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::String(source)) => Ok(vec![("default".to_owned(), source.clone())]),
        Some(Value::Array(list)) => list
            .iter()
            .map(|entry| {
                let name = entry
                    .get("name")
                    .and_then(Value::as_str)
                    .ok_or_else(wrong)?;
                let source = entry
                    .get("template")
                    .and_then(Value::as_str)
                    .ok_or_else(wrong)?;
                Ok((name.to_owned(), source.to_owned()))
            })
            .collect(),
        Some(_) => Err(wrong()),
    }
}

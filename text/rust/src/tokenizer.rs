//! A tokenizer of a model directory.

use std::panic::catch_unwind;
use std::path::Path;

use tokenizers::Tokenizer;

use crate::error::{Code, Result, TextError};
use crate::model_files::{read_text, ModelFiles};
use crate::pieces::Pieces;
use crate::plain_bpe;
use crate::short_way::ShortWay;

pub struct RoleToken {
    pub text: String,
    pub id: i32,
}

pub struct TextTokenizer {
    tokenizer: Tokenizer,
    short_way: Option<ShortWay>,
    pub pieces: Pieces,
    /// In the order of TriremeTextRole.
    pub roles: [Option<RoleToken>; 4],
}

impl TextTokenizer {
    pub fn load(directory: &Path) -> Result<TextTokenizer> {
        let path = directory.join("tokenizer.json");
        let Some(json) = read_text(&path)? else {
            return Err(TextError::new(
                Code::NotFound,
                format!(
                    "{}: no such file; a model needs a tokenizer.json",
                    path.display()
                ),
            ));
        };
        let mut tokenizer = parse(&path, &json)?;
        // A prompt is never cut or filled up behind the caller's back.
        tokenizer.with_padding(None);
        tokenizer
            .with_truncation(None)
            .map_err(|error| TextError::broken_file(&path, error))?;
        let pieces = Pieces::new(&tokenizer).map_err(|error| {
            TextError::new(error.code, format!("{}: {}", path.display(), error.message))
        })?;
        let files = ModelFiles::read(directory)?;
        let role = |key: &str| {
            files.special_token(key).map(|text| RoleToken {
                text: text.to_owned(),
                id: tokenizer.token_to_id(text).map_or(-1, |id| id as i32),
            })
        };
        let roles = [
            role("bos_token"),
            role("eos_token"),
            role("pad_token"),
            role("unk_token"),
        ];
        let short_way = ShortWay::of(&tokenizer);
        Ok(TextTokenizer {
            tokenizer,
            short_way,
            pieces,
            roles,
        })
    }

    pub fn encode(&self, text: &str, add_special_tokens: bool) -> Result<Vec<i32>> {
        let short_way = self.short_way.as_ref();
        if let Some(ids) =
            short_way.and_then(|way| way.encode(&self.tokenizer, text, add_special_tokens))
        {
            return Ok(ids);
        }
        let encoding = self
            .tokenizer
            .encode_fast(text, add_special_tokens)
            .map_err(|error| TextError::new(Code::Internal, format!("cannot encode: {error}")))?;
        Ok(encoding.get_ids().iter().map(|id| *id as i32).collect())
    }

    pub fn decode(&self, ids: &[i32], skip_special_tokens: bool) -> Result<String> {
        // An id below zero names no token, like one beyond the vocabulary: both give nothing.
        let ids: Vec<u32> = ids
            .iter()
            .filter_map(|id| u32::try_from(*id).ok())
            .collect();
        self.tokenizer
            .decode(&ids, skip_special_tokens)
            .map_err(|error| TextError::new(Code::Internal, format!("cannot decode: {error}")))
    }

    pub fn token_to_id(&self, token: &str) -> Option<u32> {
        self.tokenizer.token_to_id(token)
    }
}

/// The crate panics on some files that are cut off or lie about themselves, on a few of them only
/// when it encodes: so a word is tried.
fn parse(path: &Path, json: &str) -> Result<Tokenizer> {
    let read = || {
        let tokenizer = match plain_bpe::read(json) {
            Some(tokenizer) => tokenizer,
            None => json.parse::<Tokenizer>()?,
        };
        tokenizer.encode_fast("a", true)?;
        tokenizers::Result::Ok(tokenizer)
    };
    match catch_unwind(read) {
        Ok(parsed) => parsed.map_err(|error| TextError::broken_file(path, error)),
        Err(_) => Err(match serde_json::from_str::<serde_json::Value>(json) {
            Err(error) => TextError::broken_file(path, error),
            Ok(_) => TextError::broken_file(path, "its parts do not fit together"),
        }),
    }
}

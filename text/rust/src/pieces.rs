//! The decoder of a tokenizer worked out for each token, so that a stream is decoded by look-up.
//!
//! A decoder is a chain of stages. Those that see one token at a time (Replace, Metaspace,
//! WordPiece, Strip before anything is joined) are run here, over the whole vocabulary, by the
//! crate's own code. What remains for the stream is little: bytes that make characters together,
//! and a cut at the start of the text. A chain that does not come down to this is refused.

use tokenizers::decoders::sequence::Sequence;
use tokenizers::decoders::DecoderWrapper;
use tokenizers::pre_tokenizers::metaspace::PrependScheme;
use tokenizers::{Decoder, Model, Tokenizer};

use crate::error::{Code, Result, TextError};

pub const PRESENT: u8 = 1;
pub const SPECIAL: u8 = 2;
pub const ADDED: u8 = 4;
pub const BYTE: u8 = 8;

/// Larger ids would be a table of nothing: no vocabulary of the field reaches a tenth of it.
const TOKEN_COUNT_MAX: usize = 1 << 22;

pub struct Pieces {
    pub offsets: Vec<u32>,
    pub flags: Vec<u8>,
    pub bytes: Vec<u8>,
    pub joins_bytes: bool,
    pub strip_byte: u8,
    pub strip_count: usize,
}

/// The chain, sorted into what is done now and what is left to the stream.
struct Plan {
    per_token: Vec<DecoderWrapper>,
    first_differs: bool,
    byte_level: bool,
    byte_fallback: bool,
    fused: bool,
    strip: Option<(u8, usize)>,
}

impl Pieces {
    pub fn new(tokenizer: &Tokenizer) -> Result<Pieces> {
        let texts = token_texts(tokenizer)?;
        match tokenizer.get_decoder() {
            Some(decoder) => Plan::new(decoder)?.pieces(tokenizer, &texts),
            None => Ok(joined_by_spaces(tokenizer, &texts)),
        }
    }
}

/// What each id below the largest of all stands for.
fn token_texts(tokenizer: &Tokenizer) -> Result<Vec<Option<String>>> {
    let model = tokenizer.get_model();
    let added = tokenizer.get_added_vocabulary().get_vocab();
    // Where the model's ids have no gap, its vocabulary need not be copied to find the largest.
    let mut texts: Vec<_> = (0..model.get_vocab_size() as u32)
        .map(|id| model.id_to_token(id))
        .collect();
    let model_count = if texts.iter().all(Option::is_some) {
        texts.len()
    } else {
        count_up_to(model.get_vocab().values())
    };
    let token_count = model_count.max(count_up_to(added.values()));
    if token_count > TOKEN_COUNT_MAX {
        return Err(TextError::new(
            Code::DataLoss,
            format!(
                "token id {} is beyond the largest allowed, {}",
                token_count - 1,
                TOKEN_COUNT_MAX - 1
            ),
        ));
    }
    texts.truncate(token_count);
    texts.extend((texts.len()..token_count).map(|id| model.id_to_token(id as u32)));
    for id in added.values() {
        texts[*id as usize] = tokenizer.id_to_token(*id);
    }
    Ok(texts)
}

fn count_up_to<'a>(ids: impl Iterator<Item = &'a u32>) -> usize {
    ids.max().map_or(0, |id| *id as usize + 1)
}

impl Plan {
    fn new(decoder: &DecoderWrapper) -> Result<Plan> {
        let mut plan = Plan {
            per_token: Vec::new(),
            first_differs: false,
            byte_level: false,
            byte_fallback: false,
            fused: false,
            strip: None,
        };
        plan.add(decoder)?;
        Ok(plan)
    }

    fn add(&mut self, decoder: &DecoderWrapper) -> Result<()> {
        use DecoderWrapper as D;
        let joined = self.byte_level || self.fused;
        match decoder {
            D::Sequence(sequence) => {
                return sequence
                    .get_decoders()
                    .iter()
                    .try_for_each(|stage| self.add(stage));
            }
            D::Fuse(_) => self.fused = true,
            D::Strip(strip)
                if joined
                    && self.strip.is_none()
                    && strip.stop == 0
                    && strip.content.is_ascii() =>
            {
                self.strip = Some((strip.content as u8, strip.start));
            }
            _ if joined || self.byte_fallback => return Err(unsupported(decoder, "at this place")),
            D::ByteLevel(_) => self.byte_level = true,
            D::ByteFallback(_) => self.byte_fallback = true,
            D::Metaspace(metaspace) => {
                self.first_differs |= metaspace.prepend_scheme != PrependScheme::Never;
                self.per_token.push(decoder.clone());
            }
            D::WordPiece(_) => {
                self.first_differs = true;
                self.per_token.push(decoder.clone());
            }
            D::Replace(_) | D::Strip(_) => self.per_token.push(decoder.clone()),
            D::BPE(_) | D::CTC(_) => return Err(unsupported(decoder, "in a stream")),
        }
        Ok(())
    }

    fn pieces(&self, tokenizer: &Tokenizer, texts: &[Option<String>]) -> Result<Pieces> {
        let chain = Sequence::new(self.per_token.clone());
        let run = |tokens: Vec<String>| {
            chain.decode_chain(tokens).map_err(|error| {
                TextError::new(
                    Code::DataLoss,
                    format!("the decoder fails on its own tokens: {error}"),
                )
            })
        };
        let decoded = if self.per_token.is_empty() {
            None
        } else {
            // A token in front of the others, so that none of them is the first.
            let all = std::iter::once(None).chain(texts.iter().map(Option::as_ref));
            Some(run(all
                .map(|text| text.cloned().unwrap_or_default())
                .collect())?)
        };
        let mut table = Table::new(tokenizer, texts.len());
        for (id, text) in texts.iter().enumerate() {
            let Some(text) = text else {
                table.push_absent();
                continue;
            };
            let rest = decoded.as_ref().map_or(text, |decoded| &decoded[id + 1]);
            let first = if self.first_differs {
                Some(run(vec![text.clone()])?.concat())
            } else {
                None
            };
            if self.byte_level {
                let rest = unmapped_bytes(rest);
                let first = first.map(|first| unmapped_bytes(&first));
                table.push(id, text, first.as_ref().unwrap_or(&rest), &rest, 0);
            } else if let Some(byte) = fallback_byte(rest).filter(|_| self.byte_fallback) {
                table.push(id, text, &[byte], &[byte], BYTE);
            } else {
                let first = first.as_ref().unwrap_or(rest);
                table.push(id, text, first.as_bytes(), rest.as_bytes(), 0);
            }
        }
        let (strip_byte, strip_count) = self.strip.unwrap_or((0, 0));
        Ok(table.finish(self.byte_level, strip_byte, strip_count))
    }
}

/// What `Tokenizer::decode` does without a decoder.
fn joined_by_spaces(tokenizer: &Tokenizer, texts: &[Option<String>]) -> Pieces {
    let mut table = Table::new(tokenizer, texts.len());
    for (id, text) in texts.iter().enumerate() {
        match text {
            Some(text) => {
                table.push(id, text, text.as_bytes(), format!(" {text}").as_bytes(), 0);
            }
            None => table.push_absent(),
        }
    }
    table.finish(false, 0, 0)
}

fn unsupported(decoder: &DecoderWrapper, place: &str) -> TextError {
    let name = format!("{decoder:?}");
    let name = name.split('(').next().unwrap_or_default();
    TextError::new(
        Code::Unimplemented,
        format!(
            "decoder {name} is not supported {place}; supported: ByteLevel, or Replace, Metaspace, \
             WordPiece and Strip, then ByteFallback, then Fuse and Strip of the start"
        ),
    )
}

/// As in the crate's ByteFallback.
fn fallback_byte(token: &str) -> Option<u8> {
    if token.len() == 6 && token.starts_with("<0x") && token.ends_with('>') {
        u8::from_str_radix(&token[3..5], 16).ok()
    } else {
        None
    }
}

/// As in the crate's ByteLevel: a token with a character outside the byte alphabet stands for
/// itself.
fn unmapped_bytes(token: &str) -> Vec<u8> {
    token
        .chars()
        .map(mapped_byte)
        .collect::<Option<Vec<u8>>>()
        .unwrap_or_else(|| token.as_bytes().to_vec())
}

/// Inverse of GPT-2's byte alphabet: printable Latin-1 stands for itself, the other 68 bytes are
/// U+0100 and on, in order.
fn mapped_byte(c: char) -> Option<u8> {
    match c as u32 {
        code if is_printable(code) => Some(code as u8),
        code @ 0x100..=0x143 => Some(SHIFTED_BYTES[(code - 0x100) as usize]),
        _ => None,
    }
}

const fn is_printable(code: u32) -> bool {
    matches!(code, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff)
}

const SHIFTED_BYTES: [u8; 68] = {
    let mut bytes = [0; 68];
    let (mut byte, mut count) = (0_u32, 0);
    while byte < 256 {
        if !is_printable(byte) {
            bytes[count] = byte as u8;
            count += 1;
        }
        byte += 1;
    }
    bytes
};

struct Table<'a> {
    tokenizer: &'a Tokenizer,
    offsets: Vec<u32>,
    flags: Vec<u8>,
    bytes: Vec<u8>,
}

impl<'a> Table<'a> {
    fn new(tokenizer: &'a Tokenizer, token_count: usize) -> Self {
        let mut offsets = Vec::with_capacity(3 * token_count + 1);
        offsets.push(0);
        Table {
            tokenizer,
            offsets,
            flags: Vec::with_capacity(token_count),
            bytes: Vec::new(),
        }
    }

    fn push_text(&mut self, text: &[u8]) {
        self.bytes.extend_from_slice(text);
        self.offsets.push(self.bytes.len() as u32);
    }

    fn push_absent(&mut self) {
        (0..3).for_each(|_| self.push_text(&[]));
        self.flags.push(0);
    }

    fn push(&mut self, id: usize, text: &str, first: &[u8], rest: &[u8], kind: u8) {
        let added = self.tokenizer.get_added_vocabulary();
        let mut flags = PRESENT | kind;
        if added.is_special_token(text) {
            flags |= SPECIAL;
        }
        if added.get_added_tokens_decoder().contains_key(&(id as u32)) {
            flags |= ADDED;
        }
        self.push_text(first);
        self.push_text(rest);
        self.push_text(text.as_bytes());
        self.flags.push(flags);
    }

    fn finish(mut self, joins_bytes: bool, strip_byte: u8, strip_count: usize) -> Pieces {
        self.bytes.shrink_to_fit();
        Pieces {
            offsets: self.offsets,
            flags: self.flags,
            bytes: self.bytes,
            joins_bytes,
            strip_byte,
            strip_count,
        }
    }
}

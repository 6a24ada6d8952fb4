//! The short way from an ASCII text to its ids, for byte-level BPE tokenizers.
//!
//! The crate keeps offsets and alignments for every character, which no server asks for. Here the
//! text is split into words (`ascii_words`), and a word's ids, which the crate's own model gives
//! once, are remembered. Whatever is not of the common shape (another normalizer, split or model,
//! text beyond ASCII, text in which an added token may stand) goes the crate's way.
//!
//! Threads: any; who finds the memory in use goes the crate's way. Bounds: WORDS_MAX words of at most
//! WORD_BYTES_MAX bytes.

use std::collections::HashMap;
use std::sync::Mutex;

use tokenizers::models::ModelWrapper;
use tokenizers::pre_tokenizers::split::SplitPattern;
use tokenizers::{
    Model, NormalizerWrapper, PreTokenizerWrapper, SplitDelimiterBehavior, Tokenizer,
};

use crate::ascii_words::{SplitRule, Words};

const WORDS_MAX: usize = 32 * 1024;
const WORD_BYTES_MAX: usize = 32;

pub struct ShortWay {
    rule: SplitRule,
    /// Bytes with which an added token begins.
    added: [bool; 256],
    /// What the post-processor puts before and after, when special tokens are asked for.
    before: Vec<i32>,
    after: Vec<i32>,
    words: Mutex<HashMap<Box<[u8]>, Box<[i32]>>>,
}

impl ShortWay {
    /// None: not of the common shape.
    pub fn of(tokenizer: &Tokenizer) -> Option<ShortWay> {
        use NormalizerWrapper as N;
        let leaves_ascii = matches!(
            tokenizer.get_normalizer(),
            None | Some(N::NFC(_) | N::NFD(_) | N::NFKC(_) | N::NFKD(_))
        );
        if !leaves_ascii || !is_plain_bpe(tokenizer.get_model()) {
            return None;
        }
        let rule = split_rule(tokenizer.get_pre_tokenizer()?)?;
        let mut added = [false; 256];
        for id in tokenizer.get_added_vocabulary().get_vocab().values() {
            // As it stands in a normalized text.
            let token = tokenizer.id_to_token(*id)?;
            added[usize::from(*token.as_bytes().first()?)] = true;
        }
        let (before, after) = frame(tokenizer)?;
        Some(ShortWay {
            rule,
            added,
            before,
            after,
            words: Mutex::default(),
        })
    }

    /// None: the crate must do it.
    pub fn encode(
        &self,
        tokenizer: &Tokenizer,
        text: &str,
        add_special_tokens: bool,
    ) -> Option<Vec<i32>> {
        if !text.is_ascii() || text.bytes().any(|byte| self.added[usize::from(byte)]) {
            return None;
        }
        let mut words = self.words.try_lock().ok()?;
        let mut ids = Vec::with_capacity(text.len() / 3 + 2);
        if add_special_tokens {
            ids.extend_from_slice(&self.before);
        }
        for range in Words::new(text, self.rule) {
            let word = &text[range];
            if let Some(known) = words.get(word.as_bytes()) {
                ids.extend_from_slice(known);
                continue;
            }
            let fresh = model_ids(tokenizer, word)?;
            ids.extend_from_slice(&fresh);
            if words.len() < WORDS_MAX && word.len() <= WORD_BYTES_MAX {
                words.insert(word.as_bytes().into(), fresh.into());
            }
        }
        if add_special_tokens {
            ids.extend_from_slice(&self.after);
        }
        Some(ids)
    }
}

fn is_plain_bpe(model: &ModelWrapper) -> bool {
    let ModelWrapper::BPE(model) = model else {
        return false;
    };
    let is_nothing = |text: &Option<String>| text.as_ref().is_none_or(String::is_empty);
    model.dropout.is_none()
        && is_nothing(&model.continuing_subword_prefix)
        && is_nothing(&model.end_of_word_suffix)
}

fn split_rule(pre_tokenizer: &PreTokenizerWrapper) -> Option<SplitRule> {
    let is_byte_level = |stage: &PreTokenizerWrapper, use_regex: bool| {
        matches!(stage, PreTokenizerWrapper::ByteLevel(bytes)
            if !bytes.add_prefix_space && bytes.use_regex == use_regex)
    };
    if is_byte_level(pre_tokenizer, true) {
        return Some(SplitRule::Gpt2);
    }
    let PreTokenizerWrapper::Sequence(chain) = pre_tokenizer else {
        return None;
    };
    let [PreTokenizerWrapper::Split(split), bytes] = chain.as_ref() else {
        return None;
    };
    let is_isolated = matches!(split.behavior, SplitDelimiterBehavior::Isolated);
    match &split.pattern {
        SplitPattern::Regex(pattern)
            if is_isolated && !split.invert && is_byte_level(bytes, false) =>
        {
            SplitRule::of_pattern(pattern)
        }
        _ => None,
    }
}

/// What stands before and after the ids of any text, by two that have no id in common.
fn frame(tokenizer: &Tokenizer) -> Option<(Vec<i32>, Vec<i32>)> {
    let encode = |text: &str, special: bool| -> Option<Vec<i32>> {
        let encoding = tokenizer.encode_fast(text, special).ok()?;
        Some(encoding.get_ids().iter().map(|id| *id as i32).collect())
    };
    let probes = [
        (encode("a", false)?, encode("a", true)?),
        (encode("0", false)?, encode("0", true)?),
    ];
    let longer = probes[0].1.len().checked_sub(probes[0].0.len())?;
    let (before, after) = (0..=longer).find_map(|cut| {
        let whole = &probes[0].1;
        let (before, after) = (&whole[..cut], &whole[whole.len() - (longer - cut)..]);
        let holds = probes
            .iter()
            .all(|(plain, framed)| [before, plain.as_slice(), after].concat() == *framed);
        holds.then(|| (before.to_vec(), after.to_vec()))
    })?;
    Some((before, after))
}

/// The ids of one word; the model wants bytes written as the characters that stand for them.
fn model_ids(tokenizer: &Tokenizer, word: &str) -> Option<Vec<i32>> {
    let written: String = word
        .bytes()
        .map(|byte| match byte {
            b'!'..=b'~' => char::from(byte),
            0..=b' ' => char::from_u32(0x100 + u32::from(byte)).unwrap_or(' '),
            _ => '\u{121}', // Delete, the next one of those that do not print.
        })
        .collect();
    let tokens = tokenizer.get_model().tokenize(&written).ok()?;
    Some(tokens.iter().map(|token| token.id as i32).collect())
}

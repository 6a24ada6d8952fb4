//! The words that the split patterns of the field's byte-level tokenizers make of an ASCII text,
//! without a regular-expression engine. `conformance_test.py` holds them to the patterns themselves.

use std::ops::Range;

/// Of Llama 3 (up to three digits a word) and Qwen 2 (one).
const CONTRACTIONS: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|";
const REST: &str = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum SplitRule {
    /// `use_regex` of the ByteLevel pre-tokenizer.
    Gpt2,
    /// A Split by pattern, of Llama 3 and Qwen 2.
    Runs { digits_max: usize },
}

impl SplitRule {
    pub fn of_pattern(pattern: &str) -> Option<SplitRule> {
        let digits = pattern.strip_prefix(CONTRACTIONS)?.strip_suffix(REST)?;
        match digits {
            r"\p{N}" => Some(SplitRule::Runs { digits_max: 1 }),
            r"\p{N}{1,3}" => Some(SplitRule::Runs { digits_max: 3 }),
            _ => None,
        }
    }
}

/// Every byte belongs to exactly one word.
pub struct Words<'a> {
    text: &'a [u8],
    at: usize,
    rule: SplitRule,
}

impl<'a> Words<'a> {
    /// `text` must be ASCII.
    pub fn new(text: &'a str, rule: SplitRule) -> Words<'a> {
        debug_assert!(text.is_ascii());
        Words {
            text: text.as_bytes(),
            at: 0,
            rule,
        }
    }
}

impl Iterator for Words<'_> {
    type Item = Range<usize>;

    fn next(&mut self) -> Option<Range<usize>> {
        if self.at == self.text.len() {
            return None;
        }
        let begin = self.at;
        self.at += match self.rule {
            SplitRule::Gpt2 => gpt2_word(&self.text[begin..]),
            SplitRule::Runs { digits_max } => runs_word(&self.text[begin..], digits_max),
        };
        Some(begin..self.at)
    }
}

/// White_Space of Unicode, as `\s` of the engine has it: with the vertical tab.
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | 0x09..=0x0d)
}

fn is_newline(byte: u8) -> bool {
    matches!(byte, b'\r' | b'\n')
}

fn is_other(byte: u8) -> bool {
    !is_space(byte) && !byte.is_ascii_alphanumeric()
}

fn run(text: &[u8], belongs: impl Fn(u8) -> bool) -> usize {
    text.iter().take_while(|byte| belongs(**byte)).count()
}

/// `'s|'t|'re|'ve|'m|'ll|'d`; 0: none.
fn contraction(text: &[u8], any_case: bool) -> usize {
    let letter = |at: usize| {
        let byte = text.get(at).copied().unwrap_or(0);
        if any_case {
            byte.to_ascii_lowercase()
        } else {
            byte
        }
    };
    match (text[0], letter(1), letter(2)) {
        (b'\'', b's' | b't' | b'm' | b'd', _) => 2,
        (b'\'', b'r' | b'v', b'e') | (b'\'', b'l', b'l') => 3,
        _ => 0,
    }
}

/// `\s+(?!\S)|\s+`: the spaces but the last one, which goes with the word after them.
fn spaces(text: &[u8]) -> usize {
    let length = run(text, is_space);
    if length == text.len() || length == 1 {
        length
    } else {
        length - 1
    }
}

/// `'s|…|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`
fn gpt2_word(text: &[u8]) -> usize {
    let short = contraction(text, false);
    if short > 0 {
        return short;
    }
    let skip = usize::from(text[0] == b' ');
    let rest = &text[skip..];
    let class: fn(u8) -> bool = match rest.first() {
        Some(byte) if byte.is_ascii_alphabetic() => |byte| byte.is_ascii_alphabetic(),
        Some(byte) if byte.is_ascii_digit() => |byte| byte.is_ascii_digit(),
        Some(byte) if is_other(*byte) => is_other,
        _ => return spaces(text),
    };
    skip + run(rest, class)
}

/// `CONTRACTIONS \p{N}{1,digits_max} REST`
fn runs_word(text: &[u8], digits_max: usize) -> usize {
    let short = contraction(text, true);
    if short > 0 {
        return short;
    }
    let is_letter = |byte: u8| byte.is_ascii_alphabetic();
    let first = text[0];
    let skip = usize::from(!is_newline(first) && !first.is_ascii_alphanumeric());
    let letters = run(&text[skip..], is_letter);
    if letters > 0 {
        return skip + letters;
    }
    if first.is_ascii_digit() {
        return run(text, |byte| byte.is_ascii_digit()).min(digits_max);
    }
    let skip = usize::from(first == b' ');
    let others = run(&text[skip..], is_other);
    if others > 0 {
        return skip + others + run(&text[skip + others..], is_newline);
    }
    let length = run(text, is_space);
    match text[..length].iter().rposition(|byte| is_newline(*byte)) {
        Some(last) => last + 1,
        None => spaces(text),
    }
}

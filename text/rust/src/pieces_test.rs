//! Goal: the table has a row for each id up to the largest, and a token where the tokenizer has one.
//! Method: vocabularies whose ids have gaps or are said twice, with added tokens on top.

use serde_json::{json, Value};
use tokenizers::Tokenizer;

use crate::pieces::{Pieces, ADDED, PRESENT, SPECIAL};

fn tokenizer_of(vocabulary: Value) -> Tokenizer {
    let added = |content: &str, special: bool| {
        json!({"id": 0, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
               "normalized": false, "special": special})
    };
    let file = json!({
        "version": "1.0", "added_tokens": [added("<s>", true), added("a", false)],
        "decoder": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true},
        "model": {"type": "BPE", "vocab": vocabulary, "merges": []},
    });
    file.to_string().parse().expect("a tokenizer")
}

fn check(vocabulary: Value) -> Pieces {
    let tokenizer = tokenizer_of(vocabulary);
    let pieces = Pieces::new(&tokenizer).expect("pieces");
    let largest = tokenizer.get_vocab(true).into_values().max();
    assert_eq!(pieces.flags.len(), largest.map_or(0, |id| id as usize + 1));
    assert_eq!(pieces.offsets.len(), 3 * pieces.flags.len() + 1);
    for (id, flags) in pieces.flags.iter().enumerate() {
        let text = tokenizer.id_to_token(id as u32);
        assert_eq!(flags & PRESENT != 0, text.is_some(), "{id}");
        // First, elsewhere, and the token itself.
        let range = pieces.offsets[3 * id + 2] as usize..pieces.offsets[3 * id + 3] as usize;
        assert_eq!(
            &pieces.bytes[range],
            text.unwrap_or_default().as_bytes(),
            "{id}"
        );
    }
    pieces
}

#[test]
fn ids_without_a_gap_have_a_row_each() {
    let pieces = check(json!({"a": 0, "b": 1, "Ġb": 2}));
    assert_eq!(
        pieces.flags,
        [PRESENT | ADDED, PRESENT, PRESENT, PRESENT | ADDED | SPECIAL]
    );
}

#[test]
fn ids_with_gaps_have_empty_rows_between() {
    check(json!({"a": 0, "b": 2, "c": 7}));
    check(json!({"a": 1000}));
    check(json!({"b": 5}));
    // The first added token gets the id that equals the size of the vocabulary.
    check(json!({"b": 0, "c": 2}));
}

#[test]
fn two_tokens_with_one_id_are_one_row() {
    check(json!({"a": 0, "b": 1, "c": 1}));
    check(json!({"b": 0, "c": 0, "d": 0, "e": 0}));
}

#[test]
fn an_empty_vocabulary_has_the_added_tokens() {
    check(json!({}));
}

#[test]
fn an_absurd_id_is_refused() {
    for id in [1_u32 << 22, u32::MAX] {
        let refusal = Pieces::new(&tokenizer_of(json!({"a": 0, "b": id})));
        let message = refusal.err().expect("an error").message;
        assert!(message.contains(&id.to_string()), "{message}");
    }
}

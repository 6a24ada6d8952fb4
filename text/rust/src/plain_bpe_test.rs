//! Goal: what is read in one pass is what the crate makes of the same file, and what the crate
//! refuses is not read. Method: both readings of the test tokenizers, of files written for one rule,
//! and of a small file with bytes changed at random.

use std::collections::{HashMap, HashSet};
use std::panic::catch_unwind;
use std::path::Path;

use serde_json::{json, Value};
use tokenizers::Tokenizer;

use crate::plain_bpe;

const TEXTS: [&str; 8] = [
    "",
    "The capital of Paris is Berlin!",
    " x  and\n\n then\t 12345 <s>",
    "x<tool_call>y </s><｜end▁of▁turn｜> <s>z",
    "Straße 東京 😀 Москва",
    "e\u{301} ﬁ Å \u{0} \u{7f} \u{a0}",
    "def f(x):\n    return {k: v}  # I'll",
    "<one><two> <three>abab hay",
];

fn tokenizer_file(directory: &str) -> Value {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let path = root.join(directory).join("tokenizer.json");
    let json = std::fs::read_to_string(&path).expect("a file of the source tree");
    serde_json::from_str(&json).expect("JSON")
}

fn plain_files() -> Vec<Value> {
    let directories = [
        "text/testdata/byte_level",
        "text/testdata/byte_fallback",
        "models/demo",
    ];
    directories.map(tokenizer_file).into()
}

/// Few tokens of every kind there is: with merges, on top of the model, normalized, twice the same.
fn small_file() -> Value {
    let added = |id: u32, content: &str, normalized: bool, special: bool| {
        json!({"id": id, "content": content, "single_word": false, "lstrip": normalized,
               "rstrip": false, "normalized": normalized, "special": special})
    };
    json!({
        "version": "1.0",
        "truncation": {"direction": "Right", "max_length": 9, "strategy": "LongestFirst",
                       "stride": 0},
        "padding": {"strategy": {"Fixed": 12}, "direction": "Right", "pad_to_multiple_of": null,
                    "pad_id": 0, "pad_type_id": 0, "pad_token": "<one>"},
        "added_tokens": [added(900, "<one>", false, true), added(3, "<two>", false, false),
                         added(3, "<three>", true, true), added(0, "ab", false, false),
                         added(0, "ab", false, true), added(7, "Hay", true, false)],
        "normalizer": {"type": "Lowercase"},
        "pre_tokenizer": {"type": "Whitespace"},
        "post_processor": {"type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "<one>", "type_id": 0}},
                       {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}},
                     {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"<one>": {"id": "<one>", "ids": [900], "tokens": ["<one>"]}}},
        "decoder": {"type": "Fuse"},
        "model": {"type": "BPE", "dropout": null, "unk_token": null,
                  "continuing_subword_prefix": null, "end_of_word_suffix": null,
                  "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
                  "vocab": {"a": 1, "b": 0, "ab": 40, "é": 5, "abab": 6, "h": 1000, "ha": 8},
                  "merges": [["a", "b"], ["ab", "ab"], ["h", "a"]]},
    })
}

fn with_model(key: &str, value: Value) -> Value {
    let mut file = small_file();
    file["model"][key] = value;
    file
}

/// The same merges as lines of a merges.txt.
fn with_lines(mut file: Value) -> Value {
    let merges = file["model"]["merges"].as_array().expect("merges");
    let line = |pair: &Value| {
        format!(
            "{} {}",
            pair[0].as_str().unwrap(),
            pair[1].as_str().unwrap()
        )
    };
    let lines = std::iter::once("#version: 0.2".to_owned()).chain(merges.iter().map(line));
    file["model"]["merges"] = lines.collect();
    file
}

fn check_vocabulary(quick: &Tokenizer, whole: &Tokenizer) {
    let vocabulary: HashMap<String, u32> = whole.get_vocab(true);
    assert_eq!(quick.get_vocab(true), vocabulary);
    let distinct: HashSet<&u32> = vocabulary.values().collect();
    // Of two tokens with one id the crate keeps one or the other, by chance.
    if distinct.len() == vocabulary.len() {
        assert!(quick.get_model() == whole.get_model());
        let written = |tokenizer| serde_json::to_string(tokenizer).unwrap();
        assert_eq!(written(quick), written(whole));
    }
}

fn check_ids(quick: &Tokenizer, whole: &Tokenizer) {
    for text in TEXTS {
        for special in [false, true] {
            let ids = |tokenizer: &Tokenizer| {
                tokenizer
                    .encode_fast(text, special)
                    .unwrap()
                    .get_ids()
                    .to_vec()
            };
            let wanted = ids(whole);
            assert_eq!(ids(quick), wanted, "{text}");
            let text_of = |tokenizer: &Tokenizer| tokenizer.decode(&wanted, special).unwrap();
            assert_eq!(text_of(quick), text_of(whole), "{text}");
        }
    }
}

fn check(file: &Value) -> Tokenizer {
    let json = file.to_string();
    let quick = plain_bpe::read(&json).expect("one pass will do");
    let whole: Tokenizer = json.parse().expect("the crate reads it");
    check_vocabulary(&quick, &whole);
    if file["model"]["dropout"].as_f64().unwrap_or(0.0) == 0.0 {
        check_ids(&quick, &whole);
    }
    quick
}

#[test]
fn the_test_tokenizers_are_the_crates() {
    for file in plain_files() {
        check(&file);
        check(&with_lines(file));
    }
}

#[test]
fn every_option_of_the_model_counts() {
    check(&small_file());
    check(&with_lines(small_file()));
    for key in ["fuse_unk", "byte_fallback", "ignore_merges"] {
        for value in [json!(true), json!(null)] {
            check(&with_model(key, value));
        }
    }
    for value in [json!(0.0), json!(0.5), json!(1)] {
        check(&with_model("dropout", value));
    }
    check(&with_model("unk_token", json!("é")));
    check(&with_model("end_of_word_suffix", json!("b")));
    let mut prefixed = with_model("continuing_subword_prefix", json!("a"));
    prefixed["model"]["merges"] = json!([["h", "a"], ["b", "a"], ["a", "ab"]]);
    check(&prefixed);
}

#[test]
fn parts_that_are_not_said_are_the_crates_defaults() {
    for key in [
        "truncation",
        "padding",
        "added_tokens",
        "normalizer",
        "pre_tokenizer",
        "decoder",
    ] {
        let mut file = small_file();
        file.as_object_mut().unwrap().remove(key);
        if key == "added_tokens" {
            file["post_processor"] = json!(null);
        }
        check(&file);
    }
    for key in [
        "dropout",
        "unk_token",
        "fuse_unk",
        "byte_fallback",
        "ignore_merges",
    ] {
        let mut file = small_file();
        file["model"].as_object_mut().unwrap().remove(key);
        check(&file);
    }
}

#[test]
fn added_tokens_with_odd_ids_get_the_crates_ids() {
    let tokenizer = check(&small_file());
    assert_eq!(tokenizer.token_to_id("ab"), Some(40));
    assert_eq!(
        tokenizer.token_to_id("<one>"),
        Some(7),
        "the first free id, whatever the file says"
    );
}

#[test]
fn what_is_unusual_is_left_to_the_crate() {
    let mut untagged = small_file();
    untagged["model"].as_object_mut().unwrap().remove("type");
    let mut files = vec![
        untagged,
        tokenizer_file("text/testdata/unigram"),
        with_model("type", json!("WordLevel")),
        with_model("comment", json!(1)),
        with_model("dropout", json!(1.5)),
        with_model("fuse_unk", json!(1)),
        with_model("vocab", json!(["a"])),
        with_model("vocab", json!({"a": -1})),
    ];
    for merges in [
        json!(null),
        json!([["a", "b"], "ab ab"]),
        json!([["a", "b", "ab"]]),
        json!([["a"]]),
        json!(["a b ab"]),
        json!(["ab"]),
        json!([["a", "x"]]),
        json!([1]),
    ] {
        files.push(with_model("merges", merges));
    }
    for file in files {
        assert!(
            plain_bpe::read(&file.to_string()).is_none(),
            "{}",
            file["model"]
        );
    }
    let json = small_file().to_string();
    let twice = json.replace("\"dropout\":null", "\"dropout\":0.5,\"dropout\":null");
    assert!(twice.parse::<Tokenizer>().is_ok() && plain_bpe::read(&twice).is_none());
}

/// The crate's code for the parts around the model panics at some of them.
fn read_or_panic(json: &str) -> Option<Tokenizer> {
    catch_unwind(|| plain_bpe::read(json)).ok().flatten()
}

#[test]
fn a_file_cut_anywhere_is_not_read() {
    let json = small_file().to_string();
    for size in (0..json.len()).filter(|size| json.is_char_boundary(*size)) {
        assert!(read_or_panic(&json[..size]).is_none(), "{size}");
    }
}

/// A lie is refused by both, with an error or a panic, or believed by both.
#[test]
fn a_file_with_changed_bytes_is_read_as_the_crate_reads_it() {
    let mut state = 1_u64;
    let mut random = |below: usize| {
        state = state
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (state >> 33) as usize % below
    };
    let files = [
        small_file().to_string(),
        with_lines(small_file()).to_string(),
    ];
    let mut read_count = 0;
    for turn in 0..20_000 {
        let mut bytes = files[turn % 2].clone().into_bytes();
        for _ in 0..1 + turn % 3 {
            let (at, from) = (random(bytes.len()), random(bytes.len()));
            bytes[at] = bytes[from];
        }
        let Ok(json) = String::from_utf8(bytes) else {
            continue;
        };
        let Some(quick) = read_or_panic(&json) else {
            continue;
        };
        let whole = catch_unwind(|| json.parse::<Tokenizer>());
        let whole = whole.expect("no panic").expect("no error");
        check_vocabulary(&quick, &whole);
        read_count += 1;
    }
    assert!(read_count > 500, "too few files were read: {read_count}");
}

//! Goal: which tokenizers have a short way, and that an added token is found on it.
//! Method: the byte-level test tokenizer, changed in one place. conformance_test.py compares the ids.

use serde_json::{json, Value};
use tokenizers::Tokenizer;

use crate::short_way::ShortWay;

fn file() -> Value {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../testdata/byte_level/tokenizer.json"
    );
    let json = std::fs::read_to_string(path).expect("a file of the source tree");
    serde_json::from_str(&json).expect("JSON")
}

fn has_short_way(pointer: &str, value: Value) -> bool {
    let mut file = file();
    *file.pointer_mut(pointer).expect("a place in the file") = value;
    let tokenizer: Tokenizer = file.to_string().parse().expect("a tokenizer");
    ShortWay::of(&tokenizer).is_some()
}

#[test]
fn normal_forms_leave_ascii_as_it_is() {
    for form in ["NFC", "NFD", "NFKC", "NFKD"] {
        assert!(
            has_short_way("/normalizer", json!({"type": form})),
            "{form}"
        );
    }
    assert!(has_short_way("/normalizer", json!(null)));
    assert!(!has_short_way("/normalizer", json!({"type": "Lowercase"})));
}

#[test]
fn another_split_or_model_goes_the_crates_way() {
    assert!(!has_short_way("/pre_tokenizer", json!(null)));
    assert!(!has_short_way(
        "/pre_tokenizer",
        json!({"type": "Whitespace"})
    ));
    let (split, bytes) = (
        "/pre_tokenizer/pretokenizers/0",
        "/pre_tokenizer/pretokenizers/1",
    );
    assert!(!has_short_way(
        &format!("{split}/pattern"),
        json!({"Regex": "\\s+"})
    ));
    assert!(!has_short_way(
        &format!("{split}/behavior"),
        json!("Removed")
    ));
    assert!(!has_short_way(&format!("{split}/invert"), json!(true)));
    assert!(!has_short_way(
        &format!("{bytes}/add_prefix_space"),
        json!(true)
    ));
    assert!(!has_short_way(&format!("{bytes}/use_regex"), json!(true)));
    assert!(!has_short_way("/model/dropout", json!(0.5)));
    assert!(!has_short_way("/model/end_of_word_suffix", json!("x")));
    assert!(has_short_way("/model/end_of_word_suffix", json!("")));
}

#[test]
fn an_added_token_is_found_by_its_normal_form() {
    let mut file = file();
    file["normalizer"] = json!({"type": "NFKC"});
    let added = json!({"id": 0, "content": "ｘy", "single_word": false, "lstrip": false,
                       "rstrip": false, "normalized": true, "special": false});
    file["added_tokens"]
        .as_array_mut()
        .expect("a list")
        .push(added);
    let tokenizer: Tokenizer = file.to_string().parse().expect("a tokenizer");
    let way = ShortWay::of(&tokenizer).expect("a short way");
    assert!(way.encode(&tokenizer, "Paris xy", false).is_none());
    assert!(way.encode(&tokenizer, "Paris", false).is_some());
}

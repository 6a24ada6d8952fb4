//! Tokenizers and chat templates behind the C interface of `../../trireme_text.h`.
//!
//! `ffi` is the only module that meets raw pointers; the others are plain Rust and return
//! `Result<_, TextError>`.

mod ascii_words;
mod error;
mod ffi;
mod jinja;
mod jinja_source;
mod model_files;
mod pieces;
#[cfg(test)]
mod pieces_test;
mod plain_bpe;
#[cfg(test)]
mod plain_bpe_test;
mod python;
mod python_methods;
mod short_way;
#[cfg(test)]
mod short_way_test;
mod template;
mod tokenizer;

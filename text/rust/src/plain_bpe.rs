//! tokenizer.json of a tagged BPE model, read in one pass.
//!
//! The crate reads any model into a tree of JSON values first, to find out which one it is: for a
//! vocabulary of 150 000 tokens that is most of a start. Here the vocabulary and the merges go
//! straight to the crate's builder; all around the model is read by the crate's own code. Whatever
//! is unusual (no type, another model, a key that is unknown or said twice, an error) is left to
//! the crate, so that what it makes of it stands.

use std::collections::HashMap;
use std::fmt::Formatter;
use std::path::{Path, PathBuf};

use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use tokenizers::models::bpe::{BpeTrainer, Merges, Vocab, BPE};
use tokenizers::models::ModelWrapper;
use tokenizers::{
    DecoderWrapper, Model, NormalizerWrapper, PostProcessorWrapper, PreTokenizerWrapper, Token,
    Tokenizer, TokenizerImpl,
};

type PlainTokenizer = TokenizerImpl<
    PlainBpe,
    NormalizerWrapper,
    PreTokenizerWrapper,
    PostProcessorWrapper,
    DecoderWrapper,
>;

/// None: the crate must read it. Panics where the crate does.
pub fn read(json: &str) -> Option<Tokenizer> {
    json.parse::<PlainTokenizer>().ok().map(Tokenizer::from)
}

struct PlainBpe(BPE);

impl From<PlainBpe> for ModelWrapper {
    fn from(model: PlainBpe) -> ModelWrapper {
        ModelWrapper::BPE(model.0)
    }
}

/// The crate asks for a whole model while it adds the tokens.
impl Model for PlainBpe {
    type Trainer = BpeTrainer;

    fn tokenize(&self, sequence: &str) -> tokenizers::Result<Vec<Token>> {
        self.0.tokenize(sequence)
    }

    fn token_to_id(&self, token: &str) -> Option<u32> {
        self.0.token_to_id(token)
    }

    fn id_to_token(&self, id: u32) -> Option<String> {
        self.0.id_to_token(id)
    }

    fn get_vocab(&self) -> HashMap<String, u32> {
        self.0.get_vocab()
    }

    fn get_vocab_size(&self) -> usize {
        self.0.get_vocab_size()
    }

    fn save(&self, folder: &Path, prefix: Option<&str>) -> tokenizers::Result<Vec<PathBuf>> {
        self.0.save(folder, prefix)
    }

    fn get_trainer(&self) -> BpeTrainer {
        self.0.get_trainer()
    }
}

impl<'de> Deserialize<'de> for PlainBpe {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(PlainBpeVisitor)
    }
}

/// What a model says of itself; an inner None is null, which the crate takes for "not said".
#[derive(Default)]
struct Said {
    kind: Option<String>,
    dropout: Option<Option<f32>>,
    unk_token: Option<Option<String>>,
    continuing_subword_prefix: Option<Option<String>>,
    end_of_word_suffix: Option<Option<String>>,
    fuse_unk: Option<Option<bool>>,
    byte_fallback: Option<Option<bool>>,
    ignore_merges: Option<Option<bool>>,
    vocabulary: Option<Vocab>,
    merges: Option<MergeList>,
}

impl Said {
    fn build<E: Error>(self) -> Result<BPE, E> {
        let (Some("BPE"), Some(vocabulary), Some(merges)) =
            (self.kind.as_deref(), self.vocabulary, self.merges)
        else {
            return Err(E::custom("not a tagged BPE model"));
        };
        let mut builder = BPE::builder().vocab_and_merges(vocabulary, merges.0);
        if let Some(dropout) = self.dropout.flatten() {
            builder = builder.dropout(dropout);
        }
        if let Some(token) = self.unk_token.flatten() {
            builder = builder.unk_token(token);
        }
        if let Some(prefix) = self.continuing_subword_prefix.flatten() {
            builder = builder.continuing_subword_prefix(prefix);
        }
        if let Some(suffix) = self.end_of_word_suffix.flatten() {
            builder = builder.end_of_word_suffix(suffix);
        }
        builder
            .fuse_unk(self.fuse_unk.flatten().unwrap_or(false))
            .byte_fallback(self.byte_fallback.flatten().unwrap_or(false))
            .ignore_merges(self.ignore_merges.flatten().unwrap_or(false))
            .build()
            .map_err(E::custom)
    }
}

struct PlainBpeVisitor;

impl<'de> Visitor<'de> for PlainBpeVisitor {
    type Value = PlainBpe;

    fn expecting(&self, formatter: &mut Formatter) -> std::fmt::Result {
        formatter.write_str("a BPE model")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<PlainBpe, A::Error> {
        let mut said = Said::default();
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "type" => once(&mut said.kind, &mut map)?,
                "dropout" => once(&mut said.dropout, &mut map)?,
                "unk_token" => once(&mut said.unk_token, &mut map)?,
                "continuing_subword_prefix" => once(&mut said.continuing_subword_prefix, &mut map)?,
                "end_of_word_suffix" => once(&mut said.end_of_word_suffix, &mut map)?,
                "fuse_unk" => once(&mut said.fuse_unk, &mut map)?,
                "byte_fallback" => once(&mut said.byte_fallback, &mut map)?,
                "ignore_merges" => once(&mut said.ignore_merges, &mut map)?,
                "vocab" => once(&mut said.vocabulary, &mut map)?,
                "merges" => once(&mut said.merges, &mut map)?,
                _ => return Err(A::Error::custom("an unknown key")),
            }
        }
        said.build().map(PlainBpe)
    }
}

fn once<'de, T: Deserialize<'de>, A: MapAccess<'de>>(
    place: &mut Option<T>,
    map: &mut A,
) -> Result<(), A::Error> {
    match place.replace(map.next_value()?) {
        None => Ok(()),
        Some(_) => Err(A::Error::custom("a key said twice")),
    }
}

/// Pairs, or the lines of a merges.txt.
struct MergeList(Merges);

impl<'de> Deserialize<'de> for MergeList {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(MergeListVisitor)
    }
}

struct MergeListVisitor;

impl<'de> Visitor<'de> for MergeListVisitor {
    type Value = MergeList;

    fn expecting(&self, formatter: &mut Formatter) -> std::fmt::Result {
        formatter.write_str("a list of merges")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<MergeList, A::Error> {
        let mut merges = Merges::new();
        let (mut pair_count, mut line_count) = (0_usize, 0_usize);
        while let Some(merge) = list.next_element()? {
            match merge {
                Merge::Pair(a, b) => {
                    pair_count += 1;
                    merges.push((a, b));
                }
                Merge::Line(a, b) => {
                    line_count += 1;
                    merges.push((a, b));
                }
                Merge::Version => line_count += 1,
            }
        }
        if pair_count > 0 && line_count > 0 {
            return Err(A::Error::custom("both forms of merges"));
        }
        Ok(MergeList(merges))
    }
}

enum Merge {
    Pair(String, String),
    Line(String, String),
    /// The head of a merges.txt.
    Version,
}

impl<'de> Deserialize<'de> for Merge {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(MergeVisitor)
    }
}

struct MergeVisitor;

impl<'de> Visitor<'de> for MergeVisitor {
    type Value = Merge;

    fn expecting(&self, formatter: &mut Formatter) -> std::fmt::Result {
        formatter.write_str("a pair of tokens")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut pair: A) -> Result<Merge, A::Error> {
        match (pair.next_element()?, pair.next_element()?) {
            (Some(a), Some(b)) if pair.next_element::<IgnoredAny>()?.is_none() => {
                Ok(Merge::Pair(a, b))
            }
            _ => Err(A::Error::custom("not two tokens")),
        }
    }

    fn visit_str<E: Error>(self, line: &str) -> Result<Merge, E> {
        if line.starts_with("#version") {
            return Ok(Merge::Version);
        }
        match line.split_once(' ') {
            Some((a, b)) if !b.contains(' ') => Ok(Merge::Line(a.to_owned(), b.to_owned())),
            _ => Err(E::custom("not two tokens")),
        }
    }
}

// Text to token ids and back, as a model's Hugging Face directory says.
//
// Understands tokenizer.json of every kind the `tokenizers` crate does whose decoder can be
// streamed (see detokenizer.h): byte-level BPE, SentencePiece-style BPE with byte fallback,
// Unigram, WordPiece. Ids agree with Python's `tokenizers`. Truncation and padding that the file
// asks for are left out: a prompt is never cut silently.
//
// Immutable after load(); any number of threads may use one at a time. encode() keeps a cache of
// words inside, which is guarded. Errors name the file:
//   NotFound       no tokenizer.json, or unreadable
//   DataLoss       a file that is truncated, not JSON, or does not hang together
//   Unimplemented  a decoder that cannot be streamed (CTC, BPEDecoder)
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "common/status.h"
#include "text/piece_table.h"

struct TriremeTextTokenizer;

namespace trireme::text {

// A token that the model's files give a part to play.
struct RoleToken {
  std::string text;
  std::optional<int32_t> id;  // none: the text is not in the vocabulary
};

class Tokenizer {
 public:
  [[nodiscard]] static StatusOr<Tokenizer> load(const std::string& directory);

  // InvalidArgument: not UTF-8. `add_special_tokens` puts in what the file's post-processor says
  // (a BOS, say); special tokens written in the text become their ids either way.
  [[nodiscard]] StatusOr<std::vector<int32_t>> encode(std::string_view utf8,
                                                      bool add_special_tokens) const;

  // Ids without a token give no text.
  [[nodiscard]] StatusOr<std::string> decode(std::span<const int32_t> ids,
                                             bool skip_special_tokens) const;

  // Largest id + 1. A model's embedding may have more rows than that.
  [[nodiscard]] size_t vocabulary_size() const { return pieces_.token_count; }
  [[nodiscard]] bool has_token(int32_t id) const { return pieces_.flags_of(id) != 0; }
  [[nodiscard]] bool is_special(int32_t id) const;
  [[nodiscard]] std::optional<int32_t> token_id(std::string_view token) const;

  // The bytes a token adds to a text that has begun: " Paris", or one byte of a character.
  // Empty for an id without a token. The view lives as long as the Tokenizer.
  [[nodiscard]] std::string_view token_bytes(int32_t id) const;
  // The same as text, U+FFFD for what is no character on its own.
  [[nodiscard]] std::string token_text(int32_t id) const;

  [[nodiscard]] const std::optional<RoleToken>& bos() const { return bos_; }
  [[nodiscard]] const std::optional<RoleToken>& eos() const { return eos_; }
  [[nodiscard]] const std::optional<RoleToken>& pad() const { return pad_; }

  [[nodiscard]] const PieceTable& pieces() const { return pieces_; }

 private:
  struct Free {
    void operator()(TriremeTextTokenizer* tokenizer) const noexcept;
  };

  explicit Tokenizer(TriremeTextTokenizer* tokenizer);

  std::unique_ptr<TriremeTextTokenizer, Free> tokenizer_;
  PieceTable pieces_;
  std::optional<RoleToken> bos_;
  std::optional<RoleToken> eos_;
  std::optional<RoleToken> pad_;
};

}  // namespace trireme::text

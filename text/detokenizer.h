// Turns the tokens of one sequence into text as they come.
//
//   push(token) -> the text that became final; flush() -> the rest, when the sequence ends.
//
// What has gone out is never taken back: a character leaves when its last byte is known, so no
// U+FFFD stands for a character that later completes. The joined output equals
// Tokenizer::decode() of all the tokens (with spaces_between_special_tokens on, its default). The
// price, with a byte fallback: a run of byte tokens is text only when it is valid as a whole, so
// it is held until a token of another kind, or flush().
//
// Ids without a token (a padded vocabulary has such) give no text.
//
// One sequence, one thread. The Tokenizer must outlive it. A push looks the token up and copies its
// bytes: no call into the tokenizer, and no allocation once the buffers have grown.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "text/piece_table.h"
#include "text/utf8_joiner.h"

namespace trireme::text {

class Tokenizer;

struct DetokenizerOptions {
  bool skip_special_tokens = true;
  // Off: an added token right after another one gives its own text, without a space that the
  // decoder would put in front. Has no effect together with skip_special_tokens.
  bool spaces_between_special_tokens = true;
};

class Detokenizer {
 public:
  explicit Detokenizer(const Tokenizer& tokenizer, DetokenizerOptions options = {});
  explicit Detokenizer(const PieceTable& pieces, DetokenizerOptions options = {});

  // The views hold until the next push() or flush().
  [[nodiscard]] std::string_view push(int32_t token_id);
  [[nodiscard]] std::string_view flush();

 private:
  [[nodiscard]] std::string_view choose_piece(int32_t token_id, uint8_t flags);
  void close_byte_run();
  [[nodiscard]] std::string_view stripped();

  PieceTable pieces_;
  DetokenizerOptions options_;
  std::string text_;      // what the last push made final
  std::string byte_run_;  // byte tokens of a byte fallback, not yet text
  Utf8Joiner joiner_;
  size_t strip_left_;
  bool is_first_ = true;
  bool last_was_added_ = false;
};

}  // namespace trireme::text

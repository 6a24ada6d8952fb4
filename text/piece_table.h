// What each token of a vocabulary stands for in decoded text, as a table.
//
// A Tokenizer fills it at load time by running its decoder over the vocabulary; a Detokenizer
// streams by looking tokens up in it. It is a view: the arrays belong to the Tokenizer.
//
//   piece    given by token i
//   kFirst   as the first token of a text (where some decoders drop a leading space)
//   kRest    anywhere else
//   kOwn     the token's own text in the vocabulary
//
// When `joins_bytes`, the pieces are bytes of a text that is UTF-8 only as a whole (byte-level).
// Otherwise every piece is valid UTF-8, but for the byte tokens of a byte fallback: a run of those
// is text when it is valid UTF-8 as a whole, and else one U+FFFD for each of its tokens.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace trireme::text {

struct PieceTable {
  enum Piece : size_t { kFirst = 0, kRest = 1, kOwn = 2 };
  enum Flag : uint8_t {
    kPresent = 1,  // the id has a token
    kSpecial = 2,  // skip_special_tokens leaves it out
    kAdded = 4,    // an added token, special or not
    kByte = 8,     // a byte token of a byte fallback; its piece is that byte
  };

  size_t token_count = 0;             // largest id + 1
  const uint32_t* offsets = nullptr;  // 3 * token_count + 1, into bytes
  const uint8_t* flags = nullptr;     // token_count
  const char* bytes = nullptr;
  bool joins_bytes = false;
  char strip_byte = 0;  // up to strip_count of these are cut off the start of a text
  size_t strip_count = 0;

  // 0 for an id without a token, negative ones included.
  [[nodiscard]] uint8_t flags_of(int32_t id) const {
    const auto index = static_cast<size_t>(static_cast<uint32_t>(id));
    return index < token_count ? flags[index] : uint8_t{0};
  }

  // Only for an id that has a token.
  [[nodiscard]] std::string_view piece(int32_t id, Piece which) const {
    const uint32_t* at = offsets + 3 * static_cast<size_t>(id) + which;
    return {bytes + at[0], at[1] - at[0]};
  }
};

}  // namespace trireme::text

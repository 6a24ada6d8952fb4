// Makes text out of bytes that arrive in pieces.
//
// A character goes out when its last byte has come. Bytes that cannot become UTF-8 go out as one
// U+FFFD for each maximal part that is a beginning of some character (Unicode's "substitution of
// maximal subparts", which Python and Rust follow too). At most 3 bytes are held back.
//
// One owner, no threads of its own; it allocates only what the output string does.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace trireme::text {

inline constexpr std::string_view kReplacementCharacter = "\xEF\xBF\xBD";

class Utf8Joiner {
 public:
  // Appends to `out` what became final.
  void push(std::string_view bytes, std::string& out);

  // The input ends: what is held back can no longer become a character.
  void flush(std::string& out);

  [[nodiscard]] size_t held_count() const { return held_count_; }

 private:
  void start(uint8_t byte, std::string& out);
  [[nodiscard]] bool accepts(uint8_t byte) const;

  std::array<char, 4> held_{};
  uint8_t held_count_ = 0;
  uint8_t length_ = 0;      // of the character being held
  uint8_t second_min_ = 0;  // bounds of its second byte: no overlong forms, no surrogates
  uint8_t second_max_ = 0;
};

[[nodiscard]] bool is_valid_utf8(std::string_view bytes);

}  // namespace trireme::text

#include "text/utf8_joiner.h"

namespace trireme::text {

void Utf8Joiner::push(std::string_view bytes, std::string& out) {
  size_t i = 0;
  while (i < bytes.size()) {
    const auto byte = static_cast<uint8_t>(bytes[i]);
    if (held_count_ == 0) {
      size_t ascii_end = i;
      while (ascii_end < bytes.size() && static_cast<uint8_t>(bytes[ascii_end]) < 0x80) ++ascii_end;
      out.append(bytes, i, ascii_end - i);
      i = ascii_end;
      if (i < bytes.size()) start(static_cast<uint8_t>(bytes[i++]), out);
    } else if (accepts(byte)) {
      held_[held_count_++] = static_cast<char>(byte);
      ++i;
      if (held_count_ == length_) {
        out.append(held_.data(), length_);
        held_count_ = 0;
      }
    } else {
      flush(out);
    }
  }
}

void Utf8Joiner::flush(std::string& out) {
  if (held_count_ == 0) return;
  out.append(kReplacementCharacter);
  held_count_ = 0;
}

void Utf8Joiner::start(uint8_t byte, std::string& out) {
  second_min_ = 0x80;
  second_max_ = 0xBF;
  if (byte >= 0xC2 && byte <= 0xDF) {
    length_ = 2;
  } else if (byte >= 0xE0 && byte <= 0xEF) {
    length_ = 3;
    if (byte == 0xE0) second_min_ = 0xA0;
    if (byte == 0xED) second_max_ = 0x9F;
  } else if (byte >= 0xF0 && byte <= 0xF4) {
    length_ = 4;
    if (byte == 0xF0) second_min_ = 0x90;
    if (byte == 0xF4) second_max_ = 0x8F;
  } else {
    out.append(kReplacementCharacter);
    return;
  }
  held_[0] = static_cast<char>(byte);
  held_count_ = 1;
}

bool Utf8Joiner::accepts(uint8_t byte) const {
  if (held_count_ == 1) return byte >= second_min_ && byte <= second_max_;
  return byte >= 0x80 && byte <= 0xBF;
}

bool is_valid_utf8(std::string_view bytes) {
  std::string joined;
  Utf8Joiner joiner;
  joiner.push(bytes, joined);
  joiner.flush(joined);
  return joined == bytes;
}

}  // namespace trireme::text

#include "text/detokenizer.h"

#include "text/tokenizer.h"

namespace trireme::text {

Detokenizer::Detokenizer(const Tokenizer& tokenizer, DetokenizerOptions options)
    : Detokenizer(tokenizer.pieces(), options) {}

Detokenizer::Detokenizer(const PieceTable& pieces, DetokenizerOptions options)
    : pieces_(pieces), options_(options), strip_left_(pieces.strip_count) {}

std::string_view Detokenizer::push(int32_t token_id) {
  const uint8_t flags = pieces_.flags_of(token_id);
  const bool is_skipped = options_.skip_special_tokens && (flags & PieceTable::kSpecial) != 0;
  if ((flags & PieceTable::kPresent) == 0 || is_skipped) return {};
  text_.clear();
  const std::string_view piece = choose_piece(token_id, flags);
  if (pieces_.joins_bytes) {
    joiner_.push(piece, text_);
  } else if ((flags & PieceTable::kByte) != 0) {
    byte_run_.append(piece);
  } else {
    close_byte_run();
    text_.append(piece);
  }
  return stripped();
}

std::string_view Detokenizer::flush() {
  text_.clear();
  joiner_.flush(text_);
  close_byte_run();
  return stripped();
}

std::string_view Detokenizer::choose_piece(int32_t token_id, uint8_t flags) {
  const bool is_added = (flags & PieceTable::kAdded) != 0;
  const bool wants_spaces = options_.skip_special_tokens || options_.spaces_between_special_tokens;
  PieceTable::Piece which = is_first_ ? PieceTable::kFirst : PieceTable::kRest;
  if (is_added && last_was_added_ && !wants_spaces) which = PieceTable::kOwn;
  is_first_ = false;
  last_was_added_ = is_added;
  return pieces_.piece(token_id, which);
}

void Detokenizer::close_byte_run() {
  if (byte_run_.empty()) return;
  if (is_valid_utf8(byte_run_)) {
    text_.append(byte_run_);
  } else {
    for (size_t i = 0; i < byte_run_.size(); ++i) text_.append(kReplacementCharacter);
  }
  byte_run_.clear();
}

std::string_view Detokenizer::stripped() {
  std::string_view text = text_;
  while (strip_left_ > 0 && !text.empty()) {
    if (text.front() != pieces_.strip_byte) {
      strip_left_ = 0;
      break;
    }
    text.remove_prefix(1);
    --strip_left_;
  }
  return text;
}

}  // namespace trireme::text

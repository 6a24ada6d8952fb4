#include "text/tokenizer.h"

#include <malloc.h>

#include "text/c_interface.h"
#include "text/utf8_joiner.h"

namespace trireme::text {
namespace {

PieceTable piece_table(const TriremeTextTokenizer* tokenizer) {
  static_assert(int{TRIREME_TEXT_PRESENT} == int{PieceTable::kPresent});
  static_assert(int{TRIREME_TEXT_SPECIAL} == int{PieceTable::kSpecial});
  static_assert(int{TRIREME_TEXT_ADDED} == int{PieceTable::kAdded});
  static_assert(int{TRIREME_TEXT_BYTE} == int{PieceTable::kByte});
  const TriremeTextPieces pieces = trireme_text_pieces(tokenizer);
  return {.token_count = pieces.token_count,
          .offsets = pieces.offsets,
          .flags = pieces.flags,
          .bytes = reinterpret_cast<const char*>(pieces.bytes),
          .joins_bytes = pieces.joins_bytes != 0,
          .strip_byte = static_cast<char>(pieces.strip_byte),
          .strip_count = pieces.strip_count};
}

std::optional<RoleToken> role_token(const TriremeTextTokenizer* tokenizer, TriremeTextRole role) {
  int32_t id = -1;
  const std::string_view text = from_view(trireme_text_role_token(tokenizer, role, &id));
  if (text.empty()) return std::nullopt;
  return RoleToken{.text = std::string(text),
                   .id = id < 0 ? std::nullopt : std::optional<int32_t>(id)};
}

}  // namespace

void Tokenizer::Free::operator()(TriremeTextTokenizer* tokenizer) const noexcept {
  const CrateCall call;
  trireme_text_tokenizer_free(tokenizer);
}

Tokenizer::Tokenizer(TriremeTextTokenizer* tokenizer)
    : tokenizer_(tokenizer),
      pieces_(piece_table(tokenizer)),
      bos_(role_token(tokenizer, TRIREME_TEXT_BOS)),
      eos_(role_token(tokenizer, TRIREME_TEXT_EOS)),
      pad_(role_token(tokenizer, TRIREME_TEXT_PAD)) {}

StatusOr<Tokenizer> Tokenizer::load(const std::string& directory) {
  const CrateCall call;
  TriremeTextTokenizer* tokenizer = nullptr;
  OwnedBytes message;
  const int32_t code = trireme_text_tokenizer_load(to_view(directory), &tokenizer, message.out());
  TRIREME_RETURN_IF_ERROR(to_status(code, message));
  // Half of the heap is what reading the vocabulary needed, between pages of what stays.
  (void)::malloc_trim(0);
  return Tokenizer(tokenizer);
}

StatusOr<std::vector<int32_t>> Tokenizer::encode(std::string_view utf8,
                                                 bool add_special_tokens) const {
  const CrateCall call;
  TriremeTextIds ids{};
  OwnedBytes message;
  const int32_t code =
      trireme_text_encode(tokenizer_.get(), to_view(utf8), add_special_tokens, &ids, message.out());
  TRIREME_RETURN_IF_ERROR(to_status(code, message));
  std::vector<int32_t> result(ids.data, ids.data + ids.size);
  trireme_text_ids_free(ids);
  return result;
}

StatusOr<std::string> Tokenizer::decode(std::span<const int32_t> ids,
                                        bool skip_special_tokens) const {
  const CrateCall call;
  OwnedBytes text;
  OwnedBytes message;
  const int32_t code = trireme_text_decode(tokenizer_.get(), ids.data(), ids.size(),
                                           skip_special_tokens, text.out(), message.out());
  TRIREME_RETURN_IF_ERROR(to_status(code, message));
  return text.to_string();
}

bool Tokenizer::is_special(int32_t id) const {
  return (pieces_.flags_of(id) & PieceTable::kSpecial) != 0;
}

std::optional<int32_t> Tokenizer::token_id(std::string_view token) const {
  const CrateCall call;
  const int32_t id = trireme_text_token_to_id(tokenizer_.get(), to_view(token));
  return id < 0 ? std::nullopt : std::optional<int32_t>(id);
}

std::string_view Tokenizer::token_bytes(int32_t id) const {
  return has_token(id) ? pieces_.piece(id, PieceTable::kRest) : std::string_view();
}

std::string Tokenizer::token_text(int32_t id) const {
  std::string text;
  Utf8Joiner joiner;
  joiner.push(token_bytes(id), text);
  joiner.flush(text);
  return text;
}

}  // namespace trireme::text

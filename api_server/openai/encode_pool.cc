#include "api_server/openai/encode_pool.h"

#include <numeric>
#include <unordered_map>

#include "api_server/http/asio.h"

namespace trireme::api {
namespace {

constexpr std::size_t kThreads = 2;

StatusOr<EncodePool::Ids> encode_all(const text::Tokenizer& tokenizer,
                                     const std::vector<std::string>& texts, bool add_special) {
  EncodePool::Ids ids;
  ids.reserve(texts.size());
  for (const std::string& text : texts) {
    TRIREME_ASSIGN_OR_RETURN(auto encoded, tokenizer.encode(text, add_special));
    ids.push_back(std::move(encoded));
  }
  return ids;
}

}  // namespace

struct EncodePool::Parts {
  asio::io_context& owner;
  const text::Tokenizer& tokenizer;
  uint64_t next_ticket = 0;
  std::unordered_map<uint64_t, Done> waiting;
  // Threads begin with the first long text: most servers of short prompts never pay for them.
  std::unique_ptr<asio::thread_pool> threads;
};

EncodePool::EncodePool(asio::io_context& owner, const text::Tokenizer& tokenizer)
    : parts_(std::make_unique<Parts>(Parts{.owner = owner, .tokenizer = tokenizer})) {}

EncodePool::~EncodePool() {
  if (parts_->threads) parts_->threads->join();
}

void EncodePool::encode(std::vector<std::string> texts, bool add_special_tokens, Done done) {
  const std::size_t bytes =
      std::accumulate(texts.begin(), texts.end(), std::size_t{0},
                      [](std::size_t sum, const std::string& text) { return sum + text.size(); });
  Parts& parts = *parts_;
  if (bytes <= kInlineBytesMax) {
    done(encode_all(parts.tokenizer, texts, add_special_tokens));
    return;
  }
  if (!parts.threads) parts.threads = std::make_unique<asio::thread_pool>(kThreads);
  const uint64_t ticket = parts.next_ticket++;
  parts.waiting.emplace(ticket, std::move(done));
  asio::post(*parts.threads, [&parts, ticket, add_special_tokens, texts = std::move(texts)] {
    asio::post(
        parts.owner,
        [&parts, ticket, ids = encode_all(parts.tokenizer, texts, add_special_tokens)]() mutable {
          const auto waiting = parts.waiting.extract(ticket);
          waiting.mapped()(std::move(ids));
        });
  });
}

}  // namespace trireme::api

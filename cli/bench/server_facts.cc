#include "cli/bench/server_facts.h"

#include <simdjson.h>

#include <cstdlib>
#include <filesystem>
#include <optional>
#include <system_error>

#include "common/hub/hub_cache.h"

namespace trireme::bench {
namespace {

namespace fs = std::filesystem;
using simdjson::SUCCESS;

constexpr uint32_t kVocabularyGuess = 1024;
constexpr Duration kAnswerMax = std::chrono::seconds(30);

std::optional<fs::path> find_config(const std::string& model) {
  std::error_code ignored;
  if (model.empty()) return std::nullopt;
  const fs::path config = fs::path(model) / "config.json";
  if (fs::is_regular_file(config, ignored)) return config;
  if (!hub::looks_like_hub_id(model)) return std::nullopt;
  const auto cache = hub::cache_directory_from_environment();
  if (!cache.ok()) return std::nullopt;
  const auto snapshot = hub::HubCache(*cache, model).find("main");
  if (!snapshot) return std::nullopt;
  return *snapshot / "config.json";
}

// Of models with several parts, that of the text.
uint32_t vocabulary_of(const fs::path& config) {
  simdjson::dom::parser parser;
  simdjson::dom::element root;
  uint64_t size = 0;
  if (parser.load(config.string()).get(root) != SUCCESS) return 0;
  if (root["vocab_size"].get_uint64().get(size) != SUCCESS &&
      root["text_config"]["vocab_size"].get_uint64().get(size) != SUCCESS) {
    return 0;
  }
  return static_cast<uint32_t>(size);
}

std::optional<std::string> metrics_page(const ServerUrl& url, const Headers& headers) {
  const std::string request = request_text(url, "GET", "/metrics", headers, "");
  StatusOr<WholeReply> reply = ask(url, request, Deadline::after(kAnswerMax));
  if (!reply.ok() || reply->status != 200) return std::nullopt;
  return std::move(reply->body);
}

}  // namespace

StatusOr<ServedModel> first_model(const ServerUrl& url, const Headers& headers) {
  const std::string request = request_text(url, "GET", "/v1/models", headers, "");
  TRIREME_ASSIGN_OR_RETURN(const WholeReply reply, ask(url, request, Deadline::after(kAnswerMax)));
  const std::string where = url.text() + "/v1/models";
  if (reply.status != 200) {
    return error(StatusCode::kFailedPrecondition, "%s answers %d: %s", where, reply.status,
                 reply.body.substr(0, 200));
  }
  simdjson::dom::parser parser;
  simdjson::dom::element first;
  std::string_view id;
  std::string_view root;
  if (parser.parse(reply.body)["data"].at(0).get(first) != SUCCESS ||
      first["id"].get_string().get(id) != SUCCESS) {
    return error(StatusCode::kFailedPrecondition, "%s names no model: %s", where,
                 reply.body.substr(0, 200));
  }
  if (first["root"].get_string().get(root) != SUCCESS) root = "";
  return ServedModel{.id = std::string(id), .root = std::string(root)};
}

std::optional<uint32_t> engines_ready(const ServerUrl& url) {
  constexpr std::string_view kLine = "\ntrireme:engines_ready{";
  const std::optional<std::string> page = metrics_page(url, {});
  const std::size_t at = page ? page->find(kLine) : std::string::npos;
  if (at == std::string::npos) return std::nullopt;
  const std::size_t value = page->rfind(' ', page->find('\n', at + 1));
  return static_cast<uint32_t>(std::strtoul(&(*page)[value + 1], nullptr, 10));
}

std::optional<SpeculationCounts> speculation_counts(const ServerUrl& url, const Headers& headers) {
  const std::optional<std::string> page = metrics_page(url, headers);
  return page ? read_speculation(*page) : std::nullopt;
}

Vocabulary find_vocabulary(const std::vector<std::string>& models) {
  for (const std::string& model : models) {
    const auto config = find_config(model);
    const uint32_t size = config ? vocabulary_of(*config) : 0;
    if (size > 0) return {.size = size, .source = config->string()};
  }
  return {.size = kVocabularyGuess,
          .source = "a guess: no config.json was found; --tokenizer DIR names one"};
}

}  // namespace trireme::bench

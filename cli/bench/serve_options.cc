#include "cli/bench/serve_options.h"

#include <cmath>
#include <cstdlib>

namespace trireme::bench {
namespace {

constexpr auto kBad = StatusCode::kInvalidArgument;

std::vector<std::string> split(std::string_view text) {
  std::vector<std::string> parts;
  while (true) {
    const std::size_t comma = text.find(',');
    parts.emplace_back(text.substr(0, comma));
    if (comma == text.npos) return parts;
    text.remove_prefix(comma + 1);
  }
}

using Pairs = std::vector<std::pair<std::string, std::string>>;

StatusOr<Pairs> pairs(std::string_view flag, const std::vector<std::string>& words, char between,
                      std::string_view form) {
  Pairs found;
  for (const std::string& word : words) {
    const std::size_t at = word.find(between);
    if (at == word.npos || at == 0) return error(kBad, "--%s: '%s' is not %s", flag, word, form);
    found.emplace_back(word.substr(0, at), word.substr(at + 1));
  }
  return found;
}

Status read_target(const ServeWords& words, ServeBenchOptions& options) {
  if (words.base_url.empty()) {
    if (words.port == 0) return error(kBad, "--port: 0 is not a port");
    options.url = {.host = words.host, .port = words.port};
  } else {
    auto url = parse_server_url(words.base_url);
    if (!url.ok()) return annotate(url.status(), "--base-url");
    options.url = *std::move(url);
  }
  const bool is_chat = words.backend == "openai-chat";
  if (!is_chat && words.backend != "openai" && words.backend != "vllm") {
    return error(kBad, "--backend: '%s' is not openai, vllm or openai-chat", words.backend);
  }
  options.path = words.endpoint;
  if (options.path.empty()) options.path = is_chat ? "/v1/chat/completions" : "/v1/completions";
  if (!options.path.starts_with('/')) {
    return error(kBad, "--endpoint: '%s' does not begin with /", options.path);
  }
  options.body.is_chat = is_chat || options.path.ends_with("chat/completions");
  if (const char* const key = std::getenv("OPENAI_API_KEY"); key != nullptr) {
    options.headers.emplace_back("Authorization", absl::StrFormat("Bearer %s", key));
  }
  TRIREME_ASSIGN_OR_RETURN(const Pairs headers, pairs("header", words.header, '=', "KEY=VALUE"));
  for (const auto& [name, value] : headers) {
    std::erase_if(options.headers, [&](const auto& header) { return header.first == name; });
    options.headers.emplace_back(name, value);
  }
  return absl::OkStatus();
}

Status read_plan(const ServeWords& words, PlanOptions& plan) {
  plan = words.plan;
  plan.input_len = words.input_len.value_or(plan.input_len);
  plan.output_len = words.output_len.value_or(plan.output_len);
  if (words.dataset_name != "random") {
    return error(kBad, "--dataset-name: '%s' is not there; random is", words.dataset_name);
  }
  if (plan.num_prompts == 0) return error(kBad, "--num-prompts: 0 is nothing to send");
  if (plan.input_len == 0) return error(kBad, "--random-input-len: 0; at least 1");
  if (plan.output_len == 0) return error(kBad, "--random-output-len: 0; at least 1");
  if (!(plan.request_rate > 0)) {
    return error(kBad, "--request-rate: %g is not above 0 (inf: all at once)", plan.request_rate);
  }
  if (!(plan.burstiness > 0)) {
    return error(kBad, "--burstiness: %g is not above 0 (1: Poisson)", plan.burstiness);
  }
  if (!(plan.range_ratio >= 0 && plan.range_ratio < 1)) {
    return error(kBad, "--random-range-ratio: %g is not in [0, 1)", plan.range_ratio);
  }
  if (words.max_concurrency == 0u) return error(kBad, "--max-concurrency: 0; at least 1");
  return absl::OkStatus();
}

template <typename T>
void add(Pairs& parameters, const char* name, const std::optional<T>& value) {
  if (value) parameters.emplace_back(name, absl::StrFormat("%g", static_cast<double>(*value)));
}

void read_parameters(const ServeWords& words, BodyOptions& body) {
  add(body.parameters, "temperature", words.temperature);
  add(body.parameters, "top_p", words.top_p);
  add(body.parameters, "top_k", words.top_k);
  add(body.parameters, "min_p", words.min_p);
  add(body.parameters, "frequency_penalty", words.frequency_penalty);
  add(body.parameters, "presence_penalty", words.presence_penalty);
  add(body.parameters, "repetition_penalty", words.repetition_penalty);
  if (words.logprobs && body.is_chat) body.parameters.emplace_back("logprobs", "true");
  add(body.parameters, body.is_chat ? "top_logprobs" : "logprobs", words.logprobs);
  body.ignores_eos = words.ignore_eos;
  body.extra_body = words.extra_body;
}

Status read_report(const ServeWords& words, ReportOptions& report) {
  report.percentile_metrics = split(words.percentile_metrics);
  for (const std::string& metric : report.percentile_metrics) {
    if (is_metric(metric)) continue;
    return error(kBad,
                 "--percentile-metrics: '%s' is not ttft, tpot, itl, e2el, client_queue_time or "
                 "e2el_including_client_queue",
                 metric);
  }
  report.percentiles.clear();
  for (const std::string& text : split(words.metric_percentiles)) {
    double percent = -1;
    const Status status = flag_value::read(text, percent);
    if (!status.ok() || !(percent >= 0 && percent <= 100)) {
      return error(kBad, "--metric-percentiles: '%s' is not a number from 0 to 100", text);
    }
    report.percentiles.push_back(percent);
  }
  TRIREME_ASSIGN_OR_RETURN(const Pairs bounds, pairs("goodput", words.goodput, ':', "KEY:MS"));
  for (const auto& [name, text] : bounds) {
    if (name != "ttft" && name != "tpot" && name != "e2el") {
      return error(kBad, "--goodput: '%s' is not ttft, tpot or e2el", name);
    }
    double bound = -1;
    if (!flag_value::read(text, bound).ok() || bound < 0) {
      return error(kBad, "--goodput: '%s' of %s is not milliseconds", text, name);
    }
    report.goodput[name] = bound;
  }
  report.request_rate = words.plan.request_rate;
  report.max_concurrency = words.max_concurrency;
  return absl::OkStatus();
}

}  // namespace

// clang-format off
std::vector<Flag> serve_bench_flags(ServeWords& w) {
  return {
      flag("base-url", "URL", "where the server is, e.g. http://10.0.0.1:8000; wins over --host and --port", w.base_url),
      flag("host", "HOST", "default 127.0.0.1", w.host),
      flag("port", "PORT", "default 8000", w.port),
      flag("backend", "KIND", "openai (default; vllm is the same) or openai-chat", w.backend),
      flag("endpoint", "PATH", "default /v1/completions, with openai-chat /v1/chat/completions", w.endpoint),
      flag("header", "KEY=VALUE...", "headers of every request; OPENAI_API_KEY in the environment gives a bearer token", w.header),
      flag("model", "NAME", "name in the API, or the model's directory; default: the server's first", w.model),
      flag("served-model-name", "NAME", "name in the API where --model is a directory", w.served_model_name),
      flag("tokenizer", "DIR", "directory with the config.json whose vocab_size bounds the prompts' token ids; default: the model's, where it is found on this machine, else 1024 ids", w.tokenizer),
      flag("dataset-name", "NAME", "random: prompts are lists of random token ids (a chat: of common words)", w.dataset_name),
      flag("num-prompts", "N", "requests; default 1000", w.plan.num_prompts),
      flag("random-input-len", "N", "tokens of a prompt; default 1024", w.plan.input_len),
      flag("random-output-len", "N", "tokens of an answer; default 128", w.plan.output_len),
      flag("random-range-ratio", "R", "lengths are uniform in [len * (1 - R), len * (1 + R)]; default 0", w.plan.range_ratio),
      flag("random-prefix-len", "N", "tokens before each prompt, the same in all; default 0", w.plan.prefix_len),
      flag("input-len", "N", "the same as --random-input-len", w.input_len),
      flag("output-len", "N", "the same as --random-output-len", w.output_len),
      flag("seed", "N", "of lengths, prompts and arrivals; default 0", w.plan.seed),
      flag("request-rate", "R", "requests per second; default inf: all at once", w.plan.request_rate),
      flag("burstiness", "B", "shape of the gaps at a finite rate: 1 (default) Poisson, below in bursts, above even", w.plan.burstiness),
      flag("max-concurrency", "N", "at most so many requests open; default: no limit", w.max_concurrency),
      flag("ignore-eos", "", "answers reach their length (default; --no-ignore-eos)", w.ignore_eos),
      flag("temperature", "T", "sampling; default: the server's", w.temperature),
      flag("top-p", "P", "sampling", w.top_p),
      flag("top-k", "K", "sampling", w.top_k),
      flag("min-p", "P", "sampling", w.min_p),
      flag("frequency-penalty", "X", "sampling", w.frequency_penalty),
      flag("presence-penalty", "X", "sampling", w.presence_penalty),
      flag("repetition-penalty", "X", "sampling", w.repetition_penalty),
      flag("logprobs", "N", "log probabilities with each token", w.logprobs),
      flag("extra-body", "JSON", "an object whose fields win over all others of a request, \"prompt\" and \"stream\" too", w.extra_body),
      flag("percentile-metrics", "LIST", "of ttft,tpot,itl,e2el,client_queue_time,e2el_including_client_queue; default ttft,tpot,itl", w.percentile_metrics),
      flag("metric-percentiles", "LIST", "e.g. 50,90,99.9; default 99", w.metric_percentiles),
      flag("goodput", "KEY:MS...", "count requests whose ttft, tpot, e2el are within so many milliseconds", w.goodput),
      flag("num-warmups", "N", "requests before the measured ones; default 0", w.num_warmups),
      flag("ready-check-timeout-sec", "S", "wait so long for the server to answer a first request; default 0: no first request", w.ready_check_timeout_sec),
      flag("disable-tqdm", "", "no progress line", w.disable_tqdm),
      flag("label", "TEXT", "prefix of the result's file name; default: the backend", w.label),
      flag("save-result", "", "write the figures as JSON", w.save_result),
      flag("save-detailed", "", "with lists of every request's figures", w.save_detailed),
      flag("append-result", "", "as a further line of the file", w.append_result),
      flag("metadata", "KEY=VALUE...", "further fields of the JSON", w.metadata),
      flag("result-dir", "DIR", "where to; default: here", w.result_dir),
      flag("result-filename", "FILE", "default LABEL-RATEqps-concurrencyN-MODEL-DATE.json", w.result_filename),
  };
}
// clang-format on

StatusOr<ServeBenchOptions> checked_options(const ServeWords& words) {
  ServeBenchOptions options{.words = words};
  TRIREME_RETURN_IF_ERROR(read_target(words, options));
  TRIREME_RETURN_IF_ERROR(read_plan(words, options.plan));
  read_parameters(words, options.body);
  TRIREME_RETURN_IF_ERROR(annotate(RequestBody::make(options.body).status(), "--extra-body"));
  TRIREME_RETURN_IF_ERROR(read_report(words, options.report));
  TRIREME_ASSIGN_OR_RETURN(options.metadata, pairs("metadata", words.metadata, '=', "KEY=VALUE"));
  return options;
}

}  // namespace trireme::bench

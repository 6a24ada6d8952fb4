// The command line of `bench serve`.
#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "cli/bench/flag_set.h"
#include "cli/bench/http_exchange.h"
#include "cli/bench/request_body.h"
#include "cli/bench/request_plan.h"
#include "cli/bench/serve_report.h"
#include "cli/bench/server_url.h"
#include "common/status.h"

namespace trireme::bench {

// As given; checked_options() makes sense of them.
struct ServeWords {
  std::string base_url;
  std::string host = "127.0.0.1";
  uint16_t port = 8000;
  std::string backend = "openai";
  std::string endpoint;
  std::string model;
  std::string served_model_name;
  std::string tokenizer;
  std::vector<std::string> header;
  std::string dataset_name = "random";
  PlanOptions plan;
  std::optional<uint32_t> input_len;
  std::optional<uint32_t> output_len;
  std::optional<uint32_t> max_concurrency;
  bool ignore_eos = true;
  std::optional<double> temperature, top_p, min_p;
  std::optional<int64_t> top_k;
  std::optional<double> frequency_penalty, presence_penalty, repetition_penalty;
  std::optional<uint32_t> logprobs;
  std::string extra_body;
  std::string percentile_metrics = "ttft,tpot,itl";
  std::string metric_percentiles = "99";
  std::vector<std::string> goodput;
  uint32_t num_warmups = 0;
  uint32_t ready_check_timeout_sec = 0;
  bool disable_tqdm = false;
  std::string label;
  bool save_result = false;
  bool save_detailed = false;
  bool append_result = false;
  std::vector<std::string> metadata;
  std::string result_dir;
  std::string result_filename;
};

[[nodiscard]] std::vector<Flag> serve_bench_flags(ServeWords& words);

struct ServeBenchOptions {
  ServeWords words;
  ServerUrl url;
  std::string path;  // --endpoint
  Headers headers;
  PlanOptions plan;
  BodyOptions body;  // Without the model.
  ReportOptions report;
  std::vector<std::pair<std::string, std::string>> metadata;
};

// The error names the flag and the value.
[[nodiscard]] StatusOr<ServeBenchOptions> checked_options(const ServeWords& words);

}  // namespace trireme::bench

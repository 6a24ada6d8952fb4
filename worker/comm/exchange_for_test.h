// What the tests of exchanges share: rows with random choices, experts that are a line of
// arithmetic, and what one member that has all experts makes of them in a plain loop.
#pragma once

#include <gtest/gtest.h>

#include <set>
#include <span>
#include <vector>

#include "common/random.h"
#include "worker/comm/expert_exchange.h"

namespace trireme::worker {

inline float made_by(uint32_t expert, float x) {
  return x * (1.0F + 0.37F * static_cast<float>(expert)) + 0.01F * static_cast<float>(expert);
}

// What a member has in one layer.
struct Rows {
  Rows(const ExpertShape& shape, uint32_t count, uint64_t seed) : shape_(shape) {
    Random random(seed);
    for (uint32_t row = 0; row < count; ++row) {
      std::set<uint32_t> chosen;
      while (chosen.size() < shape.experts_per_token) {
        chosen.insert(static_cast<uint32_t>(random.below(shape.expert_count)));
      }
      experts.insert(experts.end(), chosen.begin(), chosen.end());
      sent.push_back(row);
    }
    for (std::size_t i = 0; i < std::size_t{count} * shape.hidden_size; ++i) {
      values.push_back(static_cast<float>(random.unit() * 2 - 1));
    }
    for (std::size_t i = 0; i < experts.size(); ++i) {
      weights.push_back(static_cast<float>(random.unit()));
    }
  }

  [[nodiscard]] std::vector<float> expected() const {
    std::vector<float> sums(values.size());
    for (const uint32_t row : sent) {
      for (uint32_t k = 0; k < shape_.experts_per_token; ++k) {
        const std::size_t at = std::size_t{row} * shape_.experts_per_token + k;
        for (std::size_t i = row * shape_.hidden_size; i < (row + 1) * shape_.hidden_size; ++i) {
          sums[i] += weights[at] * made_by(experts[at], values[i]);
        }
      }
    }
    return sums;
  }

  ExpertShape shape_;
  std::vector<uint32_t> sent;
  std::vector<uint32_t> experts;
  std::vector<float> weights;
  std::vector<float> values;
};

class PlainWork final : public ExpertWork {
 public:
  explicit PlainWork(const Rows& rows) : rows_(rows), sums(rows.values.size()) {}

  void fetch(uint32_t expert) override { fetched.push_back(expert); }
  [[nodiscard]] Status compute(uint32_t expert, const float* x, std::span<const uint32_t> rows,
                               float* y, std::span<const uint32_t> results) override {
    experts_run.push_back(expert);
    const std::size_t hidden = rows_.shape_.hidden_size;
    for (std::size_t row = 0; row < rows.size(); ++row) {
      for (std::size_t i = 0; i < hidden; ++i) {
        y[results[row] * hidden + i] = made_by(expert, x[rows[row] * hidden + i]);
      }
    }
    return absl::OkStatus();
  }
  void combine(std::span<const uint32_t> rows, const float* y,
               std::span<const uint32_t> results) override {
    ++rounds;
    const std::size_t hidden = rows_.shape_.hidden_size;
    const std::size_t each = rows_.shape_.experts_per_token;
    for (std::size_t row = 0; row < rows.size(); ++row) {
      for (std::size_t k = 0; k < each; ++k) {
        const float weight = rows_.weights[rows[row] * each + k];
        for (std::size_t i = 0; i < hidden; ++i) {
          sums[rows[row] * hidden + i] += weight * y[results[row * each + k] * hidden + i];
        }
      }
    }
  }

 private:
  const Rows& rows_;

 public:
  std::vector<float> sums;
  std::vector<uint32_t> fetched;
  std::vector<uint32_t> experts_run;
  uint32_t rounds = 0;
};

inline ExpertRows rows_of(const Rows& rows) {
  return {.values = rows.values.data(),
          .row_stride = rows.shape_.hidden_size,
          .rows = rows.sent,
          .experts = rows.experts};
}

// What it computed, and in how many rounds.
inline PlainWork run_anywhere(ExpertExchange& exchange, const Rows& rows) {
  PlainWork work(rows);
  const Status status = exchange.run(rows.shape_, rows_of(rows), work);
  EXPECT_TRUE(status.ok()) << status;
  EXPECT_EQ(work.sums, rows.expected());
  return work;
}

// How many rounds it took.
inline uint32_t run_and_check(ExpertExchange& exchange, const Rows& rows) {
  const PlainWork work = run_anywhere(exchange, rows);
  for (const uint32_t expert : work.experts_run) EXPECT_TRUE(exchange.has_expert(expert));
  return work.rounds;
}

}  // namespace trireme::worker

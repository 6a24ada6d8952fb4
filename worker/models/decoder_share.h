// DecoderShare: what one rank has of a decoder: its layers (pipeline stage) and its slices of each
// (tensor parallelism): heads, columns of the MLPs, rows of the vocabulary.
#pragma once

#include "worker/comm/expert_placement.h"
#include "worker/models/decoder_config.h"
#include "worker/models/weight_reader.h"
#include "worker/worker.h"

namespace trireme::worker {

struct DecoderShare {
  Range layers;
  Range query_heads;
  Range kv_heads;                    // With more ranks than heads, several ranks hold the same one.
  Range vocabulary;                  // May be cut short on the last rank.
  uint32_t vocabulary_per_rank = 0;  // Rounded up.
  uint32_t tp_rank = 0;
  uint32_t tp_size = 1;
  bool is_first_stage = false;
  bool is_last_stage = false;
  bool adds_bias = false;          // Of sums over ranks one rank adds the bias.
  bool has_whole_experts = false;  // Of a mixture: all columns, on every rank that has them:
  ExpertHome experts;              // which ones.

  // kInvalidArgument naming the flag, its value and the size that does not divide; the columns of
  // experts are check_mixture_divides()'s.
  [[nodiscard]] static StatusOr<DecoderShare> of(const ModelConfig& sizes,
                                                 const WorkerPlace& place);
  // Of the columns of an MLP.
  [[nodiscard]] Range part_of(uint32_t count) const { return equal_part(count, tp_rank, tp_size); }
  // Of those of an expert.
  [[nodiscard]] Range part_of_expert(uint32_t count) const {
    return has_whole_experts ? Range{0, count} : part_of(count);
  }
};

[[nodiscard]] Status check_mixture_divides(const DecoderConfig& config, const DecoderShare& share);

}  // namespace trireme::worker

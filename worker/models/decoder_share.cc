#include "worker/models/decoder_share.h"

#include <algorithm>

namespace trireme::worker {
namespace {

Status check_divides(const char* what, uint32_t count, uint32_t tp_size) {
  if (count % tp_size == 0) return absl::OkStatus();
  return error(StatusCode::kInvalidArgument,
               "--tensor-parallel-size %d: the model's %d %s do not divide by it", tp_size, count,
               what);
}

}  // namespace

Status check_mixture_divides(const DecoderConfig& config, const DecoderShare& share) {
  if (!config.mixture) return absl::OkStatus();
  const MixtureConfig& mixture = *config.mixture;
  const uint32_t tp_size = share.tp_size;
  if (!share.has_whole_experts) {
    TRIREME_RETURN_IF_ERROR(check_divides("columns of an expert", mixture.expert_size, tp_size));
  }
  TRIREME_RETURN_IF_ERROR(check_divides("columns of shared experts", mixture.shared_size, tp_size));
  if (!config.has_dense_layer()) return absl::OkStatus();
  return check_divides("intermediate columns", config.sizes.intermediate_size, tp_size);
}

StatusOr<DecoderShare> DecoderShare::of(const ModelConfig& sizes, const WorkerPlace& place) {
  const uint32_t tp = place.tp_size;
  TRIREME_RETURN_IF_ERROR(check_divides("attention heads", sizes.head_count, tp));
  if (sizes.expert_count == 0) {
    TRIREME_RETURN_IF_ERROR(check_divides("intermediate columns", sizes.intermediate_size, tp));
  }
  if (place.pp_size > sizes.layer_count) {
    return error(StatusCode::kInvalidArgument,
                 "--pipeline-parallel-size %d: the model has only %d layers", place.pp_size,
                 sizes.layer_count);
  }
  DecoderShare share;
  if (sizes.kv_head_count >= tp) {
    TRIREME_RETURN_IF_ERROR(check_divides("key/value heads", sizes.kv_head_count, tp));
    share.kv_heads = equal_part(sizes.kv_head_count, place.tp_rank, tp);
  } else {
    if (tp % sizes.kv_head_count != 0) {
      return error(StatusCode::kInvalidArgument,
                   "--tensor-parallel-size %d: not a multiple of the model's %d key/value heads",
                   tp, sizes.kv_head_count);
    }
    share.kv_heads = {place.tp_rank / (tp / sizes.kv_head_count), 1};
  }
  const uint32_t first = sizes.layer_count * place.pp_rank / place.pp_size;
  const uint32_t end = sizes.layer_count * (place.pp_rank + 1) / place.pp_size;
  share.layers = {first, end - first};
  share.query_heads = equal_part(sizes.head_count, place.tp_rank, tp);
  share.tp_rank = place.tp_rank;
  share.tp_size = tp;
  share.vocabulary_per_rank = (sizes.vocabulary_size + tp - 1) / tp;
  const uint32_t begin = std::min(share.vocabulary_per_rank * place.tp_rank, sizes.vocabulary_size);
  share.vocabulary = {begin, std::min(share.vocabulary_per_rank, sizes.vocabulary_size - begin)};
  share.is_first_stage = place.pp_rank == 0;
  share.is_last_stage = place.pp_rank + 1 == place.pp_size;
  share.adds_bias = place.tp_rank == 0;
  return share;
}

}  // namespace trireme::worker

#include "worker/kernels/cuda/attention.h"

#include "worker/kernels/cuda/kv_address.h"
#include "worker/kernels/cuda/numbers.h"
#include "worker/kernels/cuda/reduce.h"

namespace trireme::worker::cuda {
namespace {

constexpr uint32_t kChunkTokens = kWarp;  // A lane has a position.
constexpr uint32_t kQueriesAtOnce = 16;
constexpr uint32_t kWarps = 4;
constexpr uint32_t kThreads = kWarps * kWarp;
constexpr uint32_t kQueriesPerWarp = kQueriesAtOnce / kWarps;
constexpr uint32_t kColumnsPerThread = kHeadSizeMax / kThreads;
constexpr std::size_t kWorkspaceFloats = std::size_t{1} << 24;  // Unless one run needs more.

// Rows of K and V in shared memory start in different banks.
__host__ __device__ constexpr uint32_t padded(uint32_t head_size) { return head_size | 1U; }

// What a block has in shared memory, behind one another.
struct Shared {
  float* queries;  // [kQueriesAtOnce][head_size], scaled.
  float* rows;     // [kChunkTokens][padded(head_size)] of K, then of V.
  float* weights;  // [kQueriesAtOnce][kChunkTokens]
  float* factors;  // [kQueriesAtOnce]: of the sums so far.

  __device__ explicit Shared(uint32_t head_size) {
    queries = dynamic_shared<float>();
    rows = queries + kQueriesAtOnce * head_size;
    weights = rows + kChunkTokens * padded(head_size);
    factors = weights + kQueriesAtOnce * kChunkTokens;
  }
  static std::size_t bytes(uint32_t head_size) {
    return sizeof(float) * (kQueriesAtOnce * head_size + kChunkTokens * padded(head_size) +
                            kQueriesAtOnce * kChunkTokens + kQueriesAtOnce);
  }
};

// The positions that a token sees.
struct Seen {
  uint32_t first;
  uint32_t last;
};

// The queries of a block: those from `begin` on of [token of the run][head of the group].
struct Queries {
  uint32_t begin;
  uint32_t count;
  uint32_t group;  // Query heads of a KV head.
  uint32_t token_begin;
  uint32_t first_head;

  [[nodiscard]] __device__ uint32_t token(uint32_t query) const {
    return token_begin + (begin + query) / group;
  }
  [[nodiscard]] __device__ uint32_t head(uint32_t query) const {
    return first_head + (begin + query) % group;
  }
};

// Where the spans' results lie: [run][token of the run][head][span][sums, largest, total].
struct Workspace {
  float* data;
  uint32_t run_tokens;
  uint32_t head_count;
  uint32_t span_count;
  uint32_t head_size;

  [[nodiscard]] __device__ float* at(uint32_t run, uint32_t token, uint32_t head,
                                     uint32_t span) const {
    const std::size_t query = (std::size_t{run} * run_tokens + token) * head_count + head;
    return data + (query * span_count + span) * (head_size + 2);
  }
  [[nodiscard]] std::size_t floats_of_run() const {
    return std::size_t{run_tokens} * head_count * span_count * (head_size + 2);
  }
};

__device__ Seen seen_by(const AttentionBatch& batch, const AttentionRun& run,
                        const AttentionShape& shape, uint32_t token) {
  if (!shape.is_causal) return {0, run.last_position};
  const auto position = static_cast<uint32_t>(batch.positions[token]);
  const bool is_cut = shape.window_tokens > 0 && position >= shape.window_tokens;
  return {is_cut ? position + 1 - shape.window_tokens : 0, position};
}

// K or V of the chunk's positions up to `last`, as fp32. A warp reads a row.
template <typename Value, bool kIsValue>
__device__ void load_rows(const KvLayer& layer, const int32_t* blocks, uint32_t head,
                          uint32_t first, uint32_t last, float* rows) {
  for (uint32_t i = threadIdx.x / kWarp; i < kChunkTokens && first + i <= last; i += kWarps) {
    const uint32_t position = first + i;
    const auto block = static_cast<uint32_t>(blocks[position / layer.block_tokens]);
    const KvAddress<Value> at(layer, block, head);
    const uint32_t place = position % layer.block_tokens;
    const Value* const from = kIsValue ? at.v_of(place) : at.k_of(place);
    float scale = 1;
    if constexpr (KvAddress<Value>::kHasScales) {
      scale = kIsValue ? *at.v_scale_of(place) : *at.k_scale_of(place);
    }
    float* const to = rows + i * padded(layer.head_size);
    for (uint32_t column = threadIdx.x % kWarp * kColumnsAtOnce; column < layer.head_size;
         column += kWarp * kColumnsAtOnce) {
      const Columns values = load_columns(from, column, layer.head_size);
      for (uint32_t j = 0; j < kColumnsAtOnce && column + j < layer.head_size; ++j) {
        to[column + j] = KvAddress<Value>::kHasScales ? values.at[j] * scale : values.at[j];
      }
    }
  }
}

// Of one query, in every lane of its warp.
struct Softmax {
  float largest = -INFINITY;
  float total = 0;
};

// This lane's score becomes its weight; what the sums so far are to be multiplied with.
__device__ float add_chunk(Softmax& softmax, float score, bool is_seen, float& weight) {
  const float largest = fmaxf(softmax.largest, warp_max(score));
  // A chunk of which nothing is seen changes nothing.
  const float factor = largest == softmax.largest ? 1.0F : expf(softmax.largest - largest);
  weight = is_seen ? expf(score - largest) : 0.0F;
  softmax.total = __fmaf_rn(softmax.total, factor, warp_sum(weight));
  softmax.largest = largest;
  return factor;
}

__device__ float score_of(const float* query, const float* key, const AttentionShape& shape) {
  float score = 0;
  for (uint32_t i = 0; i < shape.head_size; ++i) score = __fmaf_rn(query[i], key[i], score);
  return shape.soft_cap == 0 ? score : shape.soft_cap * tanhf(score / shape.soft_cap);
}

// What a thread adds up: its columns of each query.
struct Sums {
  float at[kColumnsPerThread][kQueriesAtOnce] = {};

  __device__ void add_chunk(const Shared& shared, uint32_t query_count, uint32_t head_size,
                            uint32_t row_count) {
    for (uint32_t part = 0; part < kColumnsPerThread; ++part) {
      const uint32_t column = part * kThreads + threadIdx.x;
      if (column >= head_size) return;
      for (uint32_t query = 0; query < kQueriesAtOnce; ++query) {
        if (query < query_count) at[part][query] *= shared.factors[query];
      }
      for (uint32_t row = 0; row < row_count; ++row) {
        const float value = shared.rows[row * padded(head_size) + column];
        for (uint32_t query = 0; query < kQueriesAtOnce; ++query) {
          if (query >= query_count) continue;
          // Not seen, or too far below the largest: then 0 · NaN must not come in.
          const float weight = shared.weights[query * kChunkTokens + row];
          if (weight != 0) at[part][query] = __fmaf_rn(weight, value, at[part][query]);
        }
      }
    }
  }
};

// The weights of the chunk from `first` on for each query of this warp.
__device__ void weigh_chunk(const Shared& shared, const Queries& queries,
                            const AttentionShape& shape, uint32_t first,
                            const Seen (&seen)[kQueriesPerWarp],
                            Softmax (&softmaxes)[kQueriesPerWarp]) {
  const uint32_t lane = threadIdx.x % kWarp;
  for (uint32_t i = 0; i < kQueriesPerWarp; ++i) {
    const uint32_t query = i * kWarps + threadIdx.x / kWarp;
    if (query >= queries.count) return;
    const uint32_t position = first + lane;
    const bool is_seen = position >= seen[i].first && position <= seen[i].last;
    const float score = is_seen ? score_of(shared.queries + query * shape.head_size,
                                           shared.rows + lane * padded(shape.head_size), shape)
                                : -INFINITY;
    float weight = 0;
    const float factor = add_chunk(softmaxes[i], score, is_seen, weight);
    shared.weights[query * kChunkTokens + lane] = weight;
    if (lane == 0) shared.factors[query] = factor;
  }
}

__device__ void load_queries(const Shared& shared, const Queries& queries,
                             const AttentionShape& shape, const View& q) {
  for (uint32_t i = threadIdx.x; i < queries.count * shape.head_size; i += kThreads) {
    const uint32_t query = i / shape.head_size;
    const float* const row = row_of(q, queries.token(query));
    const uint32_t column = queries.head(query) * shape.head_size + i % shape.head_size;
    shared.queries[i] = row[column] * shape.scale;
  }
}

// A query's place in the run.
__device__ float* place_of(const Workspace& workspace, const Queries& queries, uint32_t run,
                           uint32_t query, uint32_t span) {
  return workspace.at(run, queries.token(query) - queries.token_begin, queries.head(query), span);
}

__device__ void store_sums(const Workspace& workspace, const Queries& queries, uint32_t run,
                           uint32_t span, const Sums& sums) {
  for (uint32_t part = 0; part < kColumnsPerThread; ++part) {
    const uint32_t column = part * kThreads + threadIdx.x;
    if (column >= workspace.head_size) return;
    for (uint32_t query = 0; query < kQueriesAtOnce; ++query) {
      if (query >= queries.count) continue;
      place_of(workspace, queries, run, query, span)[column] = sums.at[part][query];
    }
  }
}

// Block (run and span, tile of the run's queries, KV head).
template <typename Value>
__global__ void __launch_bounds__(kThreads)
    attend_spans(KvLayer layer, AttentionBatch batch, AttentionShape shape, View q,
                 Workspace workspace) {
  const uint32_t run_index = blockIdx.x % batch.run_count;
  const uint32_t span = blockIdx.x / batch.run_count;
  const AttentionRun run = batch.runs[run_index];
  const uint32_t group = shape.query_head_count / shape.kv_head_count;
  Queries queries{blockIdx.y * kQueriesAtOnce, 0, group, run.token_begin, blockIdx.z * group};
  const uint32_t run_queries = run.token_count * group;
  if (queries.begin >= run_queries) return;
  queries.count = min(run_queries - queries.begin, kQueriesAtOnce);
  // Later tokens of a run see no less far ahead, and no further back.
  const uint32_t first =
      max(seen_by(batch, run, shape, queries.token(0)).first, span * kSpanTokens);
  const uint32_t last = min(seen_by(batch, run, shape, queries.token(queries.count - 1)).last,
                            (span + 1) * kSpanTokens - 1);
  if (first > last) return;
  const Shared shared(shape.head_size);
  const int32_t* const blocks = batch.block_table + run.blocks_begin;
  Seen seen[kQueriesPerWarp] = {};
  for (uint32_t i = 0; i < kQueriesPerWarp; ++i) {
    const uint32_t query = i * kWarps + threadIdx.x / kWarp;
    if (query < queries.count) seen[i] = seen_by(batch, run, shape, queries.token(query));
  }
  load_queries(shared, queries, shape, q);
  Softmax softmaxes[kQueriesPerWarp];
  Sums sums;
  for (uint32_t chunk = first / kChunkTokens * kChunkTokens; chunk <= last; chunk += kChunkTokens) {
    load_rows<Value, false>(layer, blocks, blockIdx.z, chunk, last, shared.rows);
    __syncthreads();
    weigh_chunk(shared, queries, shape, chunk, seen, softmaxes);
    __syncthreads();
    load_rows<Value, true>(layer, blocks, blockIdx.z, chunk, last, shared.rows);
    __syncthreads();
    sums.add_chunk(shared, queries.count, shape.head_size, min(last - chunk + 1, kChunkTokens));
    __syncthreads();
  }
  store_sums(workspace, queries, run_index, span, sums);
  for (uint32_t i = 0; i < kQueriesPerWarp; ++i) {
    const uint32_t query = i * kWarps + threadIdx.x / kWarp;
    if (threadIdx.x % kWarp > 0 || query >= queries.count) continue;
    float* const place = place_of(workspace, queries, run_index, query, span);
    place[shape.head_size] = softmaxes[i].largest;
    place[shape.head_size + 1] = softmaxes[i].total;
  }
}

// Block (run, token of the run, head): out = what the spans that the token sees come to together.
__global__ void __launch_bounds__(kThreads)
    add_spans(AttentionBatch batch, AttentionShape shape, Workspace workspace, View out) {
  const AttentionRun run = batch.runs[blockIdx.x];
  if (blockIdx.y >= run.token_count) return;
  const uint32_t token = run.token_begin + blockIdx.y;
  const Seen seen = seen_by(batch, run, shape, token);
  float* const to = row_of(out, token) + blockIdx.z * shape.head_size;
  for (uint32_t column = threadIdx.x; column < shape.head_size; column += blockDim.x) {
    Softmax all;
    float sum = 0;
    for (uint32_t span = seen.first / kSpanTokens; span <= seen.last / kSpanTokens; ++span) {
      const float* const place = workspace.at(blockIdx.x, blockIdx.y, blockIdx.z, span);
      const float largest = fmaxf(all.largest, place[shape.head_size]);
      const float old_factor = expf(all.largest - largest);
      const float factor = expf(place[shape.head_size] - largest);
      sum = __fmaf_rn(sum, old_factor, place[column] * factor);
      all.total = __fmaf_rn(all.total, old_factor, place[shape.head_size + 1] * factor);
      all.largest = largest;
    }
    to[column] = sum / all.total;
  }
}

Workspace workspace_of(const AttentionBatch& batch, const AttentionShape& shape, float* data) {
  return {data, batch.run_tokens_max, shape.query_head_count,
          batch.last_position_max / kSpanTokens + 1, shape.head_size};
}

// As many runs as the workspace has room for, one at least.
uint32_t runs_at_once(const AttentionBatch& batch, const Workspace& workspace) {
  const auto fitting = static_cast<uint32_t>(kWorkspaceFloats / workspace.floats_of_run());
  return min(max(fitting, 1U), batch.run_count);
}

template <typename Value>
void launch_attention(const KvLayer& layer, const AttentionBatch& batch,
                      const AttentionShape& shape, const View& q, const View& out,
                      const Workspace& workspace, Queue& queue) {
  const uint32_t group = shape.query_head_count / shape.kv_head_count;
  const uint32_t tiles = divided_up(batch.run_tokens_max * group, kQueriesAtOnce);
  launch(attend_spans<Value>,
         dim3{batch.run_count * workspace.span_count, tiles, shape.kv_head_count}, dim3{kThreads},
         Shared::bytes(shape.head_size), queue, layer, batch, shape, q, workspace);
  launch(add_spans, dim3{batch.run_count, batch.run_tokens_max, shape.query_head_count},
         dim3{min(divided_up(shape.head_size, kWarp) * kWarp, kThreads)}, 0, queue, batch, shape,
         workspace, out);
}

}  // namespace

std::size_t attention_workspace(const AttentionBatch& batch, const AttentionShape& shape) {
  if (batch.run_count == 0) return 0;
  const Workspace workspace = workspace_of(batch, shape, nullptr);
  return workspace.floats_of_run() * runs_at_once(batch, workspace);
}

void attend(const KvLayer& layer, const AttentionBatch& batch, const AttentionShape& shape,
            const View& q, const View& out, float* workspace, Queue& queue) {
  if (batch.run_count == 0) return;
  const Workspace places = workspace_of(batch, shape, workspace);
  const uint32_t at_once = runs_at_once(batch, places);
  with_kv_type_of(layer.element, [&](auto zero) {
    for (uint32_t begin = 0; begin < batch.run_count; begin += at_once) {
      AttentionBatch part = batch;
      part.runs += begin;
      part.run_count = min(batch.run_count - begin, at_once);
      launch_attention<decltype(zero)>(layer, part, shape, q, out, places, queue);
    }
  });
}

}  // namespace trireme::worker::cuda

// BERT: an encoder. Learned positions and token types, layer norms after each block, attention in
// both directions, and no head: what it gives is hidden states, for embeddings.
#include "worker/models/decoder.h"
#include "worker/models/registry.h"

namespace trireme::worker {
namespace {

DecoderNames names_in(const Safetensors& weights) {
  DecoderNames names;
  // As saved from a model with a head on top, or by itself.
  const bool has_prefix = weights.find("bert.embeddings.word_embeddings.weight") != nullptr;
  names.prefix = has_prefix ? "bert." : "";
  names.embedding = "embeddings.word_embeddings";
  names.positions = "embeddings.position_embeddings";
  names.token_types = "embeddings.token_type_embeddings";
  names.embedding_norm = "embeddings.LayerNorm";
  names.layers = "encoder.layer";
  names.final_norm = "";
  names.head = "";
  names.attention_norm = "";
  names.q = "attention.self.query";
  names.k = "attention.self.key";
  names.v = "attention.self.value";
  names.output = "attention.output.dense";
  names.attention_post_norm = "attention.output.LayerNorm";
  names.mlp_norm = "";
  names.gate = "";
  names.up = "intermediate.dense";
  names.down = "output.dense";
  names.mlp_post_norm = "output.LayerNorm";
  return names;
}

Status refuse_variants(const ModelConfig& config) {
  ConfigFields fields = config.fields();
  std::string positions = "absolute";
  bool is_decoder = false;
  fields.read("position_embedding_type", positions);
  fields.read("is_decoder", is_decoder);
  if (positions != "absolute") {
    fields.fail(absl::StrFormat("position_embedding_type \"%s\": not supported", positions));
  }
  if (is_decoder) fields.fail("is_decoder is true: not supported");
  return fields.status();
}

}  // namespace

StatusOr<std::unique_ptr<Model>> make_bert(ModelSource source) {
  const ModelConfig& config = source.directory.config();
  TRIREME_RETURN_IF_ERROR(refuse_variants(config));
  return DecoderModel::load({.sizes = config,
                             .names = names_in(source.directory.weights()),
                             .qkv_bias = true,
                             .output_bias = true,
                             .mlp_bias = true,
                             .norm = NormKind::kLayer,
                             .norm_bias = true,
                             .norm_after = true,
                             .sees_both_ways = true,
                             .window_tokens = no_windows(config),
                             .ropes = no_ropes(config)},
                            std::move(source));
}

}  // namespace trireme::worker

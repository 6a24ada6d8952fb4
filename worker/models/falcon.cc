// Falcon 7B, 40B, 180B and Falcon 2 (Falcon 3 is a Llama): layer norms, one fused projection, in
// most of them attention and MLP side by side.
#include "worker/models/decoder.h"
#include "worker/models/registry.h"

namespace trireme::worker {
namespace {

// What distinguishes the generations, by its names in config.json.
struct Variant {
  bool alibi = false;
  bool new_decoder_architecture = false;
  bool multi_query = true;
  bool parallel_attn = true;
  bool bias = false;
  uint32_t num_ln_in_parallel_attn = 2;
};

StatusOr<Variant> read_variant(const ModelConfig& config) {
  Variant variant;
  ConfigFields fields = config.fields();
  fields.read("alibi", variant.alibi);
  fields.read("new_decoder_architecture", variant.new_decoder_architecture);
  fields.read("multi_query", variant.multi_query);
  fields.read("parallel_attn", variant.parallel_attn);
  fields.read("bias", variant.bias);
  fields.read("num_ln_in_parallel_attn", variant.num_ln_in_parallel_attn);
  if (variant.alibi) fields.fail("alibi is true: not supported; supported is rotary embedding");
  TRIREME_RETURN_IF_ERROR(fields.status());
  return variant;
}

DecoderNames names_of(const Variant& variant) {
  DecoderNames names;
  names.prefix = "transformer.";
  names.embedding = "word_embeddings";
  names.layers = "h";
  names.final_norm = "ln_f";
  names.qkv = "self_attention.query_key_value";
  names.output = "self_attention.dense";
  names.gate = "";
  names.up = "mlp.dense_h_to_4h";
  names.down = "mlp.dense_4h_to_h";
  if (variant.new_decoder_architecture && variant.num_ln_in_parallel_attn == 2) {
    names.attention_norm = "ln_attn";
    names.mlp_norm = "ln_mlp";
  } else if (variant.new_decoder_architecture || variant.parallel_attn) {
    names.mlp_norm = "";
  }
  return names;
}

}  // namespace

StatusOr<std::unique_ptr<Model>> make_falcon(ModelSource source) {
  ModelConfig config = source.directory.config();
  TRIREME_ASSIGN_OR_RETURN(const Variant variant, read_variant(config));
  if (!variant.new_decoder_architecture) {
    config.kv_head_count = variant.multi_query ? 1 : config.head_count;
  }
  return DecoderModel::load(
      {.sizes = config,
       .names = names_of(variant),
       .qkv_layout = QkvLayout::kGrouped,
       .qkv_bias = variant.bias,
       .output_bias = variant.bias,
       .mlp_bias = variant.bias,
       .norm = NormKind::kLayer,
       .norm_bias = true,
       .parallel_residual = variant.new_decoder_architecture || variant.parallel_attn,
       .window_tokens = no_windows(config)},
      std::move(source));
}

}  // namespace trireme::worker

#include "worker/models/tensor_loader.h"

#include "worker/weights/quantized_formats.h"

namespace trireme::worker {

StatusOr<NormWeights> TensorLoader::norm(const std::string& name) {
  NormWeights norm;
  if (name.empty()) return norm;
  TRIREME_ASSIGN_OR_RETURN(norm.weight, norm_weight(name, sizes_.hidden_size));
  if (!config_.norm_bias) return norm;
  TRIREME_ASSIGN_OR_RETURN(const MatrixSlice bias,
                           reader_.vector(prefix_ + name + ".bias", sizes_.hidden_size));
  TRIREME_ASSIGN_OR_RETURN(norm.bias, device_.load_vector(bias));
  return norm;
}

StatusOr<std::unique_ptr<VectorWeight>> TensorLoader::norm_weight(const std::string& name,
                                                                  uint32_t count) {
  TRIREME_ASSIGN_OR_RETURN(const MatrixSlice values,
                           reader_.vector(prefix_ + name + ".weight", count));
  return device_.load_vector(VectorSource{.parts = {values}, .added = config_.norm_added});
}

StatusOr<MatrixSlice> TensorLoader::matrix(const std::string& name, uint32_t row_count,
                                           uint32_t column_count) const {
  const std::string layer = prefix_ + name;
  const std::string full = layer + ".weight";
  TRIREME_RETURN_IF_ERROR(check_is_as_said(tensors_, sizes_, layer));
  return config_.is_transposed ? reader_.transposed(full, row_count, column_count)
                               : reader_.matrix(full, row_count, column_count);
}

Status TensorLoader::add_rows(const std::string& name, uint32_t row_count,
                              const std::vector<Range>& ranges, bool bias, LinearSource& source) {
  TRIREME_ASSIGN_OR_RETURN(const MatrixSlice all, matrix(name, row_count, sizes_.hidden_size));
  for (const Range& rows : ranges) source.parts.push_back(rows_of(all, rows));
  if (!bias) return absl::OkStatus();
  TRIREME_ASSIGN_OR_RETURN(const MatrixSlice values,
                           reader_.vector(prefix_ + name + ".bias", row_count));
  for (const Range& rows : ranges) source.biases.push_back(columns_of(values, rows));
  return absl::OkStatus();
}

StatusOr<std::unique_ptr<LinearWeight>> TensorLoader::router(const std::string& name,
                                                             uint32_t row_count) {
  // Not by matrix(): tools leave routers plain unsaid.
  TRIREME_ASSIGN_OR_RETURN(
      MatrixSlice rows, reader_.matrix(prefix_ + name + ".weight", row_count, sizes_.hidden_size));
  return device_.load_linear({.parts = {std::move(rows)}, .narrowest = Narrowest::kAsIs});
}

StatusOr<std::unique_ptr<LinearWeight>> TensorLoader::column_parallel(const std::string& name,
                                                                      uint32_t column_count,
                                                                      Range columns, bool bias,
                                                                      bool is_apart) {
  TRIREME_ASSIGN_OR_RETURN(const MatrixSlice all, matrix(name, sizes_.hidden_size, column_count));
  LinearSource source{.parts = {columns_of(all, columns)}, .is_apart = is_apart};
  if (bias && share_.adds_bias) {
    TRIREME_ASSIGN_OR_RETURN(const MatrixSlice values,
                             reader_.vector(prefix_ + name + ".bias", sizes_.hidden_size));
    source.biases.push_back(values);
  }
  return device_.load_linear(source);
}

StatusOr<ExpertWeights> TensorLoader::mlp(const std::string& gate, const std::string& up,
                                          const std::string& down, uint32_t size, Range mine,
                                          bool bias, bool is_apart) {
  LinearSource source{.is_apart = is_apart};
  for (const std::string& name : {gate, up}) {
    if (name.empty()) continue;
    TRIREME_RETURN_IF_ERROR(add_rows(name, size, {mine}, bias, source));
  }
  ExpertWeights weights;
  TRIREME_ASSIGN_OR_RETURN(weights.gate_up, device_.load_linear(source));
  TRIREME_ASSIGN_OR_RETURN(weights.down, column_parallel(down, size, mine, bias, is_apart));
  return weights;
}

}  // namespace trireme::worker

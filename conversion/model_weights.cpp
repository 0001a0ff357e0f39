#include "conversion/model_weights.hpp"

#include <cmath>

#include "layers/language_model.hpp"

namespace filigree {
namespace {

constexpr std::pair<std::string_view, std::string_view> kNames[] = {
    {"embedding.", "model.embed_tokens."},
    {"norm.", "model.norm."},
    {"head.", "lm_head."},
    {"norm1.", "input_layernorm."},
    {"norm2.", "post_attention_layernorm."},
    {"attention.query.", "self_attn.q_proj."},
    {"attention.key.", "self_attn.k_proj."},
    {"attention.value.", "self_attn.v_proj."},
    {"attention.output.", "self_attn.o_proj."},
    {"attention.query_norm.", "self_attn.q_norm."},
    {"attention.key_norm.", "self_attn.k_norm."},
    {"attention.output_gate.", "self_attn.output_gate."},
    {"attention.gate.", "self_attn.gate."},
    {"feed_forward.gate.", "mlp.gate_proj."},
    {"feed_forward.up.", "mlp.up_proj."},
    {"feed_forward.down.", "mlp.down_proj."},
};

std::string saved_name(const std::string& parameter) { return "parameters/" + parameter; }

// The whole tensor.
Tensor read_whole(const CheckpointReader& reader, const std::string& parameter) {
  const std::string name = saved_name(parameter);
  const Shape shape = reader.global_shape(name);
  const Tensor values = Tensor::empty(shape, reader.dtype(name));
  reader.read({name, values, shape, std::vector<std::int64_t>(shape.sizes().size(), 0)});
  return values;
}

// gamma / |W^T u|
double reparametrised_scale(const Tensor& w, const Tensor& u, double gamma) {
  const std::int64_t rows = w.dim(0), columns = w.dim(1);
  std::vector<double> v(static_cast<std::size_t>(columns), 0.0);
  for (std::int64_t r = 0; r < rows; ++r)
    for (std::int64_t c = 0; c < columns; ++c)
      v[static_cast<std::size_t>(c)] += w.data<double>()[r * columns + c] * u.data<double>()[r];
  double square = 0.0;
  for (const double value : v) square += value * value;
  return gamma / std::sqrt(square);
}

Tensor folded(const CheckpointReader& reader, const std::string& weight, const std::string& layer) {
  const Tensor w = read_whole(reader, weight).to(DType::f64);
  const Tensor u = read_whole(reader, layer + ".u").to(DType::f64);
  const Tensor gamma = read_whole(reader, layer + ".gamma").to(DType::f64);
  const double scale = reparametrised_scale(w, u, *gamma.data<double>());
  for (double& value : w.span<double>()) value *= scale;
  return w;
}

}  // namespace

std::string renamed(std::string_view parameter, NamePairs names, std::string_view blocks) {
  const std::string_view whole = parameter;
  std::string block;
  constexpr std::string_view kBlocks = "blocks.";
  if (parameter.starts_with(kBlocks)) {
    const std::size_t end = parameter.find('.', kBlocks.size()) + 1;
    block = str(blocks, parameter.substr(kBlocks.size(), end - kBlocks.size()));
    parameter.remove_prefix(end);
  }
  for (const auto& [ours, theirs] : names)
    if (parameter.starts_with(ours)) return str(block, theirs, parameter.substr(ours.size()));
  FILIGREE_CHECK(false, "parameter ", whole, " has no name among those of ", blocks);
}

std::vector<ModelWeight> model_weights(const ModelConfig& config) {
  const Mesh mesh(self_communicator("world"), {});
  ParameterStore store;
  const LanguageModel model(config, mesh, store);
  std::vector<ModelWeight> weights;
  for (const Parameter& parameter : store.parameters()) {
    if (parameter.name.ends_with(".gamma") || parameter.name.ends_with(".u")) continue;
    weights.push_back({parameter.name, renamed(parameter.name, kNames, "model.layers."),
                       parameter.global_shape, parameter.gate});
  }
  return weights;
}

PromisedTensor promised_parameter(const CheckpointReader& reader, const std::string& parameter,
                                  const std::string& name, DType dtype) {
  constexpr std::string_view kWeight = ".weight";
  std::string layer;
  if (parameter.ends_with(kWeight)) {
    layer = parameter.substr(0, parameter.size() - kWeight.size());
    if (!reader.contains(saved_name(layer + ".gamma"))) layer.clear();
  }
  return {name, dtype, reader.global_shape(saved_name(parameter)),
          [reader, parameter, layer, dtype] {
            return narrowed(
                layer.empty() ? read_whole(reader, parameter) : folded(reader, parameter, layer),
                dtype, str("parameter ", parameter));
          }};
}

}  // namespace filigree

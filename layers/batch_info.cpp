#include "layers/batch_info.hpp"

namespace filigree {

BatchInfo BatchInfo::uploaded(const ExecutionContext& execution) const {
  BatchInfo result = *this;
  for (Tensor* const tensor :
       {&result.positions_T, &result.document_begin_T, &result.document_end_T})
    *tensor = execution.upload(*tensor, MemoryUse::data);
  return result;
}

Tensor sequential_positions(std::int64_t batch, std::int64_t length, std::int64_t first) {
  Tensor positions = Tensor::empty({batch * length}, DType::i32);
  auto* out = positions.data<std::int32_t>();
  for (std::int64_t b = 0; b < batch; ++b)
    for (std::int64_t i = 0; i < length; ++i)
      out[b * length + i] = static_cast<std::int32_t>(first + i);
  return positions;
}

}  // namespace filigree

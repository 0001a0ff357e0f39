// What a program has in place of cuDNN's attention that does not link it.
#include "kernels/attention/attention_cudnn.hpp"

namespace filigree {

std::optional<LibraryVersion> cudnn_version() { return std::nullopt; }
void add_cudnn_attention(KernelTable&) {}

}  // namespace filigree

// What collectives do to their buffers.
#include <cuda_bf16.h>

#include <algorithm>
#include <cstring>

#include "tests/harness/simt/engine/nccl.hpp"

namespace simt {
namespace {

template <typename T>
T combine(ncclRedOp_t op, T a, T b) {
  switch (op) {
    case ncclSum:
      return static_cast<T>(a + b);
    case ncclProd:
      return static_cast<T>(a * b);
    case ncclMax:
      return std::max(a, b);
    case ncclMin:
      break;
  }
  return std::min(a, b);
}

// Rounded once per operation: deleted operators keep bf16 arithmetic visible.
__nv_bfloat16 combine(ncclRedOp_t op, __nv_bfloat16 a, __nv_bfloat16 b) {
  return __float2bfloat16(combine(op, static_cast<float>(a), static_cast<float>(b)));
}

// Element i of all outputs = the reduction of element i of all inputs. As in NCCL's ring, the
// elements are cut into one slice per rank, the sum of slice s begins at rank s + 1 and goes round,
// and every addition is rounded to the type: all ranks get the same bits, but no code may count on
// an order of ranks.
template <typename T>
void reduce(ncclRedOp_t op, const std::vector<const void*>& ins, const std::vector<void*>& outs,
            std::size_t count, std::size_t first_slice, std::size_t slices) {
  const std::size_t ranks = ins.size();
  for (std::size_t i = 0; i < count; ++i) {
    const std::size_t slice = first_slice + i * slices / count;
    T sum = static_cast<const T*>(ins[(slice + 1) % ranks])[i];
    for (std::size_t k = 2; k <= ranks; ++k) {
      sum = combine(op, sum, static_cast<const T*>(ins[(slice + k) % ranks])[i]);
    }
    for (void* out : outs) static_cast<T*>(out)[i] = sum;
  }
}

using Reduce = void (*)(ncclRedOp_t, const std::vector<const void*>&, const std::vector<void*>&,
                        std::size_t, std::size_t, std::size_t);

Reduce reduce_of(ncclDataType_t type) {
  switch (type) {
    case ncclInt8:
      return reduce<std::int8_t>;
    case ncclUint8:
      return reduce<std::uint8_t>;
    case ncclInt32:
      return reduce<std::int32_t>;
    case ncclUint32:
      return reduce<std::uint32_t>;
    case ncclInt64:
      return reduce<std::int64_t>;
    case ncclUint64:
      return reduce<std::uint64_t>;
    case ncclFloat32:
      return reduce<float>;
    case ncclFloat64:
      return reduce<double>;
    case ncclBfloat16:
      return reduce<__nv_bfloat16>;
    case ncclFloat16:
      break;
  }
  throw Fault("the emulator does not add ncclFloat16");
}

const unsigned char* at(const void* pointer, std::size_t bytes) {
  return static_cast<const unsigned char*>(pointer) + bytes;
}
unsigned char* at(void* pointer, std::size_t bytes) {
  return static_cast<unsigned char*>(pointer) + bytes;
}

}  // namespace

std::size_t nccl_size(ncclDataType_t type) {
  switch (type) {
    case ncclInt8:
    case ncclUint8:
      return 1;
    case ncclFloat16:
    case ncclBfloat16:
      return 2;
    case ncclInt32:
    case ncclUint32:
    case ncclFloat32:
      return 4;
    case ncclInt64:
    case ncclUint64:
    case ncclFloat64:
      break;
  }
  return 8;
}

void nccl_transfer(const NcclMeeting& meeting) {
  const auto& arrivals = meeting.arrivals;
  const NcclCall& call = arrivals[0].call;
  const std::size_t ranks = arrivals.size(), bytes = call.count * nccl_size(call.type);
  if (bytes == 0) return;
  std::vector<const void*> ins;
  std::vector<void*> outs;
  for (const auto& arrival : arrivals) {
    ins.push_back(arrival.call.in);
    outs.push_back(arrival.call.out);
  }
  switch (call.kind) {
    case NcclKind::all_reduce:
      return reduce_of(call.type)(*call.reduce, ins, outs, call.count, 0, ranks);
    case NcclKind::reduce_scatter:
      for (std::size_t r = 0; r < ranks; ++r) {
        std::vector<const void*> parts;
        for (const void* in : ins) parts.push_back(at(in, r * bytes));
        reduce_of(call.type)(*call.reduce, parts, {outs[r]}, call.count, r, 1);
      }
      return;
    case NcclKind::all_gather:
      for (std::size_t r = 0; r < ranks; ++r) {
        for (void* out : outs) std::memmove(at(out, r * bytes), ins[r], bytes);
      }
      return;
    case NcclKind::broadcast:
      for (void* out : outs) std::memmove(out, ins[static_cast<std::size_t>(call.peer)], bytes);
      return;
    case NcclKind::send:
    case NcclKind::receive:
      std::memmove(outs[1], ins[0], bytes);
  }
}

}  // namespace simt

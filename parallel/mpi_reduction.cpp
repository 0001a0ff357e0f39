#include "parallel/mpi_reduction.hpp"

#include <algorithm>

#include "parallel/mpi_communicator.hpp"
#include "parallel/reduce_elements.hpp"

namespace filigree {
namespace {

// Below this many bytes per rank a second round costs more than the additions it saves.
constexpr std::int64_t kShortBytes = 2048;

// One tag per reduction and round. MPI guarantees tags up to 32767; far fewer reductions are ever
// in flight.
int tag_of(const CollectiveCall& call, int round) {
  return mpi_tag::kFirstReduction + static_cast<int>(call.sequence % 8192) * 2 + round;
}

std::int64_t part_size(const Tensor& whole, int parts) { return whole.numel() / parts; }

Tensor slice(const Tensor& tensor, const ShardRange& range) {
  return tensor.flat(range.begin, {range.size()});
}

}  // namespace

MPI_Datatype mpi_type(DType dtype) {
  switch (dtype) {
    case DType::f64:
      return MPI_DOUBLE;
    case DType::f32:
      return MPI_FLOAT;
    case DType::bf16:
    case DType::f16:
    case DType::u16:
      return MPI_UINT16_T;
    case DType::i64:
      return MPI_INT64_T;
    case DType::i32:
      return MPI_INT32_T;
    case DType::u8:
      break;
  }
  return MPI_UINT8_T;
}

MpiReduction MpiReduction::all_reduce(const Group& group, const CollectiveCall& call,
                                      const Tensor& tensor) {
  const bool is_short = tensor.bytes() <= kShortBytes;
  std::vector<ShardRange> owned;
  for (int r = 0; r < group.size; ++r)
    owned.push_back(is_short ? ShardRange{0, tensor.numel()}
                             : shard_range(tensor.numel(), group.size, r));
  const Tensor mine = slice(tensor, owned[static_cast<std::size_t>(group.rank)]);
  return MpiReduction(group, call, tensor, mine, std::move(owned), !is_short);
}

MpiReduction MpiReduction::reduce_scatter(const Group& group, const CollectiveCall& call,
                                          const Tensor& in, const Tensor& out) {
  std::vector<ShardRange> owned;
  const std::int64_t part = part_size(in, group.size);
  for (int r = 0; r < group.size; ++r) owned.push_back({r * part, (r + 1) * part});
  return MpiReduction(group, call, in, out, std::move(owned), false);
}

MpiReduction::MpiReduction(const Group& group, const CollectiveCall& call, Tensor in, Tensor out,
                           std::vector<ShardRange> owned, bool spreads)
    : group_(group),
      call_(call),
      in_(std::move(in)),
      out_(std::move(out)),
      owned_(std::move(owned)),
      spreads_(spreads) {
  collect();
}

void MpiReduction::post(bool sends, const Tensor& tensor, int peer, int round) {
  const MPI_Datatype type = mpi_type(tensor.dtype());
  for (std::int64_t begin = 0; begin < tensor.numel(); begin += group_.max_count) {
    const std::int64_t count = std::min(group_.max_count, tensor.numel() - begin);
    void* const elements = tensor.flat(begin, {count}).raw();
    MPI_Request& request = requests_.emplace_back(MPI_REQUEST_NULL);
    if (sends)
      check_mpi(MPI_Isend(elements, static_cast<int>(count), type, peer, tag_of(call_, round),
                          group_.comm, &request),
                "MPI_Isend");
    else
      check_mpi(MPI_Irecv(elements, static_cast<int>(count), type, peer, tag_of(call_, round),
                          group_.comm, &request),
                "MPI_Irecv");
  }
}

void MpiReduction::collect() {
  for (int r = 0; r < group_.size; ++r) {
    const Tensor mine = slice(in_, owned_by(group_.rank));
    received_.push_back(r == group_.rank
                            ? mine
                            : Tensor::empty(mine.shape(), mine.dtype(), host_allocator(),
                                            MemoryUse::communication));
    if (r != group_.rank) post(false, received_.back(), r, 0);
  }
  // Everyone starts with its right neighbour, so that no rank is everybody's first target.
  for (int step = 1; step < group_.size; ++step) {
    const int peer = (group_.rank + step) % group_.size;
    post(true, slice(in_, owned_by(peer)), peer, 0);
  }
}

void MpiReduction::add_up() {
  std::vector<const void*> contributions;
  for (const Tensor& tensor : received_) contributions.push_back(tensor.raw());
  void* const sum = out_.raw();
  reduce_elements(out_.dtype(), *call_.reduce, contributions, {&sum, 1}, out_.numel());
  received_.clear();
}

void MpiReduction::spread() {
  for (int step = 1; step < group_.size; ++step) {
    const int to = (group_.rank + step) % group_.size;
    const int from = (group_.rank + group_.size - step) % group_.size;
    post(false, slice(in_, owned_by(from)), from, 1);
    post(true, out_, to, 1);
  }
}

bool MpiReduction::advance() {
  while (stage_ != Stage::done) {
    int arrived = 0;
    check_mpi(MPI_Testall(static_cast<int>(requests_.size()), requests_.data(), &arrived,
                          MPI_STATUSES_IGNORE),
              call_.operation);
    if (arrived == 0) return false;
    requests_.clear();
    if (stage_ == Stage::collecting) {
      add_up();
      if (spreads_) spread();
      stage_ = spreads_ ? Stage::spreading : Stage::done;
    } else {
      stage_ = Stage::done;
    }
  }
  return true;
}

}  // namespace filigree

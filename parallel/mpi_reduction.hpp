// Private to this folder: a reduction over MPI that adds in rank order.
#pragma once

#include <mpi.h>

#include <optional>
#include <vector>

#include "parallel/communicator.hpp"
#include "parallel/mesh.hpp"

namespace filigree {

// MPI type that moves elements of `dtype`.
MPI_Datatype mpi_type(DType dtype);

// MPI_Allreduce may add in another order for another size or algorithm, and rounds bf16 after every
// addition. Here each rank owns a slice: it receives everyone's contribution to it, adds them in
// rank order (bf16 in f32, rounded once) and sends the sum to all. Each rank sends 2 n (P - 1) / P
// elements, the least an all-reduce can, in 2 (P - 1) messages. Short vectors are sent whole and
// summed by everybody: one round instead of two. Messages are matched by tag, so any number of
// reductions can be in flight, finishing in any order.
class MpiReduction {
 public:
  struct Group {
    MPI_Comm comm;
    int rank, size;
    std::int64_t max_count;  // elements in one message
  };
  // In place, for all ranks.
  static MpiReduction all_reduce(const Group& group, const CollectiveCall& call,
                                 const Tensor& tensor);
  // Part `rank` of `in` to `out`, which may be that very part.
  static MpiReduction reduce_scatter(const Group& group, const CollectiveCall& call,
                                     const Tensor& in, const Tensor& out);

  // Goes on as far as possible without waiting; true once all is done. Must be called now and then
  // on every rank.
  bool advance();

 private:
  enum class Stage { collecting, spreading, done };
  MpiReduction(const Group& group, const CollectiveCall& call, Tensor in, Tensor out,
               std::vector<ShardRange> owned, bool spreads);
  void post(bool sends, const Tensor& tensor, int peer, int round);
  void collect();
  void add_up();
  void spread();
  const ShardRange& owned_by(int rank) const { return owned_[static_cast<std::size_t>(rank)]; }

  Group group_;
  CollectiveCall call_;
  Tensor in_, out_;                // held: MPI uses their memory until all is done
  std::vector<ShardRange> owned_;  // by rank: the elements of in_ that it adds up
  bool spreads_;                   // whether sums go to the other ranks afterwards
  std::vector<Tensor> received_;   // by rank: its contribution to this rank's elements
  std::vector<MPI_Request> requests_;
  Stage stage_ = Stage::collecting;
};

}  // namespace filigree

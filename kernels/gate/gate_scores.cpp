#include "kernels/gate/gate_scores.hpp"

#include "kernels/elementwise/register_op.hpp"
#include "kernels/registry.hpp"

namespace filigree {
namespace {

std::optional<std::string> check(const BlockGrid& grid, const Tensor& qg, const Tensor& kg,
                                 const Tensor& z) {
  ArgumentCheck check;
  check_grid(check, grid);
  check.floating("qg", qg).dtype("kg", kg, qg.dtype());
  if (check.problem()) return check.problem();
  const std::int64_t N = grid.groups(), M = grid.key_blocks();
  return check
      .require(qg.rank() == 2 && kg.rank() == 2 && qg.dim(1) == kg.dim(1), "qg ", qg.shape(),
               ", kg ", kg.shape())
      .require(grid.heads > 0 && columns_of(qg) % grid.heads == 0, "qg is ", qg.shape(), " for ",
               grid.heads, " heads")
      .require(rows_of(qg) == grid.batch * N, "qg is ", qg.shape(), ", expected ", grid.batch * N,
               " rows")
      .require(rows_of(kg) == grid.batch * M, "kg is ", kg.shape(), ", expected ", grid.batch * M,
               " rows")
      .dtype("z", z, accumulation_dtype(qg.dtype()))
      .numel("z", z, grid.batch * grid.heads * N * M)
      .problem();
}

}  // namespace

std::int64_t candidate_count(const BlockGrid& grid) {
  const BlockGrid known = known_to_host(grid);
  std::int64_t count = 0;
  for (std::int64_t b = 0; b < known.batch; ++b)
    for (std::int64_t n = 0; n < known.groups(); ++n)
      count += group_blocks(known, b, n).candidates.size();
  return count;
}

Work GateScores::work(const Arguments& a) {
  const std::int64_t width = a.qg_NHE.dim(1);  // of all heads
  return {2 * candidate_count(a.grid) * width,
          2 * a.grid.batch * a.grid.groups() * a.grid.key_blocks() * width,
          a.qg_NHE.bytes() + a.kg_MHE.bytes() + a.z_BHNM.bytes()};
}

Work GateScoresBackward::work(const Arguments& a) {
  Work work = GateScores::work({a.grid, a.scale, a.qg_NHE, a.kg_MHE, a.dz_BHNM});
  return {2 * work.flops, 2 * work.dense_flops, work.bytes + a.dqg_NHE.bytes() + a.dkg_MHE.bytes()};
}

std::optional<std::string> GateScores::reject(const Arguments& a, const ExecutionContext&) {
  return check(a.grid, a.qg_NHE, a.kg_MHE, a.z_BHNM);
}

std::optional<std::string> GateScoresBackward::reject(const Arguments& a, const ExecutionContext&) {
  if (auto problem = check(a.grid, a.qg_NHE, a.kg_MHE, a.dz_BHNM)) return problem;
  return ArgumentCheck()
      .like("dqg", a.dqg_NHE, a.qg_NHE)
      .like("dkg", a.dkg_MHE, a.kg_MHE)
      .problem();
}

void register_gate_scores(KernelTable& table) {
  register_reference_and_cpu<GateScores>(table);
  register_reference_and_cpu<GateScoresBackward>(table);
}

}  // namespace filigree

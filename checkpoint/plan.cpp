#include "checkpoint/plan.hpp"

#include <algorithm>
#include <map>
#include <tuple>

#include <nlohmann/json.hpp>

namespace filigree {
namespace {

struct Holder {
  std::size_t rank, index;
};

// Ordered so that every rank walks the slices alike.
using SliceKey = std::tuple<std::string, std::vector<std::int64_t>, std::vector<std::int64_t>>;

void check_name(const std::string& name) {
  std::size_t begin = 0;
  while (true) {
    const std::size_t end = std::min(name.find('/', begin), name.size());
    const std::string part = name.substr(begin, end - begin);
    const bool plain = std::all_of(part.begin(), part.end(),
                                   [](unsigned char c) { return c > ' ' && c < 0x7f && c != '#'; });
    if (part.empty() || part == "." || part == ".." || !plain) {
      throw UserError(str("tensor name '", name, "' cannot be stored; allowed are printable ASCII ",
                          "components without spaces or '#', joined by '/'"));
    }
    if (end == name.size()) return;
    begin = end + 1;
  }
}

SliceClaim claim_of(const PromisedSlice& slice) {
  check_name(slice.name);
  if (!slice.fetch) throw UserError(str("tensor '", slice.name, "' has no values to store"));
  const Shape& shape = slice.shape;
  if (static_cast<int>(slice.offset.size()) != shape.rank() ||
      slice.global_shape.rank() != shape.rank()) {
    throw UserError(str("tensor '", slice.name, "' has ", shape.rank(), " dims, its global shape ",
                        slice.global_shape.rank(), " and its offset ", slice.offset.size(),
                        "; all three must agree"));
  }
  SliceClaim claim{slice.name, slice.dtype, slice.global_shape, region_of(shape, slice.offset)};
  if (!encloses(whole_region(slice.global_shape), claim.region)) {
    throw UserError(str("tensor '", slice.name, "': the slice ", claim.region.name(),
                        " reaches outside the global shape ", slice.global_shape));
  }
  return claim;
}

void check_agreement(const SliceClaim& first, const SliceClaim& other, std::size_t rank) {
  if (first.dtype == other.dtype && first.global_shape == other.global_shape) return;
  throw UserError(str("tensor '", other.name, "' is ", name_of(other.dtype), other.global_shape,
                      " on rank ", rank, " but ", name_of(first.dtype), first.global_shape,
                      " on a lower rank; a name means one tensor on all ranks"));
}

void check_coverage(const std::map<std::string, SliceClaim>& tensors,
                    const std::map<SliceKey, std::vector<Holder>>& slices,
                    const std::vector<std::vector<SliceClaim>>& claims_by_rank) {
  std::map<std::string, std::vector<Region>> missing;
  for (const auto& [name, claim] : tensors) {
    const Region whole = whole_region(claim.global_shape);
    if (!whole.empty()) missing[name] = {whole};
  }
  for (const auto& [key, holders] : slices) {
    const SliceClaim& claim = claims_by_rank[holders.front().rank][holders.front().index];
    missing[claim.name] = difference(missing[claim.name], claim.region);
  }
  for (const auto& [name, regions] : missing) {
    if (regions.empty()) continue;
    throw UserError(str("tensor '", name, "': no rank holds ", regions.front().name(), " of ",
                        tensors.at(name).global_shape));
  }
}

}  // namespace

std::vector<SliceClaim> claims_of(const std::vector<PromisedSlice>& slices) {
  std::vector<SliceClaim> claims;
  claims.reserve(slices.size());
  for (const PromisedSlice& slice : slices) claims.push_back(claim_of(slice));
  return claims;
}

std::string encode_claims(const std::vector<SliceClaim>& claims) {
  nlohmann::json list = nlohmann::json::array();
  for (const SliceClaim& claim : claims) {
    const auto global = claim.global_shape.sizes();
    const auto shape = claim.region.shape();
    list.push_back({claim.name, static_cast<int>(claim.dtype),
                    std::vector<std::int64_t>(global.begin(), global.end()), claim.region.offset(),
                    std::vector<std::int64_t>(shape.sizes().begin(), shape.sizes().end())});
  }
  const std::vector<std::uint8_t> bytes = nlohmann::json::to_msgpack(list);
  return {bytes.begin(), bytes.end()};
}

std::vector<SliceClaim> decode_claims(const std::string& text) {
  const nlohmann::json list = nlohmann::json::from_msgpack(text);
  std::vector<SliceClaim> claims;
  claims.reserve(list.size());
  for (const nlohmann::json& item : list) {
    const auto global = item.at(2).get<std::vector<std::int64_t>>();
    const auto shape = item.at(4).get<std::vector<std::int64_t>>();
    claims.push_back({item.at(0).get<std::string>(), static_cast<DType>(item.at(1).get<int>()),
                      Shape(std::span<const std::int64_t>(global)),
                      region_of(Shape(std::span<const std::int64_t>(shape)),
                                item.at(3).get<std::vector<std::int64_t>>())});
  }
  return claims;
}

std::vector<std::vector<std::size_t>> plan_writes(
    const std::vector<std::vector<SliceClaim>>& claims_by_rank) {
  std::map<std::string, SliceClaim> tensors;
  std::map<SliceKey, std::vector<Holder>> slices;
  for (std::size_t rank = 0; rank < claims_by_rank.size(); ++rank) {
    for (std::size_t index = 0; index < claims_by_rank[rank].size(); ++index) {
      const SliceClaim& claim = claims_by_rank[rank][index];
      check_agreement(tensors.emplace(claim.name, claim).first->second, claim, rank);
      if (claim.region.empty()) continue;
      const auto sizes = claim.region.shape();
      slices[{claim.name, claim.region.offset(), {sizes.sizes().begin(), sizes.sizes().end()}}]
          .push_back({rank, index});
    }
  }
  check_coverage(tensors, slices, claims_by_rank);

  // Largest first, so that the small ones even out the load.
  std::vector<const std::vector<Holder>*> order;
  for (const auto& [key, holders] : slices) order.push_back(&holders);
  const auto bytes = [&](const std::vector<Holder>* holders) {
    return claims_by_rank[holders->front().rank][holders->front().index].bytes();
  };
  std::stable_sort(order.begin(), order.end(),
                   [&](const auto* left, const auto* right) { return bytes(left) > bytes(right); });

  std::vector<std::int64_t> load(claims_by_rank.size(), 0);
  std::vector<std::vector<std::size_t>> plan(claims_by_rank.size());
  for (const auto* holders : order) {
    const Holder writer = *std::min_element(
        holders->begin(), holders->end(),
        [&](const Holder& a, const Holder& b) { return load[a.rank] < load[b.rank]; });
    load[writer.rank] += bytes(holders);
    plan[writer.rank].push_back(writer.index);
  }
  for (auto& indices : plan) std::sort(indices.begin(), indices.end());
  return plan;
}

}  // namespace filigree

#include <gtest/gtest.h>

#include <array>
#include <chrono>
#include <cstring>
#include <limits>
#include <thread>

#include "parallel_checks.hpp"
#include "runtime/core/random.hpp"
#include "tests/harness/bits.hpp"

namespace filigree::testing {
namespace {

using World = std::shared_ptr<Communicator>;

constexpr std::array kReducible = {DType::f64, DType::f32, DType::bf16, DType::i64, DType::i32};
constexpr std::array kMovable = {DType::f64, DType::f32, DType::bf16, DType::f16,
                                 DType::i64, DType::i32, DType::u16,  DType::u8};
constexpr std::array<std::int64_t, 5> kSizes = {0, 1, 7, 1025, 50021};

template <class Visitor>
void visit(const Tensor& tensor, Visitor&& visitor) {
  switch (tensor.dtype()) {
    case DType::f64:
      return visitor(tensor.span<double>());
    case DType::f32:
      return visitor(tensor.span<float>());
    case DType::bf16:
      return visitor(tensor.span<BFloat16>());
    case DType::i64:
      return visitor(tensor.span<std::int64_t>());
    case DType::i32:
      return visitor(tensor.span<std::int32_t>());
    case DType::u16:
      return visitor(tensor.span<std::uint16_t>());
    case DType::u8:
      return visitor(tensor.span<std::uint8_t>());
    case DType::f16:
      return visitor(std::span(reinterpret_cast<std::uint16_t*>(tensor.raw()),
                               static_cast<std::size_t>(tensor.numel())));
  }
}

// A small whole number that every dtype holds exactly, also summed over a few ranks.
double number(int rank, std::int64_t i) {
  return static_cast<double>((rank + 1) * (i % 7) + (i * 31 + rank) % 5);
}

template <class Function>
void fill(const Tensor& tensor, Function&& value) {
  visit(tensor, [&](auto elements) {
    using T = typename decltype(elements)::value_type;
    for (std::size_t i = 0; i < elements.size(); ++i) {
      const double v = value(static_cast<std::int64_t>(i));
      if constexpr (std::is_same_v<T, BFloat16>)
        elements[i] = BFloat16(static_cast<float>(v));
      else
        elements[i] = static_cast<T>(v);
    }
  });
}

// NaN, or the nearest thing an integer has.
Tensor poisoned(std::int64_t count, DType dtype) {
  const Tensor tensor = Tensor::empty({count}, dtype);
  if (tensor.bytes() > 0) std::memset(tensor.raw(), 0xff, static_cast<std::size_t>(tensor.bytes()));
  return tensor;
}

Tensor numbers_of(int rank, std::int64_t count, DType dtype) {
  const Tensor tensor = Tensor::empty({count}, dtype);
  fill(tensor, [&](std::int64_t i) { return number(rank, i); });
  return tensor;
}

// Compares every element and reports the first that differs.
template <class Function>
void expect_elements(const Tensor& tensor, Function&& expected, const std::string& what) {
  visit(tensor, [&](auto elements) {
    for (std::size_t i = 0; i < elements.size(); ++i) {
      double found;
      if constexpr (std::is_same_v<std::remove_cvref_t<decltype(elements[i])>, BFloat16>)
        found = static_cast<float>(elements[i]);
      else
        found = static_cast<double>(elements[i]);
      const double wanted = expected(static_cast<std::int64_t>(i));
      if (found != wanted) {
        ADD_FAILURE() << what << ", " << elements.size() << " x " << name_of(tensor.dtype())
                      << ": element " << i << " is " << found << ", expected " << wanted;
        return;
      }
    }
  });
}

double reduced(int ranks, ReduceOp op, std::int64_t i) {
  double result = number(0, i);
  for (int r = 1; r < ranks; ++r) {
    const double next = number(r, i);
    result = op == ReduceOp::sum   ? result + next
             : op == ReduceOp::max ? std::max(result, next)
                                   : std::min(result, next);
  }
  return result;
}

void check_all_reduce(const World& world) {
  for (const DType dtype : kReducible)
    for (const std::int64_t count : kSizes)
      for (const ReduceOp op : {ReduceOp::sum, ReduceOp::max, ReduceOp::min}) {
        const Tensor tensor = numbers_of(world->rank(), count, dtype);
        world->all_reduce(tensor, op);
        expect_elements(
            tensor, [&](std::int64_t i) { return reduced(world->size(), op, i); },
            str("all_reduce ", name_of(op)));
      }
}

void check_all_gather(const World& world) {
  for (const DType dtype : kMovable)
    for (const std::int64_t count : kSizes) {
      const Tensor in = numbers_of(world->rank(), count, dtype);
      const auto expected = [&](std::int64_t i) {
        return number(static_cast<int>(i / count), i % count);
      };
      const Tensor out = poisoned(count * world->size(), dtype);
      world->all_gather(in, out);
      expect_elements(out, expected, "all_gather");

      const Tensor in_place = poisoned(count * world->size(), dtype);
      const Tensor mine = in_place.flat(world->rank() * count, {count});
      mine.copy_from(in);
      world->all_gather(mine, in_place);
      expect_elements(in_place, expected, "all_gather in place");
    }
}

void check_reduce_scatter(const World& world) {
  for (const DType dtype : kReducible)
    for (const std::int64_t count : kSizes) {
      const Tensor in = numbers_of(world->rank(), count * world->size(), dtype);
      const auto expected = [&](std::int64_t i) {
        return reduced(world->size(), ReduceOp::sum, world->rank() * count + i);
      };
      const Tensor out = poisoned(count, dtype);
      world->reduce_scatter(in, out);
      expect_elements(out, expected, "reduce_scatter");
      expect_elements(
          in, [&](std::int64_t i) { return number(world->rank(), i); }, "reduce_scatter's input");

      const Tensor mine = in.flat(world->rank() * count, {count});
      world->reduce_scatter(in, mine);
      expect_elements(mine, expected, "reduce_scatter in place");
    }
}

void check_all_to_all(const World& world) {
  for (const DType dtype : kMovable)
    for (const std::int64_t count : kSizes) {
      const Tensor in = numbers_of(world->rank(), count * world->size(), dtype);
      const Tensor out = poisoned(count * world->size(), dtype);
      world->all_to_all(in, out);
      const auto expected = [&](std::int64_t i) {
        return number(static_cast<int>(i / count), world->rank() * count + i % count);
      };
      expect_elements(out, expected, "all_to_all");
    }
}

void check_broadcast(const World& world) {
  for (const DType dtype : kMovable)
    for (const std::int64_t count : kSizes)
      for (int root = 0; root < world->size(); ++root) {
        const Tensor tensor =
            world->rank() == root ? numbers_of(root, count, dtype) : poisoned(count, dtype);
        world->broadcast(tensor, root);
        expect_elements(
            tensor, [&](std::int64_t i) { return number(root, i); }, "broadcast");
      }
}

// Every rank sends to its right neighbour; even ranks send first. In a ring of odd length the last
// rank and rank 0 are both even: the last one receives first.
void check_ring(const World& world) {
  if (world->size() == 1) return;
  const int rank = world->rank(), size = world->size();
  const int right = (rank + 1) % size, left = (rank + size - 1) % size;
  const bool sends_first = rank % 2 == 0 && rank != size - 1;
  for (const DType dtype : kMovable)
    for (const std::int64_t count : kSizes) {
      const Tensor mine = numbers_of(rank, count, dtype);
      const Tensor theirs = poisoned(count, dtype);
      if (sends_first) world->send(mine, right);
      world->receive(theirs, left);
      if (!sends_first) world->send(mine, right);
      expect_elements(
          theirs, [&](std::int64_t i) { return number(left, i); }, "receive");
    }
}

// Several sums in flight, blocking calls on the same and on another group between them, waited for
// in another order.
void check_started_all_reduces(const World& world) {
  const auto halves = world->split(world->rank() % 2, world->rank(), "half");
  std::vector<Tensor> tensors;
  std::vector<Pending> pending;
  for (int k = 0; k < 5; ++k) {
    tensors.push_back(numbers_of(world->rank(), 1000 + 37 * k, DType::f64));
    pending.push_back(
        world->start_all_reduce(tensors.back(), k % 2 == 0 ? ReduceOp::sum : ReduceOp::max));
    const Tensor one = numbers_of(0, 3, DType::i64);
    halves->all_reduce(one);
    expect_elements(
        one, [&](std::int64_t i) { return halves->size() * number(0, i); },
        "blocking, other group");
    world->barrier();
  }
  for (const int k : {3, 0, 4, 1, 2}) {
    pending[static_cast<std::size_t>(k)].wait();
    EXPECT_FALSE(pending[static_cast<std::size_t>(k)].active());
    const ReduceOp op = k % 2 == 0 ? ReduceOp::sum : ReduceOp::max;
    expect_elements(
        tensors[static_cast<std::size_t>(k)],
        [&](std::int64_t i) { return reduced(world->size(), op, i); }, str("started #", k));
  }
}

// The first rank waits for its sum before it joins the others' barrier: whoever is in the barrier
// must not be needed.
void check_waiting_needs_nobody(const World& world) {
  const auto other = world->split(0, world->rank(), "other");
  const Tensor tensor = numbers_of(world->rank(), 1000, DType::f32);
  Pending sum = world->start_all_reduce(tensor);
  if (world->rank() == 0) sum.wait();
  other->barrier();
  sum.wait();
  expect_elements(
      tensor, [&](std::int64_t i) { return reduced(world->size(), ReduceOp::sum, i); },
      "waited for early and late");
}

// Sums where order shows in the last bit: in rank order, whoever comes first, in f32 also for bf16
// (rounded once); for short and long vectors, alone and scattered.
void check_sums_are_in_rank_order(const World& world) {
  const auto numbers = [](DType dtype, std::int64_t count, int rank) {
    return random_tensor({count}, DType::f32, static_cast<std::uint64_t>(rank)).to(dtype);
  };
  const int ranks = world->size();
  for (const DType dtype : {DType::f32, DType::bf16})
    for (const std::int64_t part : {1, 7, 4099}) {
      const std::int64_t count = part * ranks;
      const Tensor total = numbers(dtype, count, 0).to(DType::f32);
      for (int r = 1; r < ranks; ++r) {
        const Tensor term = numbers(dtype, count, r).to(DType::f32);
        for (std::int64_t i = 0; i < count; ++i) total.data<float>()[i] += term.data<float>()[i];
      }
      const Tensor expected = total.to(dtype);
      for (int late = 0; late < ranks; ++late) {
        if (late == world->rank()) std::this_thread::sleep_for(std::chrono::milliseconds(1));
        const Tensor sum = numbers(dtype, count, world->rank());
        world->all_reduce(sum);
        EXPECT_TRUE(same_bits(sum, expected))
            << count << " x " << name_of(dtype) << ", late " << late;
      }
      const Tensor mine = poisoned(part, dtype);
      world->reduce_scatter(numbers(dtype, count, world->rank()), mine);
      EXPECT_TRUE(same_bits(mine, expected.flat(world->rank() * part, {part})))
          << part << " x " << name_of(dtype);
    }
}

void check_split(const World& world) {
  const int rank = world->rank(), size = world->size();
  const auto half = world->split(rank % 2, -rank, "half");  // keys in reverse
  const int members = rank % 2 == 0 ? (size + 1) / 2 : size / 2;
  EXPECT_EQ(half->size(), members);
  EXPECT_EQ(half->rank(), members - 1 - rank / 2);
  EXPECT_EQ(half->name(), "half");
  const Tensor mine = Tensor::from<std::int64_t>({1}, std::array{std::int64_t{rank}});
  const Tensor all = poisoned(members, DType::i64);
  half->all_gather(mine, all);
  for (int m = 0; m < members; ++m)
    EXPECT_EQ(all.data<std::int64_t>()[m], rank % 2 + 2 * (members - 1 - m)) << "member " << m;

  const auto quarter = half->split(half->rank() / 2, 0, "quarter");  // equal keys: by rank
  EXPECT_EQ(quarter->rank(), half->rank() % 2);
}

void check_statistics(const World& world) {
  const auto fresh = world->split(0, world->rank(), "fresh");
  const Tensor tensor = numbers_of(world->rank(), 100, DType::f64);
  EXPECT_EQ(fresh->statistics().calls, 0);
  EXPECT_EQ(fresh->statistics().bytes, 0);
  fresh->all_reduce(tensor);
  fresh->barrier();
  Pending pending = fresh->start_all_reduce(tensor);
  pending.wait();
  EXPECT_EQ(fresh->statistics().calls, 3);
  EXPECT_EQ(fresh->statistics().bytes, 2 * 800);
  // Time spent waiting for a late rank is counted on the others, in a blocking call and in a
  // wait().
  for (const bool blocking : {true, false}) {
    fresh->barrier();
    const double before = fresh->statistics().seconds;
    if (fresh->rank() == 0) std::this_thread::sleep_for(std::chrono::milliseconds(100));
    if (blocking) {
      fresh->all_reduce(tensor);
    } else {
      Pending late = fresh->start_all_reduce(tensor);
      late.wait();
    }
    const double waited = fresh->statistics().seconds - before;
    if (fresh->rank() != 0) {
      EXPECT_GT(waited, 0.01) << (blocking ? "blocking" : "started");
    }
  }
}

constexpr ParallelCheck kChecks[] = {
    {"AllReduce", check_all_reduce},
    {"AllGather", check_all_gather},
    {"ReduceScatter", check_reduce_scatter},
    {"AllToAll", check_all_to_all},
    {"Broadcast", check_broadcast},
    {"Ring", check_ring},
    {"StartedAllReduces", check_started_all_reduces},
    {"WaitingNeedsNobody", check_waiting_needs_nobody},
    {"SumsAreInRankOrder", check_sums_are_in_rank_order},
    {"Split", check_split},
    {"Statistics", check_statistics},
};

}  // namespace

std::span<const ParallelCheck> collective_checks() { return kChecks; }

Tensor random_tensor(const Shape& shape, DType dtype, std::uint64_t stream) {
  const Philox random(20240601, RandomPurpose::test, stream);
  const Tensor tensor = Tensor::empty(shape, dtype);
  for (std::int64_t i = 0; i < tensor.numel(); ++i) {
    const double value = random.normal(static_cast<std::uint64_t>(i));
    if (dtype == DType::f64)
      tensor.data<double>()[i] = value;
    else
      tensor.data<float>()[i] = static_cast<float>(value);
  }
  return tensor;
}

double dot(const Tensor& a, const Tensor& b) {
  FILIGREE_CHECK_EQ(a.numel(), b.numel(), "dot");
  double sum = 0.0;
  for (std::int64_t i = 0; i < a.numel(); ++i) sum += a.data<double>()[i] * b.data<double>()[i];
  return sum;
}

double sum_over_ranks(Communicator& communicator, double value) {
  const Tensor tensor = Tensor::from<double>({1}, std::array{value});
  communicator.all_reduce(tensor);
  return tensor.data<double>()[0];
}

}  // namespace filigree::testing

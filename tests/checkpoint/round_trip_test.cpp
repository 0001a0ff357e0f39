#include <atomic>

#include "checkpoint/manifest.hpp"
#include "runtime/storage/atomic_file.hpp"
#include "runtime/storage/hdf5_file.hpp"
#include "runtime/storage/posix_file.hpp"
#include "tests/checkpoint/checkpoint_helpers.hpp"

namespace filigree {
namespace {

using namespace checkpoint_testing;

// One of everything: dtypes, ranks 0 to 6, sizes that no rank count divides, empty tensors.
std::vector<GlobalTensor> model() {
  const auto make = [](const std::string& name, const Shape& shape, DType dtype) {
    return GlobalTensor{name, random_bits(shape, dtype, name)};
  };
  return {make("parameters/embedding.weight", {13, 6}, DType::f32),
          make("parameters/blocks.0.norm1.weight", {6}, DType::bf16),
          make("parameters/blocks.0.w1.weight", {5, 7, 3}, DType::f64),
          make("optimizer/m/blocks.0.w1.weight", {3, 5, 2}, DType::f64),
          make("state/steps", {}, DType::i64),
          make("state/counts", {2, 1, 3, 2, 1, 5}, DType::i32),
          make("state/ids", {7}, DType::u16),
          make("state/bytes", {3, 3}, DType::u8),
          make("state/nothing", {0, 4}, DType::f32)};
}

// Rank r of n holds a shard along dim r-independent `index % rank`; norms and scalars are
// replicated.
std::vector<NamedTensor> layout(const std::vector<GlobalTensor>& model, int size, int rank) {
  std::vector<NamedTensor> tensors;
  for (std::size_t index = 0; index < model.size(); ++index) {
    const GlobalTensor& global = model[index];
    const int rank_of_tensor = global.values.rank();
    tensors.push_back(rank_of_tensor < 2
                          ? whole_of(global)
                          : shard_of(global, static_cast<int>(index) % rank_of_tensor, size, rank));
  }
  return tensors;
}

fs::path save_layout(const fs::path& folder, const std::vector<GlobalTensor>& model, int ranks) {
  fs::path published;
  run_ranks(ranks, [&](std::shared_ptr<Communicator> world) {
    const SavedCheckpoint saved =
        save_checkpoint(folder, info_of(200, 1, ranks),
                        promised(layout(model, ranks, world->rank())), *world, {.keep = 1});
    if (world->rank() == 0) published = saved.folder;
  });
  return published;
}

class RoundTrip : public ::testing::TestWithParam<int> {};

TEST_P(RoundTrip, LoadsOnEveryLayoutBitExactly) {
  const TemporaryFolder scratch;
  const auto tensors = model();
  const fs::path step = save_layout(scratch.path() / "a" / "checkpoints", tensors, GetParam());
  EXPECT_EQ(step.filename(), "step_00000200");
  for (int ranks = 1; ranks <= 4; ++ranks) {
    run_ranks(ranks, [&](std::shared_ptr<Communicator> world) {
      const CheckpointReader reader(step);
      for (const NamedTensor& named : layout(tensors, ranks, world->rank())) {
        expect_reads(reader, named);
      }
    });
  }
  const CheckpointReader reader(step);
  reader.verify();
  EXPECT_EQ(reader.names().size(), tensors.size());
  for (const GlobalTensor& global : tensors) {
    EXPECT_TRUE(reader.contains(global.name));
    EXPECT_EQ(reader.dtype(global.name), global.values.dtype());
    EXPECT_EQ(reader.global_shape(global.name), global.values.shape());
    expect_reads(reader, whole_of(global));
  }
}

INSTANTIATE_TEST_SUITE_P(Ranks, RoundTrip, ::testing::Values(1, 2, 3, 4));

TEST(RoundTrip, AnyBoxOfATensorIsReadFromAnyCut) {
  const TemporaryFolder scratch;
  const GlobalTensor global{"w", random_bits({9, 10, 4}, DType::bf16, "w")};
  // Four quarters over two dims, as tensor parallel by context or expert parallel would cut.
  run_ranks(4, [&](std::shared_ptr<Communicator> world) {
    Region region = whole_region(global.values.shape());
    const ShardRange rows = shard_range(9, 2, world->rank() / 2);
    const ShardRange columns = shard_range(10, 2, world->rank() % 2);
    region.begin[0] = rows.begin, region.end[0] = rows.end;
    region.begin[1] = columns.begin, region.end[1] = columns.end;
    save_checkpoint(scratch.path(), info_of(1, 1, 4), {slice_of(global, region)}, *world,
                    {.keep = 1});
  });
  const CheckpointReader reader(scratch.path() / "step_00000001");
  const Philox philox(3, RandomPurpose::test, 0);
  for (std::uint64_t round = 0; round < 50; ++round) {
    Region region = whole_region(global.values.shape());
    for (int dim = 0; dim < 3; ++dim) {
      const auto draw = philox.bits(round * 3 + static_cast<std::uint64_t>(dim));
      region.begin[dim] = draw[0] % global.values.dim(dim);
      region.end[dim] =
          region.begin[dim] + 1 + draw[1] % (global.values.dim(dim) - region.begin[dim]);
    }
    expect_reads(reader, slice_of(global, region));
  }
}

TEST(RoundTrip, SeveralSlicesOfATensorOnOneRank) {
  const TemporaryFolder scratch;
  const GlobalTensor global{"fused", random_bits({12, 5}, DType::f32, "fused")};
  run_ranks(2, [&](std::shared_ptr<Communicator> world) {
    std::vector<PromisedSlice> slices;
    for (const std::int64_t part : {0, 4, 8}) {
      slices.push_back(slice_of(global, region_of({2, 5}, {part + 2 * world->rank(), 0})));
    }
    save_checkpoint(scratch.path(), info_of(1, 1, 2), slices, *world, {.keep = 1});
  });
  const CheckpointReader reader(scratch.path() / "step_00000001");
  expect_reads(reader, whole_of(global));
}

TEST(RoundTrip, SlicesLargerThanAChunkOfReading) {
  const TemporaryFolder scratch;
  const GlobalTensor global{"large", random_bits({3001, 500}, DType::f32, "large")};
  run_ranks(2, [&](std::shared_ptr<Communicator> world) {
    save_checkpoint(scratch.path(), info_of(1, 1, 2), {shard_of(global, 0, 2, world->rank())},
                    *world, {.keep = 1});
  });
  const CheckpointReader reader(scratch.path() / "step_00000001");
  expect_reads(reader, whole_of(global));
  expect_reads(reader, shard_of(global, 1, 3, 1));
}

// A slice is hashed in parts of whole rows: what a rank does not need, it does not read.
TEST(RoundTrip, OnlyThePartsThatAreNeededAreRead) {
  const TemporaryFolder scratch;
  const GlobalTensor global{"large", random_bits({3000, 1024}, DType::f32, "large")};
  const auto world = self_communicator();
  save_checkpoint(scratch.path(), info_of(1), {whole_of(global)}, *world, {});
  const fs::path step = scratch.path() / "step_00000001";
  const SavedSlice slice = CheckpointReader(step).manifest().tensors.at("large").slices.front();
  ASSERT_EQ(slice.part_rows, 1024);
  ASSERT_EQ(slice.part_hashes.size(), 3u);
  const char damage = 1;
  PosixFile::open_for_writing(step / "rank_00000.h5")
      .write_at(slice.file_offset + 1500 * 4096, &damage, 1);
  const CheckpointReader reader(step);
  expect_reads(reader, slice_of(global, region_of({1024, 1024}, {0, 0})));
  expect_reads(reader, slice_of(global, region_of({900, 7}, {2050, 3})));
  for (const Region& damaged : {region_of({1, 1024}, {2047, 0}), region_of({3000, 1}, {0, 5})})
    expect_mentions(user_error([&] { reader.read(poisoned(slice_of(global, damaged))); }),
                    {"rank_00000.h5", "'large'", "damaged"});
  expect_mentions(user_error([&] { reader.verify(); }), {"'large'"});
}

TEST(RoundTrip, InfoComesBack) {
  const TemporaryFolder scratch;
  const auto world = self_communicator();
  const CheckpointInfo info = info_of(1234567890123);
  const SavedCheckpoint saved = save_checkpoint(scratch.path(), info, {}, *world, {.keep = 1});
  const CheckpointReader reader(saved.folder);
  EXPECT_EQ(reader.info().step, info.step);
  EXPECT_EQ(reader.info().mesh, info.mesh);
  EXPECT_EQ(reader.info().config_hash, info.config_hash);
  EXPECT_EQ(reader.info().state, info.state);
  EXPECT_EQ(reader.info().config, info.config);
  EXPECT_EQ(reader.folder(), saved.folder);
}

TEST(RoundTrip, ReplicasAreWrittenOnceAndShared) {
  const TemporaryFolder scratch;
  std::vector<GlobalTensor> globals;
  for (int i = 0; i < 8; ++i) {
    const std::string name = "parameters/" + std::to_string(i);
    globals.push_back({name, random_bits({64, 1024}, DType::f32, name)});
  }
  const std::int64_t payload = 8 * 64 * 1024 * 4;
  std::atomic<std::int64_t> reported{0};
  run_ranks(4, [&](std::shared_ptr<Communicator> world) {  // dp2 x tp2
    std::vector<PromisedSlice> tensors;
    for (const GlobalTensor& global : globals) {
      tensors.push_back(shard_of(global, 0, 2, world->rank() % 2));
    }
    reported =
        save_checkpoint(scratch.path(), info_of(7, 2, 2), tensors, *world, {.keep = 1}).bytes;
  });
  const CheckpointReader reader(scratch.path() / "step_00000007");
  EXPECT_EQ(reader.bytes(), reported.load());
  EXPECT_GE(reader.bytes(), payload);
  EXPECT_LT(reader.bytes(), payload + payload / 10);
  for (int rank = 0; rank < 4; ++rank) {  // everybody writes a quarter
    const auto bytes =
        fs::file_size(reader.folder() / ("rank_0000" + std::to_string(rank) + ".h5"));
    EXPECT_LT(bytes, static_cast<std::uintmax_t>(payload / 4 + payload / 40)) << rank;
  }
  for (const GlobalTensor& global : globals) expect_reads(reader, whole_of(global));
}

TEST(RoundTrip, FilesAreHdf5WithTheTensorsUnderTheirNames) {
  const TemporaryFolder scratch;
  const auto tensors = model();
  const fs::path step = save_layout(scratch.path(), tensors, 2);
  const Hdf5File file = Hdf5File::open(step / "rank_00001.h5");
  EXPECT_EQ(file.text_attribute("/", "format"), "filigree-checkpoint");
  EXPECT_EQ(file.integer_attribute("/", "version"), 1);
  EXPECT_EQ(file.integer_attribute("/", "step"), 200);
  EXPECT_EQ(file.integer_attribute("/", "rank"), 1);
  EXPECT_EQ(file.integer_attribute("/", "world"), 2);
  const NamedTensor expected = layout(tensors, 2, 1)[0];
  const Hdf5Dataset dataset = file.dataset("parameters/embedding.weight");
  EXPECT_EQ(file.text_attribute("parameters/embedding.weight", "dtype"), "f32");
  EXPECT_TRUE(file.has_attribute("parameters/embedding.weight", "global_shape"));
  EXPECT_TRUE(file.has_attribute("parameters/embedding.weight", "offset"));
  ASSERT_EQ(dataset.bytes, expected.tensor.bytes());
  const Tensor values = poisoned(expected).tensor;
  PosixFile::open_for_reading(step / "rank_00001.h5")
      .read_at(dataset.file_offset, values.raw(), dataset.bytes);
  EXPECT_TRUE(same_bits(values, expected.tensor));
}

TEST(RoundTrip, RefusesATargetOfAnotherKind) {
  const TemporaryFolder scratch;
  const auto tensors = model();
  const CheckpointReader reader(save_layout(scratch.path(), tensors, 1));
  NamedTensor target = whole_of(tensors[0]);
  target.tensor = Tensor::empty({13, 6}, DType::f64);
  expect_mentions(user_error([&] { reader.read(target); }),
                  {"embedding.weight", "is f32 but f64 is wanted"});
  target.tensor = Tensor::empty({13, 8}, DType::f32);
  target.global_shape = {13, 8};
  expect_mentions(user_error([&] { reader.read(target); }),
                  {"embedding.weight", "configuration differs"});
  target.name = "parameters/embeding.weight";
  expect_mentions(user_error([&] { reader.read(target); }),
                  {"has no tensor 'parameters/embeding.weight'",
                   "the nearest is 'parameters/embedding.weight'"});
}

}  // namespace
}  // namespace filigree

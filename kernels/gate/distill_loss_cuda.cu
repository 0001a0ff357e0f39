// A warp for each row of the teacher. Limited by memory: both rows are read once from device
// memory.
#include "kernels/cuda/sums.hpp"
#include "kernels/gate/distill_loss.hpp"

namespace filigree {
namespace {

constexpr int kWarps = 8;  // of a block of threads

struct Lesson {
  GridView grid;
  const float* z_BHNM;
  const std::int32_t* groups_R;
  const float *teacher_BHRM, *weight_BHR;
  std::int64_t R, rows;
};

// One row; pointers start at the first candidate.
struct Row {
  std::int64_t index, count, z_offset;
  const float *p, *z;
  float weight;
};

__device__ bool load_row(const Lesson& lesson, Row& row) {
  row.index =
      static_cast<std::int64_t>(blockIdx.x) * kWarps + static_cast<int>(threadIdx.x) / kWarp;
  if (row.index >= lesson.rows) return false;
  const std::int64_t N = lesson.grid.groups(), M = lesson.grid.key_blocks();
  const std::int64_t bh = row.index / lesson.R, n = lesson.groups_R[row.index % lesson.R];
  const BlockRange candidates = group_blocks(lesson.grid, bh / lesson.grid.heads, n).candidates;
  row.count = candidates.size();
  row.z_offset = (bh * N + n) * M + candidates.begin;
  row.p = lesson.teacher_BHRM + row.index * M + candidates.begin;
  row.z = lesson.z_BHNM + row.z_offset;
  row.weight = lesson.weight_BHR[row.index];
  return true;
}

// p_hat[m] = exp(z[m] - largest) / sum. In f64: p_hat - p is the difference of close numbers, and
// sampled rows are few.
struct Softmax {
  float largest;
  double sum;

  __device__ double shifted(float z) const {
    return static_cast<double>(z) - static_cast<double>(largest);
  }
};

// In every lane of the warp; count > 0.
__device__ Softmax softmax_of(const Row& row) {
  const int lane = threadIdx.x % kWarp;
  Softmax softmax{-INFINITY, 0.0};
  for (std::int64_t m = lane; m < row.count; m += kWarp)
    softmax.largest = fmaxf(softmax.largest, row.z[m]);
  for (int distance = kWarp / 2; distance > 0; distance /= 2)
    softmax.largest =
        fmaxf(softmax.largest, __shfl_xor_sync(kWholeWarp, softmax.largest, distance));
  for (std::int64_t m = lane; m < row.count; m += kWarp)
    softmax.sum += exp(softmax.shifted(row.z[m]));
  softmax.sum = warp_sum(softmax.sum);
  return softmax;
}

__global__ void __launch_bounds__(kWarps* kWarp)
    divergence_kernel(Lesson lesson, float* divergence_BHR) {
  Row row;
  if (!load_row(lesson, row)) return;
  double sum = 0.0;
  if (row.weight != 0.0f && row.count > 0) {
    const Softmax softmax = softmax_of(row);
    const double log_sum = log(softmax.sum);
    for (std::int64_t m = threadIdx.x % kWarp; m < row.count; m += kWarp)
      if (row.p[m] > 0.0f) {
        const double p = static_cast<double>(row.p[m]);
        sum += p * (log(p) - (softmax.shifted(row.z[m]) - log_sum));
      }
  }
  sum = warp_sum(sum);
  if (threadIdx.x % kWarp == 0) divergence_BHR[row.index] = static_cast<float>(sum);
}

struct Weighted {
  __device__ double operator()(const float* weight, const float* value, std::int64_t i) const {
    return static_cast<double>(weight[i]) * static_cast<double>(value[i]);
  }
};
struct Weight {
  __device__ double operator()(const float* weight, const float*, std::int64_t i) const {
    return static_cast<double>(weight[i]);
  }
};

__global__ void mean_kernel(const double* sum, const double* weight, float* loss, float* total) {
  *loss = static_cast<float>(*weight > 0.0 ? *sum / *weight : 0.0);
  *total = static_cast<float>(*weight);
}

__global__ void __launch_bounds__(kWarps* kWarp)
    gradient_kernel(Lesson lesson, const float* dloss, const float* total, float* dz_BHNM) {
  Row row;
  if (!load_row(lesson, row) || !(*total > 0.0f) || row.weight == 0.0f || row.count == 0) return;
  const Softmax softmax = softmax_of(row);
  const double scale =
      static_cast<double>(*dloss) * static_cast<double>(row.weight) / static_cast<double>(*total);
  float* const dz = dz_BHNM + row.z_offset;
  for (std::int64_t m = threadIdx.x % kWarp; m < row.count; m += kWarp) {
    const double excess =
        exp(softmax.shifted(row.z[m])) / softmax.sum - static_cast<double>(row.p[m]);
    dz[m] += static_cast<float>(scale * excess);
  }
}

template <class Arguments>
Lesson lesson_of(const Arguments& a) {
  return {.grid = a.grid.view(),
          .z_BHNM = device_data<float>(a.z_BHNM),
          .groups_R = device_data<std::int32_t>(a.groups_R),
          .teacher_BHRM = device_data<float>(a.teacher_BHRM),
          .weight_BHR = device_data<float>(a.weight_BHR),
          .R = a.groups_R.numel(),
          .rows = a.weight_BHR.numel()};
}

LaunchShape shape_of(const Lesson& lesson) {
  return {blocks_for(lesson.rows, kWarps), kWarps * kWarp};
}

}  // namespace

void DistillLoss::cuda(const Arguments& a, ExecutionContext& context) {
  const Lesson lesson = lesson_of(a);
  const Tensor divergences = context.empty({lesson.rows}, DType::f32);
  const Tensor sum = context.empty({}, DType::f64), weight = context.empty({}, DType::f64);
  float* const divergence = device_data<float>(divergences);
  launch(context, shape_of(lesson), divergence_kernel, lesson, divergence);
  sum_elements(context, lesson.weight_BHR, static_cast<const float*>(divergence), lesson.rows, sum,
               false, Weighted{});
  sum_elements(context, lesson.weight_BHR, lesson.weight_BHR, lesson.rows, weight, false, Weight{});
  launch(context, {1, 1}, mean_kernel, device_data<double>(sum), device_data<double>(weight),
         device_data<float>(a.loss), device_data<float>(a.total));
}

void DistillLossGradient::cuda(const Arguments& a, ExecutionContext& context) {
  const Lesson lesson = lesson_of(a);
  if (!a.accumulate) context.zero(a.dz_BHNM);
  launch(context, shape_of(lesson), gradient_kernel, lesson, device_data<float>(a.dloss),
         device_data<float>(a.total), device_data<float>(a.dz_BHNM));
}

}  // namespace filigree

#include "parallel/communicator.hpp"

#include <chrono>

namespace filigree {
namespace {

class Stopwatch {
 public:
  explicit Stopwatch(double& seconds) : seconds_(seconds), start_(Clock::now()) {}
  ~Stopwatch() { seconds_ += std::chrono::duration<double>(Clock::now() - start_).count(); }
  Stopwatch(const Stopwatch&) = delete;
  Stopwatch& operator=(const Stopwatch&) = delete;

 private:
  using Clock = std::chrono::steady_clock;
  double& seconds_;
  Clock::time_point start_;
};

std::string text_of(const Device& device) {
  return device.kind == DeviceKind::cpu ? "the host" : str("GPU ", device.index);
}

void check_together(const char* operation, const Tensor& a, const Tensor& b) {
  FILIGREE_CHECK(a.device() == b.device(), operation, " between ", text_of(a.device()), " and ",
                 text_of(b.device()));
}

void check_reducible(const char* operation, const Tensor& tensor) {
  switch (tensor.dtype()) {
    case DType::f64:
    case DType::f32:
    case DType::bf16:
    case DType::i64:
    case DType::i32:
      return;
    default:
      FILIGREE_CHECK(false, operation, " cannot reduce ", name_of(tensor.dtype()));
  }
}

}  // namespace

const char* name_of(ReduceOp op) {
  switch (op) {
    case ReduceOp::sum:
      return "sum";
    case ReduceOp::max:
      return "max";
    case ReduceOp::min:
      break;
  }
  return "min";
}

std::string CollectiveCall::signature() const {
  std::string text = operation;
  if (reduce) text += str('(', name_of(*reduce), ')');
  if (dtype) text += str(" of ", bytes, " bytes ", name_of(*dtype));
  return text;
}

Communicator::Communicator(int rank, int size, std::string name)
    : rank_(rank),
      size_(size),
      name_(std::move(name)),
      sent_(static_cast<std::size_t>(size)),
      received_(static_cast<std::size_t>(size)) {}

template <class Function>
auto Communicator::timed(const Call& call, Function&& function) {
  ++statistics_.calls;
  statistics_.bytes += call.bytes;
  const Stopwatch stopwatch(statistics_.seconds);
  return function();
}

Communicator::Call Communicator::next_call(const char* operation) {
  Call call;
  call.operation = operation;
  call.sequence = ++sequence_;
  return call;
}

Communicator::Call Communicator::next_call(const char* operation, const Tensor& tensor) {
  check_reached(operation, tensor);
  Call call = next_call(operation);
  call.bytes = tensor.bytes();
  call.dtype = tensor.dtype();
  return call;
}

Communicator::Call Communicator::next_pair_call(const char* operation, const Tensor& tensor,
                                                int peer, std::vector<std::int64_t>& sequences) {
  check_reached(operation, tensor);
  FILIGREE_CHECK(peer >= 0 && peer < size_ && peer != rank_, operation, " on ", name_, ": rank ",
                 rank_, " of ", size_, " names rank ", peer, " as its peer");
  Call call;
  call.operation = operation;
  call.sequence = ++sequences[static_cast<std::size_t>(peer)];
  call.bytes = tensor.bytes();
  call.dtype = tensor.dtype();
  call.peer = peer;
  call.is_pair = true;
  return call;
}

void Communicator::check_parts(const char* operation, const Tensor& whole,
                               const Tensor& part) const {
  FILIGREE_CHECK(whole.dtype() == part.dtype(), operation, " between ", name_of(whole.dtype()),
                 " and ", name_of(part.dtype()));
  check_together(operation, whole, part);
  FILIGREE_CHECK_EQ(whole.numel(), part.numel() * size_, operation, " on ", name_, " of ", size_);
}

void Communicator::check_reached(const char* operation, const Tensor& tensor) const {
  FILIGREE_CHECK(reaches(tensor.device()), operation, " on ", name_, ": the tensor is on ",
                 text_of(tensor.device()), ", which this communicator does not reach");
}

void Communicator::barrier() {
  const Call call = next_call("barrier");
  timed(call, [&] { do_barrier(call); });
}

void Communicator::all_reduce(const Tensor& tensor, ReduceOp op) {
  check_reducible("all_reduce", tensor);
  Call call = next_call("all_reduce", tensor);
  call.reduce = op;
  timed(call, [&] { do_all_reduce(call, tensor); });
}

void Communicator::all_gather(const Tensor& in, const Tensor& out) {
  check_parts("all_gather", out, in);
  const Call call = next_call("all_gather", in);
  timed(call, [&] { do_all_gather(call, in, out); });
}

void Communicator::reduce_scatter(const Tensor& in, const Tensor& out) {
  check_reducible("reduce_scatter", in);
  check_parts("reduce_scatter", in, out);
  Call call = next_call("reduce_scatter", in);
  call.reduce = ReduceOp::sum;
  timed(call, [&] { do_reduce_scatter(call, in, out); });
}

void Communicator::all_to_all(const Tensor& in, const Tensor& out) {
  FILIGREE_CHECK(in.dtype() == out.dtype(), "all_to_all between ", name_of(in.dtype()), " and ",
                 name_of(out.dtype()));
  check_together("all_to_all", in, out);
  FILIGREE_CHECK_EQ(in.numel(), out.numel(), "all_to_all on ", name_);
  FILIGREE_CHECK(in.numel() % size_ == 0, "all_to_all of ", in.numel(), " elements over ", size_,
                 " ranks");
  const Call call = next_call("all_to_all", in);
  timed(call, [&] { do_all_to_all(call, in, out); });
}

void Communicator::broadcast(const Tensor& tensor, int root) {
  FILIGREE_CHECK(root >= 0 && root < size_, "broadcast on ", name_, " of ", size_, " from rank ",
                 root);
  Call call = next_call("broadcast", tensor);
  call.peer = root;
  timed(call, [&] { do_broadcast(call, tensor); });
}

void Communicator::send(const Tensor& tensor, int peer) {
  const Call call = next_pair_call("send", tensor, peer, sent_);
  timed(call, [&] { do_send(call, tensor); });
}

void Communicator::receive(const Tensor& tensor, int peer) {
  const Call call = next_pair_call("receive", tensor, peer, received_);
  timed(call, [&] { do_receive(call, tensor); });
}

Pending Communicator::start_all_reduce(const Tensor& tensor, ReduceOp op) {
  check_reducible("all_reduce", tensor);
  Call call = next_call("all_reduce", tensor);
  call.reduce = op;
  auto wait = timed(call, [&] { return do_start_all_reduce(call, tensor); });
  return Pending([this, wait = std::move(wait)] {
    const Stopwatch stopwatch(statistics_.seconds);
    wait();
  });
}

void Communicator::watch_launched(const char* name) { do_watch_launched(next_call(name)); }

std::unique_ptr<Communicator> Communicator::split(int color, int key, const std::string& name) {
  const Call call = next_call("split");
  return timed(call, [&] { return do_split(call, color, key, name); });
}

}  // namespace filigree

#include "parallel/nccl_communicator.hpp"

#include "parallel/nccl_gpus.hpp"
#include "parallel/nccl_group.hpp"

namespace filigree {
namespace {

// What has no name in NCCL and is only moved goes as another type of its width.
ncclDataType_t nccl_type(DType dtype) {
  switch (dtype) {
    case DType::f64:
      return ncclFloat64;
    case DType::f32:
      return ncclFloat32;
    case DType::bf16:
      return ncclBfloat16;
    case DType::f16:
    case DType::u16:
      return ncclFloat16;
    case DType::i64:
      return ncclInt64;
    case DType::i32:
      return ncclInt32;
    case DType::u8:
      break;
  }
  return ncclUint8;
}

ncclRedOp_t nccl_op(ReduceOp op) {
  switch (op) {
    case ReduceOp::sum:
      return ncclSum;
    case ReduceOp::max:
      return ncclMax;
    case ReduceOp::min:
      break;
  }
  return ncclMin;
}

std::size_t count_of(const Tensor& tensor) { return static_cast<std::size_t>(tensor.numel()); }

bool on_host(const Tensor& tensor) { return tensor.device().kind == DeviceKind::cpu; }

class NcclCommunicator final : public Communicator {
 public:
  NcclCommunicator(std::shared_ptr<NcclWorld> world, std::shared_ptr<Communicator> host)
      : Communicator(host->rank(), host->size(), host->name()),
        host_(std::move(host)),
        group_(std::move(world), *host_) {}

  bool reaches(const Device& device) const override {
    return host_->reaches(device) || device == world().compute().device();
  }
  void abort(const std::string& reason) noexcept override;
  void throw_if_aborted() const override { world().throw_if_failed(); }

 protected:
  void do_barrier(const Call&) override { host().barrier(); }
  void do_all_reduce(const Call& call, const Tensor& tensor) override {
    if (on_host(tensor)) return host().all_reduce(tensor, *call.reduce);
    join(*enqueue_all_reduce(call, tensor));
  }
  void do_all_gather(const Call& call, const Tensor& in, const Tensor& out) override;
  void do_reduce_scatter(const Call& call, const Tensor& in, const Tensor& out) override;
  void do_all_to_all(const Call& call, const Tensor& in, const Tensor& out) override;
  void do_broadcast(const Call& call, const Tensor& tensor) override;
  void do_send(const Call& call, const Tensor& tensor) override;
  void do_receive(const Call& call, const Tensor& tensor) override;
  std::function<void()> do_start_all_reduce(const Call& call, const Tensor& tensor) override;
  void do_watch_launched(const Call& call) override { group_.watch_launched(call); }
  std::unique_ptr<Communicator> do_split(const Call& call, int color, int key,
                                         const std::string& name) override;

 private:
  NcclWorld& world() const { return group_.world(); }
  // Its operations end with NCCL's, whether they need it or not.
  Communicator& host() const {
    world().throw_if_failed();
    return *host_;
  }
  std::shared_ptr<const CudaEvent> enqueue_all_reduce(const Call& call, const Tensor& tensor);
  void run(const Call& call, const NcclGroup::Body& body) { join(*group_.enqueue(call, body)); }
  // Later work of the context runs after the event. Its memory is free to be used again by that.
  void join(const CudaEvent& done) const { done.wait(world().compute()); }

  std::shared_ptr<Communicator> host_;
  NcclGroup group_;
};

void NcclCommunicator::abort(const std::string& reason) noexcept {
  world().fail(
      std::make_exception_ptr(PeerFailed(str(world().who(), " failed: ", reason), world().rank())));
  host_->abort(reason);
}

std::shared_ptr<const CudaEvent> NcclCommunicator::enqueue_all_reduce(const Call& call,
                                                                      const Tensor& tensor) {
  return group_.enqueue(call, [&](ncclComm_t comm, cudaStream_t stream) {
    return ncclAllReduce(tensor.raw(), tensor.raw(), count_of(tensor), nccl_type(tensor.dtype()),
                         nccl_op(*call.reduce), comm, stream);
  });
}

void NcclCommunicator::do_all_gather(const Call& call, const Tensor& in, const Tensor& out) {
  if (on_host(in)) return host().all_gather(in, out);
  run(call, [&](ncclComm_t comm, cudaStream_t stream) {
    return ncclAllGather(in.raw(), out.raw(), count_of(in), nccl_type(in.dtype()), comm, stream);
  });
}

void NcclCommunicator::do_reduce_scatter(const Call& call, const Tensor& in, const Tensor& out) {
  if (on_host(in)) return host().reduce_scatter(in, out);
  run(call, [&](ncclComm_t comm, cudaStream_t stream) {
    return ncclReduceScatter(in.raw(), out.raw(), count_of(out), nccl_type(in.dtype()), ncclSum,
                             comm, stream);
  });
}

void NcclCommunicator::do_all_to_all(const Call& call, const Tensor& in, const Tensor& out) {
  if (on_host(in)) return host().all_to_all(in, out);
  const std::int64_t part = in.numel() / size();
  run(call, [&](ncclComm_t comm, cudaStream_t stream) {
    ncclGroupStart();
    for (int peer = 0; peer < size(); ++peer) {
      const Tensor from = in.flat(peer * part, {part}), to = out.flat(peer * part, {part});
      ncclSend(from.raw(), count_of(from), nccl_type(in.dtype()), peer, comm, stream);
      ncclRecv(to.raw(), count_of(to), nccl_type(in.dtype()), peer, comm, stream);
    }
    return ncclGroupEnd();  // an error of the calls in between too
  });
}

void NcclCommunicator::do_broadcast(const Call& call, const Tensor& tensor) {
  if (on_host(tensor)) return host().broadcast(tensor, call.peer);
  run(call, [&](ncclComm_t comm, cudaStream_t stream) {
    return ncclBroadcast(tensor.raw(), tensor.raw(), count_of(tensor), nccl_type(tensor.dtype()),
                         call.peer, comm, stream);
  });
}

void NcclCommunicator::do_send(const Call& call, const Tensor& tensor) {
  if (on_host(tensor)) return host().send(tensor, call.peer);
  run(call, [&](ncclComm_t comm, cudaStream_t stream) {
    return ncclSend(tensor.raw(), count_of(tensor), nccl_type(tensor.dtype()), call.peer, comm,
                    stream);
  });
}

void NcclCommunicator::do_receive(const Call& call, const Tensor& tensor) {
  if (on_host(tensor)) return host().receive(tensor, call.peer);
  run(call, [&](ncclComm_t comm, cudaStream_t stream) {
    return ncclRecv(tensor.raw(), count_of(tensor), nccl_type(tensor.dtype()), call.peer, comm,
                    stream);
  });
}

std::function<void()> NcclCommunicator::do_start_all_reduce(const Call& call,
                                                            const Tensor& tensor) {
  if (on_host(tensor)) {
    auto pending = std::make_shared<Pending>(host().start_all_reduce(tensor, *call.reduce));
    return [pending] { pending->wait(); };
  }
  return [this, done = enqueue_all_reduce(call, tensor), tensor] { join(*done); };
}

std::unique_ptr<Communicator> NcclCommunicator::do_split(const Call&, int color, int key,
                                                         const std::string& name) {
  std::shared_ptr<Communicator> part = host().split(color, key, name);
  if (part->size() == 1) return self_communicator(name);
  return std::make_unique<NcclCommunicator>(group_.shared_world(), std::move(part));
}

}  // namespace

std::shared_ptr<Communicator> nccl_communicator(std::shared_ptr<Communicator> host,
                                                const ExecutionContext& context,
                                                std::chrono::milliseconds timeout) {
  FILIGREE_CHECK(context.device.kind == DeviceKind::cuda, "NCCL without a GPU");
  if (host->size() == 1) return self_communicator(host->name());
  check_one_rank_per_gpu(*host, context.device.index);
  auto world = std::make_shared<NcclWorld>(host, context.stream, timeout);
  return std::make_shared<NcclCommunicator>(std::move(world), std::move(host));
}

}  // namespace filigree

// Streams and events.
#include "tests/harness/simt/engine/api.hpp"
#include "tests/harness/simt/engine/operations.hpp"

using simt::Call;
using simt::result;

namespace {

// To wait for a stream that is being captured, or to ask how far it is, ends the capture.
bool spoils_capture(CUstream_st& stream) {
  if (stream.capture == nullptr) return false;
  stream.capture->invalid = true;
  return true;
}

}  // namespace

cudaError_t cudaStreamCreateWithPriority(cudaStream_t* stream, unsigned flags, int) {
  Call call;
  *stream = call.machine.add_stream(call.device, (flags & cudaStreamNonBlocking) == 0);
  return cudaSuccess;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags) {
  return cudaStreamCreateWithPriority(stream, flags, 0);
}

cudaError_t cudaStreamCreate(cudaStream_t* stream) {
  return cudaStreamCreateWithFlags(stream, cudaStreamDefault);
}

cudaError_t cudaDeviceGetStreamPriorityRange(int* least, int* greatest) {
  *least = 0;
  *greatest = -5;
  return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  Call call;
  if (!call.machine.knows(stream)) return result(cudaErrorInvalidResourceHandle);
  call.machine.remove_stream(stream);
  return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  Call call;
  CUstream_st& target = call.machine.stream(stream, "cudaStreamSynchronize");
  if (spoils_capture(target)) return result(cudaErrorStreamCaptureUnsupported);
  call.machine.drain(call.lock, target.device, [&] { return target.queue.empty(); });
  if (!call.machine.usable(target.device)) return result(cudaErrorLaunchFailure);
  call.machine.host_knows(target.device, target.known);
  return cudaSuccess;
}

// A question moves things on a little, so that loops which ask until the answer is yes come to an
// end.
cudaError_t cudaStreamQuery(cudaStream_t stream) {
  Call call;
  CUstream_st& target = call.machine.stream(stream, "cudaStreamQuery");
  if (spoils_capture(target)) return result(cudaErrorStreamCaptureUnsupported);
  call.machine.drain_once(target.device);
  if (!call.machine.usable(target.device)) return result(cudaErrorLaunchFailure);
  if (!target.queue.empty()) return cudaErrorNotReady;
  call.machine.host_knows(target.device, target.known);
  return cudaSuccess;
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  Call call;
  CUstream_st& target = call.machine.stream(stream, "cudaStreamWaitEvent");
  if (!call.machine.usable(target.device)) return result(cudaErrorLaunchFailure);
  if (event == nullptr) return result(cudaErrorInvalidResourceHandle);
  if (event->captured) {
    const std::shared_ptr<simt::Capture> capture = event->capture.lock();
    if (capture == nullptr) return result(cudaErrorCapturedEvent);
    if (target.capture != nullptr && target.capture != capture) {
      return result(cudaErrorStreamCaptureMerge);
    }
    target.capture = capture;  // the stream joins the capture
    auto& tail = target.capture_tail;
    tail.insert(tail.end(), event->capture_tail.begin(), event->capture_tail.end());
    return cudaSuccess;
  }
  if (event->record == nullptr) return cudaSuccess;  // never recorded: nothing to wait for
  if (spoils_capture(target)) return result(cudaErrorStreamCaptureIsolation);
  target.known.join(event->record->clock);
  if (!event->record->done) {
    call.machine.enqueue(target, std::make_shared<simt::WaitOperation>(event->record));
  }
  return cudaSuccess;
}

cudaError_t cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t function, void* data) {
  Call call;
  if (!call.usable()) return result(cudaErrorLaunchFailure);
  CUstream_st& target = call.machine.stream(stream, "cudaLaunchHostFunc");
  call.machine.enqueue(target, std::make_shared<simt::Step>(
                                   "host function", [=](simt::Machine&, int) { function(data); }));
  return cudaSuccess;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned flags) {
  *event = new CUevent_st();
  (*event)->timed = (flags & cudaEventDisableTiming) == 0;
  return cudaSuccess;
}

cudaError_t cudaEventCreate(cudaEvent_t* event) {
  return cudaEventCreateWithFlags(event, cudaEventDefault);
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
  if (event == nullptr) return result(cudaErrorInvalidResourceHandle);
  Call call;
  delete event;
  return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  Call call;
  CUstream_st& target = call.machine.stream(stream, "cudaEventRecord");
  if (!call.machine.usable(target.device)) return result(cudaErrorLaunchFailure);
  if (event == nullptr) return result(cudaErrorInvalidResourceHandle);
  event->captured = target.capture != nullptr;
  event->capture = target.capture;
  event->capture_tail = target.capture_tail;
  if (target.capture != nullptr) return cudaSuccess;
  event->record = std::make_shared<simt::EventRecord>();
  event->record->device = target.device;
  call.machine.enqueue(target, std::make_shared<simt::RecordOperation>(event->record));
  event->record->clock = target.known;
  return cudaSuccess;
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  Call call;
  if (event == nullptr) return result(cudaErrorInvalidResourceHandle);
  if (event->captured) return result(cudaErrorCapturedEvent);
  const std::shared_ptr<simt::EventRecord> record = event->record;
  if (record == nullptr) return cudaSuccess;
  call.machine.drain(call.lock, call.device, [&] { return record->done; });
  if (!call.usable()) return result(cudaErrorLaunchFailure);
  call.machine.host_knows(call.device, record->clock);
  return cudaSuccess;
}

cudaError_t cudaEventQuery(cudaEvent_t event) {
  Call call(simt::Caller::asks);
  if (event == nullptr) return result(cudaErrorInvalidResourceHandle);
  if (call.device != event->device) {
    throw simt::Fault("cudaEventQuery of an event of device " + std::to_string(event->device) +
                      " makes a context on device " + std::to_string(call.device) +
                      ", the current one of the thread");
  }
  if (event->captured) return result(cudaErrorCapturedEvent);
  const std::shared_ptr<simt::EventRecord> record = event->record;
  if (record == nullptr) return cudaSuccess;
  call.machine.drain_once(record->device);
  if (!call.machine.usable(record->device)) return result(cudaErrorLaunchFailure);
  if (!record->done) return cudaErrorNotReady;
  call.machine.host_knows(record->device, record->clock);
  return cudaSuccess;
}

cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t begin, cudaEvent_t end) {
  Call call;
  if (begin == nullptr || end == nullptr || !begin->timed || !end->timed ||
      begin->record == nullptr || end->record == nullptr) {
    return result(cudaErrorInvalidResourceHandle);
  }
  if (!begin->record->done || !end->record->done) return cudaErrorNotReady;
  *milliseconds = static_cast<float>(end->record->milliseconds - begin->record->milliseconds);
  return cudaSuccess;
}

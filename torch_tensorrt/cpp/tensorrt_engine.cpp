// A TensorRT plan as an engine: run on the caller's CUDA stream, by any number of threads. Written against the documentation of
// TensorRT 10's C++ API; docs/cpp-runtime.md says what of it has been run.
#include "tensorrt_engine.h"

#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/ops/empty.h>
#include <NvInfer.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <cuda_runtime_api.h>

#include <mutex>
#include <set>
#include <string_view>

#include "errors.h"
#include "input_check.h"

namespace torchtrt {
namespace {

// Keeps the SDK's last complaint, to be quoted in an error.
class Words final : public nvinfer1::ILogger {
 public:
  void log(Severity severity, const char* message) noexcept override {
    if (severity <= Severity::kWARNING) {
      const std::lock_guard<std::mutex> lock(mutex_);
      last_ = message;
    }
  }
  std::string last() {
    const std::lock_guard<std::mutex> lock(mutex_);
    return last_.empty() ? "the SDK gave no reason" : last_;
  }

 private:
  std::mutex mutex_;
  std::string last_;
};

struct Plan {
  const uint8_t* data;
  size_t bytes;
  bool host_code = false; // it holds code for the CPU
  int64_t dla_core = -1;
};

// The plan in an engine's payload, and what stands before it where it needs any: "TRTPLAN+", length, JSON, zeros, plan.
Plan plan_in(const DecodedEngine& decoded, const std::string& name) {
  constexpr std::string_view kMagic = "TRTPLAN+";
  constexpr size_t kPrefix = 12, kAlignment = 64;
  const std::string_view bytes(reinterpret_cast<const char*>(decoded.payload), decoded.payload_bytes);
  if (bytes.substr(0, kMagic.size()) != kMagic) {
    return {decoded.payload, decoded.payload_bytes};
  }
  size_t length = 0;
  for (size_t at = kPrefix; at > kMagic.size() && bytes.size() >= kPrefix; --at) { // little-endian
    length = length << 8 | decoded.payload[at - 1];
  }
  const size_t start = (kPrefix + length + kAlignment - 1) / kAlignment * kAlignment;
  if (bytes.size() < kPrefix || start > bytes.size()) {
    fail<FileFormatError>("The facts beside the plan of engine '", name, "' were cut off.");
  }
  const std::string what = "What stands beside the plan of engine '" + name + "'";
  const Json facts = parse_json(bytes.substr(kPrefix, length), what);
  const Json::Object& fields =
      object_with(facts, {"weights", "refittable", "stripped", "identical", "host_code", "dla_core"}, what);
  const bool* stripped = fields.at("stripped").boolean();
  const bool* host_code = fields.at("host_code").boolean();
  if (stripped == nullptr || host_code == nullptr) {
    fail<FileFormatError>(what, " has a field of another kind.");
  }
  if (*stripped) {
    fail<EngineNotRunnable>("Engine '", name, "' has no weights yet; refit it in Python and save it again.");
  }
  return {decoded.payload + start, bytes.size() - start, *host_code, integer_of(fields.at("dla_core"), what)};
}

// An execution context. One run at a time: `done` is when its last run is over on the GPU.
struct Slot {
  std::unique_ptr<nvinfer1::IExecutionContext> context;
  cudaEvent_t done = nullptr;

  Slot() = default;
  Slot(const Slot&) = delete;
  Slot& operator=(const Slot&) = delete;
  ~Slot() {
    if (done != nullptr) {
      cudaEventSynchronize(done);
      cudaEventDestroy(done);
    }
  }
};

class TensorRTEngine final : public Engine {
 public:
  TensorRTEngine(DecodedEngine decoded, c10::Storage storage)
      : Engine(std::move(decoded.spec)), storage_(std::move(storage)) {
    const Plan plan = plan_in(decoded, spec_.name);
    runtime_.reset(nvinfer1::createInferRuntime(words_));
    if (runtime_ && plan.host_code) {
      runtime_->setEngineHostCodeAllowed(true);
    }
    if (runtime_ && plan.dla_core >= 0) {
      runtime_->setDLACore(static_cast<int32_t>(plan.dla_core));
    }
    engine_.reset(runtime_ ? runtime_->deserializeCudaEngine(plan.data, plan.bytes) : nullptr);
    if (!engine_) {
      fail<EngineNotRunnable>(
          "Engine '", spec_.name, "', built for ", spec_.target, ", can't be read on this machine: ", words_.last(),
          ". Compile and save the model again here.");
    }
    if (engine_->getNbOptimizationProfiles() > 1) {
      fail<EngineNotRunnable>("Engine '", spec_.name, "' has several profiles, among which only the Python runtime chooses.");
    }
    output_names_ = output_names();
    for (const TensorSpec& input : spec_.inputs) {
      check_name(input.name, nvinfer1::TensorIOMode::kINPUT);
    }
    for (const std::string& name : output_names_) {
      check_name(name, nvinfer1::TensorIOMode::kOUTPUT);
    }
  }

  Tensors run(c10::ArrayRef<at::Tensor> inputs) override {
    check_inputs(spec_, inputs);
    const Values values = check_agreement(spec_, inputs);
    at::AutoDispatchBelowADInplaceOrView guard;
    at::Device device(at::kCUDA, c10::cuda::current_device());
    for (const at::Tensor& tensor : inputs) {
      device = tensor.is_cuda() ? tensor.device() : device;
    }
    const c10::cuda::CUDAGuard on_device(device);
    const auto stream = c10::cuda::getCurrentCUDAStream(device.index());
    cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
    C10_CUDA_CHECK(cudaStreamIsCapturing(stream.stream(), &status));
    const bool captured = status != cudaStreamCaptureStatusNone;
    std::unique_ptr<Slot> slot = take(stream, captured);
    Tensors fed, outputs;
    for (size_t at = 0; at < inputs.size(); ++at) {
      fed.push_back(inputs[at].resolve_neg().to(device, /*non_blocking=*/true).contiguous());
      tell_shape(*slot, spec_.inputs[at].name, fed.back());
      const char* name = spec_.inputs[at].name.c_str();
      refuse_unless(slot->context->setInputTensorAddress(name, fed.back().const_data_ptr()), name);
    }
    for (size_t at = 0; at < spec_.outputs.size(); ++at) {
      const TensorSpec& output = spec_.outputs[at];
      outputs.push_back(at::empty(output.sizes(values), at::TensorOptions().dtype(output.dtype).device(device)));
      const char* name = output_names_[at].c_str();
      refuse_unless(slot->context->setTensorAddress(name, outputs.back().mutable_data_ptr()), name);
    }
    if (!slot->context->enqueueV3(stream.stream())) {
      fail<EngineNotRunnable>("TensorRT could not run engine '", spec_.name, "': ", words_.last(), ".");
    }
    if (!captured) {
      C10_CUDA_CHECK(cudaEventRecord(slot->done, stream.stream()));
    }
    give_back(std::move(slot), captured);
    for (size_t at = 0; at < outputs.size(); ++at) {
      if (spec_.outputs[at].device == c10::kCPU) {
        outputs[at] = outputs[at].cpu();
      }
    }
    return outputs;
  }

 private:
  // Those of the spec, with "_" behind one that is taken: as the backend names them when it builds.
  std::vector<std::string> output_names() const {
    std::set<std::string> taken;
    for (const TensorSpec& input : spec_.inputs) {
      taken.insert(input.name);
    }
    std::vector<std::string> names;
    for (const TensorSpec& output : spec_.outputs) {
      std::string name = output.name;
      while (!taken.insert(name).second) {
        name += "_";
      }
      names.push_back(std::move(name));
    }
    return names;
  }

  void check_name(const std::string& name, nvinfer1::TensorIOMode mode) const {
    if (engine_->getTensorIOMode(name.c_str()) != mode) {
      fail<FileFormatError>("The plan in engine '", spec_.name, "' has no tensor '", name, "' as its description says.");
    }
  }

  void tell_shape(Slot& slot, const std::string& name, const at::Tensor& tensor) {
    nvinfer1::Dims dims{};
    if (tensor.dim() > nvinfer1::Dims::MAX_DIMS) {
      fail<InputError>("Engine '", spec_.name, "': input '", name, "' has more dimensions than TensorRT takes.");
    }
    dims.nbDims = static_cast<int32_t>(tensor.dim());
    for (int64_t dim = 0; dim < tensor.dim(); ++dim) {
      dims.d[dim] = tensor.size(dim);
    }
    if (!slot.context->setInputShape(name.c_str(), dims)) {
      fail<InputError>("Engine '", spec_.name, "': TensorRT refused the shape of input '", name, "': ", words_.last(), ".");
    }
  }

  void refuse_unless(bool taken, const char* name) {
    if (!taken) {
      fail<EngineNotRunnable>("TensorRT refused the memory of '", name, "' in engine '", spec_.name, "': ", words_.last(), ".");
    }
  }

  // A context whose last run `stream` waits for. While a graph is captured nothing can be waited for; whoever begins a capture
  // has let all runs end.
  std::unique_ptr<Slot> take(const c10::cuda::CUDAStream& stream, bool captured) {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      if (!free_.empty()) {
        std::unique_ptr<Slot> slot = std::move(free_.back());
        free_.pop_back();
        if (!captured) {
          C10_CUDA_CHECK(cudaStreamWaitEvent(stream.stream(), slot->done, 0));
        }
        return slot;
      }
    }
    auto slot = std::make_unique<Slot>();
    {
      const std::lock_guard<std::mutex> lock(mutex_); // an engine makes one context at a time
      slot->context.reset(engine_->createExecutionContext());
    }
    if (!slot->context) {
      fail<EngineNotRunnable>("TensorRT could not prepare engine '", spec_.name, "': ", words_.last(), ".");
    }
    C10_CUDA_CHECK(cudaEventCreateWithFlags(&slot->done, cudaEventDisableTiming));
    return slot;
  }

  // A graph runs in the memory of a captured context whenever it is replayed: no other run gets that.
  void give_back(std::unique_ptr<Slot> slot, bool captured) {
    const std::lock_guard<std::mutex> lock(mutex_);
    (captured ? captured_ : free_).push_back(std::move(slot));
  }

  c10::Storage storage_;
  Words words_;
  std::unique_ptr<nvinfer1::IRuntime> runtime_; // has to outlive the engine
  std::unique_ptr<nvinfer1::ICudaEngine> engine_;
  std::vector<std::string> output_names_;
  std::mutex mutex_;
  std::vector<std::unique_ptr<Slot>> free_;
  std::vector<std::unique_ptr<Slot>> captured_;
};

} // namespace

std::shared_ptr<Engine> open_tensorrt_engine(DecodedEngine decoded, c10::Storage storage) {
  return std::make_shared<TensorRTEngine>(std::move(decoded), std::move(storage));
}

} // namespace torchtrt

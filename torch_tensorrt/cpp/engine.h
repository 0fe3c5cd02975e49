// A live engine: tensors in, tensors out, safe to call from any number of threads.
#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "engine_spec.h"

namespace torchtrt {

using Tensors = std::vector<at::Tensor>;

class Engine {
 public:
  explicit Engine(EngineSpec spec) : spec_(std::move(spec)) {}
  virtual ~Engine() = default;
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  const EngineSpec& spec() const {
    return spec_;
  }

  // Fresh outputs, without autograd history. Throws InputError when an input is not what the engine was built for.
  virtual Tensors run(c10::ArrayRef<at::Tensor> inputs) = 0;

  // What the user should know about how the engine came back (it was compiled again); empty when nothing.
  const std::string& notice() const {
    return notice_;
  }

 protected:
  EngineSpec spec_;
  std::string notice_;
};

// The backends whose engines this build of the runtime runs, with the format of their payloads.
std::vector<std::pair<std::string, int64_t>> backends();

// Whether nothing but C++ code may see `tensor`: no subclass that takes over what happens to it.
bool is_plain(const at::Tensor& tensor);

// The engine in the bytes of `constant` (1-D, uint8, CPU), which it keeps alive; `graph_spec` and `verify` as in decode_engine.
// Throws FileFormatError, InputError or EngineNotRunnable.
std::shared_ptr<Engine> open_engine(
    const at::Tensor& constant, std::optional<std::string_view> graph_spec, bool verify = true);

// As open_engine, once for each constant: made on first use, dropped some time after the constant is gone.
std::shared_ptr<Engine> live_engine(const at::Tensor& constant, std::string_view graph_spec);

} // namespace torchtrt
